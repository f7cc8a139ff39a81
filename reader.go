package mmapio

import (
	"io"
	"os"
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
	return f.read(b)
}

// read is the true path of Read.
func (f *File) read(b []byte) (int, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	m := f.mapping.Load()
	if m != nil && f.offset.Load() == inKernel && f.fetch(file) {
		if off := f.offset.Load(); m.load(b, off) && f.offset.CompareAndSwap(off, off+int64(len(b))) {
			return len(b), nil
		}
	}
	if f.tail != nil {
		if err := f.settle(); err != nil {
			return 0, err
		}
	}
	if f.position.shared.Load() {
		return file.Read(b)
	}
	start, err := f.lend(file)
	if err != nil {
		return 0, err
	}
	n, err := file.Read(b)
	f.take(endOf(start, int64(n), err))
	if start != inKernel {
		f.sawRead(file, m, start, n, err)
	}
	return n, err
}

// endOf returns where an operation that began at start and moved n bytes left the
// offset of the descriptor.
func endOf(start, n int64, err error) int64 {
	if start == inKernel || err != nil && err != io.EOF {
		return inKernel
	}
	return start + n
}

// WriteTo writes the file from the position to its end to w and moves the
// position, as [os.File.WriteTo] does. [io.Copy] uses it.
//
// Where the kernel can move the bytes (to another file, a socket, a pipe, or a
// writer that passes its reader on to one of them), it does. Any other writer is
// handed the mapped bytes themselves, without a copy. Such a writer must not
// change or keep them, as [io.Writer] demands; should another process cut the
// file at that moment, WriteTo returns a [*fs.PathError] with a [*FaultError] in
// it, because nobody knows how far the writer came.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if err := f.settle(); err != nil {
		return 0, err
	}
	if !kernelCopies(w) {
		if n, err, done := f.handOver(file, w); done {
			return n, err
		}
	}
	start, err := f.lend(file)
	if err != nil {
		return 0, err
	}
	n, err := file.WriteTo(w)
	f.take(endOf(start, n, err))
	return n, err
}

// kernelCopies reports whether w can take part in a copy that the kernel makes.
func kernelCopies(w io.Writer) bool {
	switch w.(type) {
	case io.ReaderFrom, syscall.Conn:
		return true
	}
	return false
}

// handOver is WriteTo by handing the mapped bytes to w. It reports whether it did;
// if not, nothing was read or written.
func (f *File) handOver(file *os.File, w io.Writer) (n int64, err error, done bool) {
	return 0, nil, false
}
