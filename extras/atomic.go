package extras

import (
	"sync/atomic"

	"github.com/mmapio/mmapio"
)

// Atomics is what has words that several goroutines and processes can use at once: see
// [mmapio.View.Uint32]. It is the Views of a file that have them, not the file itself.
type Atomics interface {
	Uint32(off int64) (*atomic.Uint32, error)
	Uint64(off int64) (*atomic.Uint64, error)
	Int32(off int64) (*atomic.Int32, error)
	Int64(off int64) (*atomic.Int64, error)
	Uint32s(off int64, n int) ([]atomic.Uint32, error)
	Uint64s(off int64, n int) ([]atomic.Uint64, error)
	Int32s(off int64, n int) ([]atomic.Int32, error)
	Int64s(off int64, n int) ([]atomic.Int64, error)
}

var _ Atomics = (*mmapio.View)(nil)

// Words returns the words of the n bytes at off of file, and what gives them back, which
// must be called when none of them is used any more. File is a [Viewer] or wraps one;
// otherwise the error is [errors.ErrUnsupported]. Offsets of words are counted from off.
func Words(file any, off, n int64) (words Atomics, release func(), err error) {
	v, err := View(file, off, n)
	if err != nil {
		return nil, nil, err
	}
	return v, v.Release, nil
}
