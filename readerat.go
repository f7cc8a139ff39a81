package mmapio

import "io"

// ReadAt reads len(b) bytes from offset off, as [os.File.ReadAt] does. It returns
// the number of bytes read and an error when that is less than len(b): [io.EOF]
// at the end of the file, a [*fs.PathError] otherwise.
//
// ReadAt neither uses nor moves the position. Parallel calls do not slow each
// other down. While other goroutines or processes write the same bytes, the
// result may be a mixture of old and new ones. If another process made the file
// shorter, bytes between the new end and the end of its last page may still be
// read, as zeros, until this File is asked for the size or reads up to the end.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if f != nil {
		if m := f.mapping.Load(); m != nil && m.load(b, off) {
			return len(b), nil
		}
	}
	n, err := f.readAt(b, off)
	return n, f.named(err)
}

// readAt is the true path of ReadAt.
func (f *File) readAt(b []byte, off int64) (n int, err error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if f.private != nil {
		return f.readAtPrivate(file, b, off)
	}
	g := glimpseOf(f.mapping.Load())
	f.count(g, max(off, 0), len(b))
	absent := g.absent(off)
	if f.tail != nil && f.mode != WriteOnly {
		n, err = f.tail.readAt(file, b, off)
	} else {
		n, err = file.ReadAt(b, off)
	}
	f.judge(g, off, n, absent)
	f.sawRead(file, g, off, n)
	if err == io.EOF {
		f.sawEnd(g, off+int64(n))
	}
	return n, err
}
