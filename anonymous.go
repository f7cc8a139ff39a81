package mmapio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const anonymousName = "anonymous memory"

// Anonymous returns memory that has no name as a [File]: size bytes, all zero, open for
// reading and writing. It is a file in every way: it grows by writes past the end and by
// [File.Truncate], has a position, Views and atomic words. The system gives it memory for
// what has been stored, not for its size. It is gone when it is closed, or forgotten, and
// with it the process; no name of it appears in the file system, and its Name is
// always the same text.
//
// A child process gets it by descriptor, and both see what the other stores:
//
//	cmd.ExtraFiles = []*os.File{f.OSFile()} // the child calls mmapio.NewFile(3, "shared")
//
// Sync and Flush succeed, and nothing outlives the last process that has it open. To hand
// memory out so that changes stay private, open it in the receiver with
// [WithCopyOnWrite].
//
// The options are those of [OpenFile] except [WithSize], which is an error because the
// size is a parameter. A negative size, or one that the system allows no file to have, is an
// error; a size larger than memory is none. Errors are of type [*fs.PathError].
//
//   - Linux: memory of memfd_create(2), which counts and swaps as shared memory does. It
//     cannot be made executable, on Linux 6.3 and later.
//   - Other Unix systems: a file in [os.TempDir] that is removed before anybody uses it.
//     Its bytes take up space on that disk.
//   - Windows: a file in [os.TempDir] with the attribute of temporary files, which the
//     system keeps in memory where it can, and removes when the last handle is closed.
//     Nobody else can open it, though its name is visible. It takes up its size on the
//     disk, and os/exec does not hand it down as it does here.
//   - Plan 9, js, wasip1: [errors.ErrUnsupported].
func Anonymous(size int64, options ...Option) (*File, error) {
	config, err := newConfig(anonymousName, os.O_RDWR, options)
	if err != nil {
		return nil, err
	}
	switch {
	case size < 0:
		err = fmt.Errorf("negative size %d: %w", size, os.ErrInvalid)
	case config.size != 0:
		err = errAnonymousSize
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: anonymousName, Err: err}
	}
	file, err := openAnonymous(anonymousName)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: anonymousName, Err: innerError(err)}
	}
	if err := file.Truncate(size); err != nil {
		_ = file.Close() // nothing was written
		return nil, err
	}
	return finishOpen(file, nil, os.O_RDWR, config)
}

var errAnonymousSize = errors.New("WithSize and Anonymous exclude each other: the size is a parameter")
