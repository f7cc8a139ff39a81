package mmapio

import (
	"bytes"
	"io"
)

// TrailingZeros returns how many bytes at the end of the file are zero. A program that is
// killed while it has a file open with [WithPreallocate] leaves a tail of zeros behind what
// it has written. Whoever opens the file then learns where what was written ends at the
// latest, and cuts the tail off:
//
//	zeros, err := f.TrailingZeros()
//	...
//	size, err := f.Size()
//	...
//	err = f.Truncate(size - zeros)
//
// Nothing distinguishes zeros that were written from zeros that were allocated. A format
// whose last record may end in zeros tells by its own means, such as a length, how many of
// them belong to it. A file that was closed has no tail.
//
// The file is read from its end to the first byte that is not zero, and the position stays
// where it is. While others write, the result is that of some moment. What has no size,
// such as a pipe, has no zeros.
//
// The error is that of [File.Stat] or [File.ReadAt]: a [*fs.PathError], for example because
// the file is opened for writing only.
func (f *File) TrailingZeros() (int64, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	b := make([]byte, min(size, int64(len(zeros))))
	for end := size; end > 0; {
		from := max(end-int64(len(b)), 0)
		n, err := f.ReadAt(b[:end-from], from)
		if err == io.EOF {
			size = from + int64(n) // it has become shorter
		} else if err != nil {
			return 0, err
		}
		if written := trimZeros(b[:n]); written > 0 {
			return size - from - int64(written), nil
		}
		end = from
	}
	return size, nil
}

// trimZeros returns how many bytes come before the zeros at the end of b, which is no
// longer than zeros.
func trimZeros(b []byte) int {
	if bytes.Equal(b, zeros[:len(b)]) {
		return 0
	}
	return len(bytes.TrimRight(b, "\x00"))
}
