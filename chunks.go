package mmapio

import (
	"io"
	"iter"
)

// Chunks are the pieces of a file, one after the other: see [File.Chunks]. One of them is for
// one loop at a time.
type Chunks struct {
	file *File
	size int
	err  error
}

// Chunks returns the file in pieces of size bytes, the last one shorter where the file
// ends, for a loop over [Chunks.All]. The pieces are the memory of the file itself; what
// is not in memory is read ahead of the loop by system calls. Size must be positive.
//
// A file that cannot have a [View] has no chunks: [Chunks.Err] says why.
func (f *File) Chunks(size int) *Chunks {
	return &Chunks{file: f, size: size}
}

// Pages is Chunks with [PageSize] as the size.
func (f *File) Pages() *Chunks { return f.Chunks(pageSize) }

// All yields every piece with its offset in the file. The bytes are valid during that
// round of the loop only, and not to be stored to: see [File.UpdateChunks]. The size of
// the file is taken when the loop begins.
//
// An error ends the loop, and Err returns it then. Should somebody cut the file while the
// body of the loop reads a piece, it faults; [Guard] around the loop makes that an error.
func (c *Chunks) All() iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		c.err = c.file.eachRegion("read", c.size, func(v *View) (more bool, err error) {
			b, off, size := v.data, v.off, c.size
			at, next := 0, size
			for next < len(b) {
				if !yield(off+int64(at), b[at:next:next]) {
					return false, nil
				}
				at, next = next, next+size
			}
			return yield(off+int64(at), b[at:]), nil
		})
	}
}

// Err returns the error that ended the last loop over All, or nil: a [*fs.PathError] as
// [File.View] returns it, with a [*RangeError] in it when the file was cut, or that of
// reading the file.
func (c *Chunks) Err() error { return c.err }

// UpdateChunks calls update with every piece of size bytes, the last one shorter where
// the file ends, and its offset. Update may store to the piece, which is the memory of
// the file itself, and must not keep it.
//
// An error of update ends the loop and is returned as it is. So are those of
// [File.View]; a file whose memory is read-only is [ErrReadOnly]. When the file is cut
// meanwhile, or its disk is full, the fault ends the loop with a [*FaultError].
func (f *File) UpdateChunks(size int, update func(off int64, chunk []byte) error) error {
	return f.eachRegion("write", size, func(v *View) (more bool, err error) {
		if !v.Writable() {
			return false, f.fail("write", ErrReadOnly)
		}
		if err := f.mayWrite(); err != nil {
			return false, err
		}
		if f.flusher != nil {
			f.flusher.lend()
			defer f.flusher.lent.Add(-1)
		}
		end := 0
		defer func() {
			f.sawStore()
			err = f.wrote(int64(end), err)
		}()
		return true, guard("write", func() error {
			for at := 0; at < len(v.data); at += size {
				end = min(at+size, len(v.data))
				if err := update(v.off+int64(at), v.data[at:end:end]); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// regionSize is how much of a file a loop over its pieces has in a View at once.
const regionSize = neighbourhood

// eachRegion calls do with Views of the whole file, one after the other, each as long as
// several pieces of that size and read in.
func (f *File) eachRegion(op string, piece int, do func(*View) (more bool, err error)) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	if piece <= 0 {
		return f.fail(op, &RangeError{Length: int64(piece)})
	}
	err = f.mappable()
	var size int64
	if err == nil {
		size, err = f.sizeToMap(file)
	}
	if err != nil {
		return f.fail(op, err)
	}
	v := new(View)
	step := int64(max(piece, regionSize/piece*piece))
	for off := int64(0); off < size; off += step {
		more, err := f.region(v, op, off, min(step, size-off), do)
		if !more || err != nil {
			return err
		}
	}
	return nil
}

// region calls do with v, which becomes the View of n bytes at off meanwhile.
func (f *File) region(v *View, op string, off, n int64, do func(*View) (more bool, err error)) (more bool, err error) {
	if f.private != nil && op == "read" {
		err = v.openPrivate(f, off, n, false)
	} else {
		_, err = v.open(f, off, n)
	}
	if err != nil {
		return false, err
	}
	defer v.Release()
	if err := f.bringIn(v.m, v.at(), n); err != nil {
		if err == io.EOF && f.private != nil {
			err = f.faultError(op, off)
		} else if err == io.EOF {
			size, _ := f.Size() // somebody has cut it
			err = f.fail(op, &RangeError{Offset: off, Length: n, Size: size})
		}
		return false, err
	}
	return do(v)
}
