package extras

import (
	"math"
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
// must be called when none of them is used any more. File is a [Viewer] or [Atomics], as a
// View is, or wraps one; otherwise the error is [errors.ErrUnsupported]. Offsets of words are
// counted from off. Those of Atomics are valid as long as these are: giving them back does
// nothing to a View that the caller has. A range with a negative number in it is a
// [*mmapio.RangeError].
func Words(file any, off, n int64) (words Atomics, release func(), err error) {
	if _, ok := Find[Viewer](file); !ok {
		if whole, ok := Find[Atomics](file); ok {
			if off < 0 || n < 0 || off > math.MaxInt64-n {
				return nil, nil, &mmapio.RangeError{Offset: off, Length: n, Size: math.MaxInt64}
			}
			return part{whole, off, n}, func() {}, nil
		}
	}
	v, err := View(file, off, n)
	if err != nil {
		return nil, nil, err
	}
	return v, v.Release, nil
}

// part is the n bytes at off of others, which see to it that these are there.
type part struct {
	whole  Atomics
	off, n int64
}

func (p part) Uint32(off int64) (*atomic.Uint32, error) { return word(p, off, 4, p.whole.Uint32) }
func (p part) Uint64(off int64) (*atomic.Uint64, error) { return word(p, off, 8, p.whole.Uint64) }
func (p part) Int32(off int64) (*atomic.Int32, error)   { return word(p, off, 4, p.whole.Int32) }
func (p part) Int64(off int64) (*atomic.Int64, error)   { return word(p, off, 8, p.whole.Int64) }

func (p part) Uint32s(off int64, n int) ([]atomic.Uint32, error) {
	return wordsOf(p, off, n, 4, p.whole.Uint32s)
}

func (p part) Uint64s(off int64, n int) ([]atomic.Uint64, error) {
	return wordsOf(p, off, n, 8, p.whole.Uint64s)
}

func (p part) Int32s(off int64, n int) ([]atomic.Int32, error) {
	return wordsOf(p, off, n, 4, p.whole.Int32s)
}

func (p part) Int64s(off int64, n int) ([]atomic.Int64, error) {
	return wordsOf(p, off, n, 8, p.whole.Int64s)
}

func word[W any](p part, off, size int64, get func(off int64) (*W, error)) (*W, error) {
	if off < 0 || off > p.n-size {
		return nil, &mmapio.RangeError{Offset: off, Length: size, Size: p.n}
	}
	return get(p.off + off)
}

func wordsOf[W any](p part, off int64, n int, size int64, get func(off int64, n int) ([]W, error)) ([]W, error) {
	if off < 0 || off > p.n || n < 0 || int64(n) > (p.n-off)/size {
		length := int64(n)
		if n > 0 {
			length = min(length, math.MaxInt64/size) * size
		}
		return nil, &mmapio.RangeError{Offset: off, Length: length, Size: p.n}
	}
	return get(p.off+off, n)
}
