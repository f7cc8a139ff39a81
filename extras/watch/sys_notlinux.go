//go:build !linux

package watch

import (
	"io"
	"os"
)

// reader reads a file. What stays in memory is for the system to decide.
type reader struct{ file *os.File }

func newReader(file *os.File) *reader { return &reader{file} }

func (r *reader) read(b []byte, off int64) (int, error) {
	n, err := r.file.ReadAt(b, off)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

func (r *reader) isHole(off, n int64) bool { return false }
