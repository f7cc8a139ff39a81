package mmapio

import (
	"sync/atomic"
	"unsafe"
)

// Words of a View that several goroutines and processes can use at once, as the types of
// [sync/atomic]: they are the memory of the file itself, in the byte order of the
// machine. A word must lie inside the View, at an offset of the file that is a multiple
// of its size, and the View must be [View.Writable], because every method but Load stores.
// A word is valid until the View is released; when the file is cut below it, its use
// faults: see [View]. In a program that is built with the race detector no guard catches
// that: atomic operations are done in C then.

// Uint32 returns the word that is off bytes behind the start of the View. The error is a
// [*fs.PathError] with a [*RangeError], an [*AlignError], [ErrReadOnly] or [fs.ErrClosed]
// in it.
func (v *View) Uint32(off int64) (*atomic.Uint32, error) { return word[atomic.Uint32](v, off) }

// Uint64 is as [View.Uint32], for words of 8 bytes; also on 32-bit systems.
func (v *View) Uint64(off int64) (*atomic.Uint64, error) { return word[atomic.Uint64](v, off) }

// Int32 is as [View.Uint32], with a sign.
func (v *View) Int32(off int64) (*atomic.Int32, error) { return word[atomic.Int32](v, off) }

// Int64 is as [View.Uint64], with a sign.
func (v *View) Int64(off int64) (*atomic.Int64, error) { return word[atomic.Int64](v, off) }

// Uint32s returns the n words that begin off bytes behind the start of the View. Errors
// are as those of [View.Uint32]; a negative n is a [*RangeError].
func (v *View) Uint32s(off int64, n int) ([]atomic.Uint32, error) {
	return words[atomic.Uint32](v, off, n)
}

// Uint64s is as [View.Uint32s], for words of 8 bytes; also on 32-bit systems.
func (v *View) Uint64s(off int64, n int) ([]atomic.Uint64, error) {
	return words[atomic.Uint64](v, off, n)
}

// Int32s is as [View.Uint32s], with a sign.
func (v *View) Int32s(off int64, n int) ([]atomic.Int32, error) {
	return words[atomic.Int32](v, off, n)
}

// Int64s is as [View.Uint64s], with a sign.
func (v *View) Int64s(off int64, n int) ([]atomic.Int64, error) {
	return words[atomic.Int64](v, off, n)
}

type atomicWord interface {
	atomic.Uint32 | atomic.Uint64 | atomic.Int32 | atomic.Int64
}

func word[W atomicWord](v *View, off int64) (*W, error) {
	if err := checkWords[W](v, off, 1); err != nil {
		return nil, err
	}
	return (*W)(unsafe.Pointer(&v.data[off])), nil
}

func words[W atomicWord](v *View, off int64, n int) ([]W, error) {
	if err := checkWords[W](v, off, n); err != nil {
		return nil, err
	}
	if n == 0 {
		return []W{}, nil
	}
	return unsafe.Slice((*W)(unsafe.Pointer(&v.data[off])), n), nil
}

func checkWords[W atomicWord](v *View, off int64, n int) error {
	if err := v.live("atomic"); err != nil {
		return err
	}
	size := int64(unsafe.Sizeof(*new(W)))
	length := int64(len(v.data))
	if off < 0 || n < 0 || int64(n) > (length-off)/size || off > length {
		return v.file.fail("atomic", &RangeError{Offset: off, Length: saturate(int64(n), size), Size: length})
	}
	if (v.off+off)%size != 0 {
		return v.file.fail("atomic", &AlignError{Offset: v.off + off, Align: size})
	}
	if v.m != nil && !v.m.writable {
		return v.file.fail("atomic", ErrReadOnly)
	}
	v.handOut()
	return nil
}

// saturate returns n*size, or the nearest int64.
func saturate(n, size int64) int64 {
	const most = 1<<63 - 1
	if n > most/size {
		return most
	}
	return n * size
}
