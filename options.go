package mmapio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Option changes how a constructor makes a [File]. A nil Option is ignored.
type Option func(*config) error

// config is what the options of one File add up to.
type config struct {
	flag        int // what the file is to be opened with
	name        string
	size        int64
	preallocate int64
	mapping     Mapping
	copyOnWrite bool
	policy      FlushPolicy
	advice      Advice
	advised     bool
	prefault    bool
	huge        bool
}

// Mapping says when a [File] is mapped.
type Mapping uint8

const (
	// MapAuto maps a file once that pays: after some reads or writes in place, on
	// file systems that keep mappings and system calls coherent. A file of which more than
	// a few reads have to wait for the disk is left alone until that has changed, which is
	// tried now and then. It is the default.
	MapAuto Mapping = iota
	// MapAlways maps a file at its first read or write in place, on every file
	// system that can. It is for file systems that MapAuto leaves alone, such as
	// network and FUSE file systems, and for programs that know better: the file stays
	// mapped, also where most reads have to wait for the disk. Where no
	// mapping is to be had, the file works without one, as always. What is stored to a
	// mapping goes to the disk later: an error that a write to such a file system
	// returns at once can be that of Flush, Sync or Close instead.
	MapAlways
	// MapNever never maps the file: every call is a system call.
	MapNever
)

// WithMapping sets when the file is mapped; the default is [MapAuto].
func WithMapping(mapping Mapping) Option {
	return func(c *config) error {
		if mapping > MapNever {
			return fmt.Errorf("mapping %d is none of MapAuto, MapAlways and MapNever: %w", mapping, os.ErrInvalid)
		}
		c.mapping = mapping
		return nil
	}
}

// WithSize makes a file that is empty after opening size bytes long, all zero,
// as [File.Truncate] does. A file with content keeps it, and its size. The
// default is 0: the size is left alone. A negative size, and a size for a file
// that is not opened for writing, are errors.
func WithSize(size int64) Option {
	return func(c *config) error {
		if size < 0 {
			return fmt.Errorf("negative size %d: %w", size, os.ErrInvalid)
		}
		c.size = size
		return nil
	}
}

// WithName makes name what [File.Name] returns and what the errors of the File show, in
// place of the name that it was opened by. It is for those who open files on behalf of
// others, such as file systems. An empty name is an error.
//
// The name is this File's alone: errors of opening, [fs.FileInfo.Name] and the [os.File]
// that [File.OSFile] and [File.Detach] return have the one that the file was opened by.
func WithName(name string) Option {
	return func(c *config) error {
		if name == "" {
			return fmt.Errorf("empty name: %w", os.ErrInvalid)
		}
		c.name = name
		return nil
	}
}

// ForWriting are the options of files that are opened for writing; for others they do
// nothing. It is for those who open files on behalf of others, such as file systems.
func ForWriting(options ...Option) Option {
	return func(c *config) error {
		if modeOf(c.flag) == ReadOnly {
			return nil
		}
		for _, option := range options {
			if option == nil {
				continue
			}
			if err := option(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// WithPreallocate makes the file grow in steps of step bytes: a write past the
// end allocates that much ahead, so that the following ones are stored through
// the mapping without a system call and cannot meet a full disk. Other processes
// see the longer file meanwhile, its tail zero; this File does not. The tail is
// cut off by Stat, Sync, Truncate, ReadFrom, WriteTo, Seek from the end, Close, by a
// Read that needs a system call, and for good when the descriptor is handed out. A
// process that is killed, and a File that is not closed, leave it: [File.TrailingZeros]
// tells whoever opens the file then. Where so much
// cannot be allocated, the file grows as without this option, and it is tried again
// from time to time.
//
// Only regular files have a tail. A File of [FromFile] or [NewFile] preallocates for
// WriteAt alone.
//
// Windows does not cut a file that has Views: while there is one and a tail, all of these
// return the error of Truncate, Close included, which leaves the tail. Release the Views
// before.
//
// It is for files that only one File grows at a time. The default is 0: the file
// is never longer than what was written. A negative step is an error, and so is
// preallocation for a file that is not opened for writing or that is opened with
// [os.O_APPEND].
func WithPreallocate(step int64) Option {
	return func(c *config) error {
		if step < 0 {
			return fmt.Errorf("negative preallocation step %d: %w", step, os.ErrInvalid)
		}
		c.preallocate = step
		return nil
	}
}

var (
	errSizeReadOnly        = errors.New("WithSize needs a file that is opened for writing")
	errPreallocateReadOnly = errors.New("WithPreallocate needs a file that is opened for writing")
	errPreallocateAppend   = errors.New("WithPreallocate and O_APPEND exclude each other: open without O_APPEND and seek to the end")
)

// noOptions is what most files are opened with.
var noOptions config

// newConfig folds the options for a file that is to be opened with flag. An error is
// a *fs.PathError.
func newConfig(name string, flag int, options []Option) (*config, error) {
	if len(options) == 0 {
		return &noOptions, nil
	}
	c := &config{flag: flag}
	for _, option := range options {
		if option == nil {
			continue
		}
		if err := option(c); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	if err := c.check(flag); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return c, nil
}

// check returns what is wrong with the options for a file that is opened with flag.
func (c *config) check(flag int) error {
	if c.copyOnWrite {
		return c.checkPrivate(flag)
	}
	readOnly := modeOf(flag) == ReadOnly
	switch {
	case c.size > 0 && readOnly:
		return errSizeReadOnly
	case c.prefault && modeOf(flag) == WriteOnly:
		return errPrefaultWriteOnly
	case c.preallocate > 0 && readOnly:
		return errPreallocateReadOnly
	case c.preallocate > 0 && flag&os.O_APPEND != 0:
		return errPreallocateAppend
	}
	return nil
}
