package mmapio

import (
	"io"
	"syscall"
)

// Read reads up to len(b) bytes from the position and moves it, as
// [os.File.Read] does. At the end of the file it returns 0, [io.EOF]; any other
// error is a [*fs.PathError]. Reads by several goroutines get different bytes.
func (f *File) Read(b []byte) (int, error) {
	if f != nil {
		if m := f.mapping.Load(); m != nil {
			for {
				off := f.offset.Load()
				if !m.load(b, off) {
					break
				}
				if f.offset.CompareAndSwap(off, off+int64(len(b))) {
					return len(b), nil
				}
			}
		}
	}
	n, err := f.read(b)
	return n, f.named(err)
}

// read is the true path of Read.
func (f *File) read(b []byte) (int, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if f.private != nil {
		return f.readPrivate(file, b)
	}
	m := f.mapping.Load()
	g := glimpseOf(m)
	if m != nil && f.offset.Load() == inKernel && f.fetch(file) {
		if off := f.offset.Load(); m.load(b, off) && f.offset.CompareAndSwap(off, off+int64(len(b))) {
			return len(b), nil
		}
	}
	if err := f.suspendTail(file); err != nil {
		return 0, err
	}
	defer f.resumeTail()
	start, by, err := f.borrow(file, true)
	if err != nil {
		return 0, err
	}
	f.count(g, start, len(b))
	absent := g.absent(start)
	n, err := file.Read(b)
	end := int64(inKernel)
	if start != inKernel && (err == nil || err == io.EOF) {
		end = start + int64(n)
	}
	strokes, sure := f.giveBack(by, end)
	if start == inKernel || !sure {
		return n, err
	}
	if g.mapping != nil {
		f.judge(g, start, n, absent)
		f.sawRead(file, g, start, n)
	} else if strokes > 0 && n > 0 {
		f.visit()
		f.missed(file, strokes)
	}
	if err == io.EOF {
		f.sawEnd(g, start)
	}
	return n, err
}

// WriteTo writes the file from the position to its end to w and moves the
// position, as [os.File.WriteTo] does. [io.Copy] uses it.
//
// Where the kernel can move the bytes (to another file, a socket, a pipe, or a
// writer that passes its reader on to one of them), it does. On Linux, a
// [hash.Hash] is handed the mapped bytes themselves, without a copy; should somebody
// cut the file while the hash reads them, WriteTo returns a [*fs.PathError] with a
// [*FaultError] in it, because nobody knows how far the hash came. Any other writer
// may read twice, or later, and is given copies, as os.File does.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	n, err := f.writeTo(w)
	return n, f.named(err)
}

func (f *File) writeTo(w io.Writer) (int64, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if f.private != nil {
		return f.writeToPrivate(w)
	}
	if err := f.suspendTail(file); err != nil {
		return 0, err
	}
	defer f.resumeTail()
	var n int64
	if readsOnce(w) && !kernelCopies(w) {
		if n, err = f.handOver(file, w); err != nil {
			return n, err
		}
	}
	if _, err := f.lend(file); err != nil {
		return n, err
	}
	defer f.take(inKernel) // what w counts need not be what it was given
	rest, err := file.WriteTo(w)
	return n + rest, err
}

// kernelCopies reports whether w can take part in a copy that the kernel makes.
func kernelCopies(w io.Writer) bool {
	switch w.(type) {
	case io.ReaderFrom, syscall.Conn:
		return true
	}
	return false
}
