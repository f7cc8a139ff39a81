package mmapio

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// Write writes b at the position and moves it, as [os.File.Write] does. It
// returns the number of bytes written and a [*fs.PathError] when that is not
// len(b). Writes by several goroutines do not overlap.
//
// The bytes are visible to every other handle and process when Write returns.
// They are on stable storage after Sync, Flush or what the [FlushPolicy] says.
func (f *File) Write(b []byte) (int, error) {
	if f != nil {
		if m := f.mapping.Load(); m != nil && m.direct.Load() {
			for {
				off := f.offset.Load()
				if !m.holds(off, len(b)) {
					break
				}
				if f.offset.CompareAndSwap(off, off+int64(len(b))) {
					n, err := f.writeClaimed(m, b, off)
					return n, f.named(err)
				}
			}
		}
	}
	n, err := f.write(b)
	return n, f.named(err)
}

// writeClaimed writes b at off, which the position has passed already.
func (f *File) writeClaimed(m *mapping, b []byte, off int64) (int, error) {
	if f.store(m, b, off) {
		return len(b), nil
	}
	if f.offset.CompareAndSwap(off+int64(len(b)), off) {
		return f.writeNow(b)
	}
	return f.writeAtNow(b, off) // somebody has moved the position on meanwhile
}

// write is what Write does unless the bytes only need to be copied.
func (f *File) write(b []byte) (int, error) {
	if f == nil || f.flusher == nil {
		return f.writeNow(b)
	}
	if err := f.mayWrite(); err != nil {
		return 0, err
	}
	n, err := f.writeNow(b)
	return n, f.wrote(int64(n), err)
}

// writeNow is write without the flush policy, and the true path of Write.
func (f *File) writeNow(b []byte) (int, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if f.private != nil {
		return f.writePrivate(file, b)
	}
	m := f.mapping.Load()
	if m != nil && (m.direct.Load() && f.offset.Load() == inKernel || f.flusher != nil && f.storesTo(m)) && f.fetch(file) {
		for {
			off := f.offset.Load()
			if !m.holds(off, len(b)) {
				break
			}
			if f.offset.CompareAndSwap(off, off+int64(len(b))) {
				return f.writeClaimed(m, b, off)
			}
		}
	}
	if f.tail != nil {
		return f.writeWithTail(file, b)
	}
	return f.writeThrough(file, b)
}

// writeThrough writes b by a system call.
func (f *File) writeThrough(file *os.File, b []byte) (int, error) {
	g := glimpseOf(f.mapping.Load())
	start, by, err := f.borrow(file, true)
	if err != nil {
		return 0, err
	}
	if f.flag&os.O_APPEND != 0 {
		start = inKernel
	}
	f.count(g, start, len(b))
	n, err := file.Write(b)
	if err != nil && n == 0 && errors.Is(err, syscall.EINVAL) {
		at, seekErr := file.Seek(0, io.SeekCurrent)
		if m, hugeErr, done := f.writeHuge(file, "write", b, at); done && seekErr == nil {
			n, err = m, hugeErr
			_, _ = file.Seek(at+int64(n), io.SeekStart)
		}
	}
	end := int64(inKernel)
	if start != inKernel && err == nil {
		end = start + int64(n)
	}
	strokes, sure := f.giveBack(by, end)
	if start == inKernel || !sure {
		return n, err
	}
	if g.mapping != nil {
		f.sawWrite(file, g, start, n)
	} else if strokes > 0 && n > 0 {
		f.missedByWrite(file, strokes)
	}
	return n, err
}

// WriteString is like Write with the bytes of s.
func (f *File) WriteString(s string) (int, error) {
	return f.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// WriteAt writes b at offset off, as [os.File.WriteAt] does. It returns the number
// of bytes written and a [*fs.PathError] when that is not len(b). On a file that
// was opened with [os.O_APPEND] it is an error.
//
// WriteAt neither uses nor moves the position. The bytes are visible to every
// other handle and process when WriteAt returns; they are on stable storage after
// Sync, Flush or what the [FlushPolicy] says. Parallel calls must not overlap, as
// [io.WriterAt] demands: where they do, the result may be a mixture, byte by byte. The
// modification time of the file follows within about a second, and at once at Stat, Sync
// and Close of this File.
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	if f != nil {
		if m := f.mapping.Load(); m != nil && m.direct.Load() && m.holds(off, len(b)) && f.store(m, b, off) {
			return len(b), nil
		}
	}
	n, err := f.writeAt(b, off)
	return n, f.named(err)
}

