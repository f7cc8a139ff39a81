package extras

import (
	"errors"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"
)

// Flusher is what can be made durable, in part too: see [mmapio.File.Flush].
type Flusher interface {
	Flush() error
	FlushRange(off, n int64) error
}

// AsyncFlusher is what can begin to be made durable: see [mmapio.File.FlushAsync].
type AsyncFlusher interface {
	FlushAsync() error
}

var (
	_ Flusher      = (*mmapio.File)(nil)
	_ Flusher      = (*mmapio.View)(nil)
	_ AsyncFlusher = (*mmapio.File)(nil)
)

// Flush makes what was written to file durable. It flushes file if that is a [Flusher], or
// else what it wraps; both files of an [*afero.UnionFile], because both are written. What
// is no Flusher but has a method Sync is synced, which promises as much. Otherwise the
// error is [errors.ErrUnsupported].
func Flush(file any) error { return flush(file, Flusher.Flush) }

// FlushRange is as [Flush], for the n bytes at off. What can only be synced is synced as a
// whole.
func FlushRange(file any, off, n int64) error {
	return flush(file, func(f Flusher) error { return f.FlushRange(off, n) })
}

// FlushAsync has the system begin to write out what was written to file, if that is an
// [AsyncFlusher] or wraps one, and is [errors.ErrUnsupported] otherwise. Nothing is promised.
func FlushAsync(file any) error {
	f, err := find[AsyncFlusher](file, "cannot be written out in the background")
	if err != nil {
		return err
	}
	return f.FlushAsync()
}

func flush(file any, do func(Flusher) error) error {
	for range deepest {
		if f, ok := file.(Flusher); ok {
			return do(f)
		}
		if both, ok := file.(*afero.UnionFile); ok && both != nil && both.Layer != nil && both.Base != nil {
			return errors.Join(flush(both.Layer, do), flush(both.Base, do))
		}
		inner, ok := unwrap(file)
		if !ok {
			break
		}
		if inner == nil {
			return unsupported(file, "wraps nothing")
		}
		file = inner
	}
	f, ok := file.(interface{ Sync() error })
	if !ok {
		return unsupported(file, "cannot be made durable")
	}
	return f.Sync()
}
