package async

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/mmapio/mmapio"
)

// Create creates or truncates the named file, as [mmapio.Create] does. The File is that
// of who waits for the Future; if nobody does, the garbage collector closes it.
//
// A cancelled Create removes the file if it has made it. A file that was there before is
// either as it was or truncated, as by Create, and it stays; so does one that was made
// because a symbolic link leads to it.
func (g *Group) Create(name string, options ...mmapio.Option) *Future[*mmapio.File] {
	return start(g, fs.PathError{Op: "open", Path: name}, func(ctx context.Context) (*mmapio.File, error) {
		return create(ctx, name, options)
	})
}

// create is the operation of Create.
func create(ctx context.Context, name string, options []mmapio.Option) (*mmapio.File, error) {
	f, made, err := openOrMake(name, options)
	if err != nil || ctx.Err() == nil {
		return f, err
	}
	err = &fs.PathError{Op: "open", Path: name, Err: ctx.Err()}
	info, statErr := f.Stat()
	err = errors.Join(err, statErr, f.Close())
	if !made || statErr != nil {
		return nil, err
	}
	// Somebody else may have taken the file away meanwhile.
	if now, statErr := os.Lstat(name); statErr == nil && os.SameFile(now, info) {
		err = errors.Join(err, os.Remove(name))
	}
	return nil, err
}

// openOrMake does what mmapio.Create does, and tells whether there was no file before.
func openOrMake(name string, options []mmapio.Option) (f *mmapio.File, made bool, err error) {
	for range 3 { // somebody may make or remove the file between the two
		f, err = mmapio.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666, options...)
		if !errors.Is(err, fs.ErrExist) {
			return f, err == nil, err
		}
		f, err = mmapio.OpenFile(name, os.O_RDWR|os.O_TRUNC, 0, options...)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, false, err
		}
	}
	f, err = mmapio.Create(name, options...) // a link that leads nowhere
	return f, false, err
}

// Copy makes dst a copy of src, as [mmapio.CopyFile] does. Progress, if it is not nil, is
// called on a goroutine of the Group.
//
// A cancelled Copy leaves dst as it was, and nothing beside it.
func (g *Group) Copy(dst, src string, progress func(done, total int64)) *Future[struct{}] {
	return start(g, fs.PathError{Op: "copy", Path: dst}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, mmapio.CopyFile(ctx, dst, src, progress)
	})
}

// Remove removes the named file or empty folder, as [os.Remove] does. Once begun it is
// not cancelled any more. A file that is open stays usable for those who have it, except
// on Windows, where it cannot be removed.
func (g *Group) Remove(name string) *Future[struct{}] {
	return start(g, fs.PathError{Op: "remove", Path: name}, func(context.Context) (struct{}, error) {
		return struct{}{}, os.Remove(name)
	})
}

// WriteAt writes b to f at off, as [mmapio.File.WriteAt] does, and flushes it: when Wait
// returns nil, the bytes are on stable storage. The value is how many bytes were written;
// with an error, none of them may be on stable storage.
//
// B must not be changed until the operation is done. Once begun it is not cancelled any
// more. Who closes f meanwhile gets [fs.ErrClosed], or not.
func (g *Group) WriteAt(f *mmapio.File, b []byte, off int64) *Future[int] {
	return start(g, fs.PathError{Op: "write", Path: f.Name()}, func(context.Context) (int, error) {
		n, err := f.WriteAt(b, off)
		if err != nil {
			return n, err
		}
		return n, f.FlushRange(off, int64(n))
	})
}

// Flush puts all that was written to f before the operation begins on stable storage, as
// [mmapio.File.Flush] does. Once begun it is not cancelled any more.
func (g *Group) Flush(f *mmapio.File) *Future[struct{}] {
	return start(g, fs.PathError{Op: "flush", Path: f.Name()}, func(context.Context) (struct{}, error) {
		return struct{}{}, f.Flush()
	})
}

// FlushRange puts n bytes of f from off on on stable storage, as [mmapio.File.FlushRange]
// does. Once begun it is not cancelled any more.
func (g *Group) FlushRange(f *mmapio.File, off, n int64) *Future[struct{}] {
	return start(g, fs.PathError{Op: "flush", Path: f.Name()}, func(context.Context) (struct{}, error) {
		return struct{}{}, f.FlushRange(off, n)
	})
}