// writeAt is what WriteAt does unless the bytes only need to be copied.
func (f *File) writeAt(b []byte, off int64) (int, error) {
	if f == nil || f.flusher == nil {
		return f.writeAtNow(b, off)
	}
	if err := f.mayWrite(); err != nil {
		return 0, err
	}
	n, err := f.writeAtNow(b, off)
	return n, f.wrote(int64(n), err)
}

// writeAtNow is writeAt without the flush policy, and the true path of WriteAt.
func (f *File) writeAtNow(b []byte, off int64) (int, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if f.private != nil {
		return f.writeAtPrivate(b, off)
	}
	if f.flusher != nil {
		if m := f.mapping.Load(); m != nil && f.storesTo(m) && m.holds(off, len(b)) && f.store(m, b, off) {
			return len(b), nil
		}
	}
	if f.tail != nil {
		return f.writeAtWithTail(file, b, off)
	}
	return f.writeAtThrough(file, b, off)
}

// writeAtThrough writes b at off by a system call.
func (f *File) writeAtThrough(file *os.File, b []byte, off int64) (int, error) {
	g := glimpseOf(f.mapping.Load())
	f.count(g, max(off, 0), len(b))
	n, err := file.WriteAt(b, off)
	if err != nil && n == 0 && errors.Is(err, syscall.EINVAL) {
		if n, err, done := f.writeHuge(file, "write", b, off); done {
			return n, err
		}
	}
	f.sawWrite(file, g, off, n)
	return n, err
}

// ReadFrom writes what r yields at the position and moves it, as
// [os.File.ReadFrom] does. [io.Copy] uses it. Where the kernel can move the bytes
// (from another file, a socket, a pipe), it does.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	n, err := f.readFrom(r)
	return n, f.named(err)
}

func (f *File) readFrom(r io.Reader) (int64, error) {
	if f != nil && f.flusher != nil {
		return f.flusher.readFrom(r)
	}
	return f.readFromNow(r)
}

// readFromNow is readFrom without the flush policy.
func (f *File) readFromNow(r io.Reader) (int64, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if f.private != nil {
		return f.readFromPrivate(r)
	}
	if err := f.suspendTail(file); err != nil {
		return 0, err
	}
	defer f.resumeTail()
	if f.onHugetlbfs(file) {
		return io.Copy(writerNow{f}, r)
	}
	if _, err := f.lend(file); err != nil {
		return 0, err
	}
	g := glimpseOf(f.mapping.Load())
	defer func() {
		f.take(inKernel)
		if g.mapping != nil {
			f.lookForCut(file, g, 0)
		}
	}()
	return readFrom(file, r)
}

// writerNow writes to a File without the flush policy.
type writerNow struct{ file *File }

func (w writerNow) Write(b []byte) (int, error) { return w.file.writeNow(b) }

// readFrom is file.ReadFrom(r), with the os.File inside in place of every File.
func readFrom(file *os.File, r io.Reader) (int64, error) {
	switch r := r.(type) {
	case *File:
		return r.WriteTo(file)
	case *io.LimitedReader:
		source, ok := r.R.(*File)
		if !ok {
			break
		}
		inner, err := source.inner()
		if err != nil || r.N <= 0 || source.private != nil {
			break
		}
		if err := source.suspendTail(inner); err != nil {
			return 0, source.named(err)
		}
		defer source.resumeTail()
		if _, err := source.lend(inner); err != nil {
			return 0, source.named(err)
		}
		defer source.take(inKernel)
		limited := io.LimitedReader{R: inner, N: r.N}
		defer func() { r.N = limited.N }()
		n, err := file.ReadFrom(&limited)
		return n, source.named(err)
	}
	return file.ReadFrom(r)
}
