package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mmapio/mmapio"
)

// manyFiles are the arguments of commands that are about the files in folders too.
type manyFiles struct {
	Files []string `arg:"" name:"file" help:"Files, and folders whose files are meant, at any depth."`
}

// aboutFolders is how folders are gone through, for the help of such commands.
const aboutFolders = " Symbolic links are followed if they are named, but not in folders. " +
	"What is neither a file nor a folder is skipped in folders, with a line that says so, and an " +
	"error if it is named. A file with several names there (hard links) is taken once, except on Windows. " +
	"Files that cannot be used are an error each, the others are done nevertheless."

// found is a regular file that a command is to work on.
type found struct {
	name string
	size int64 // when it was found
}

// batch is a command at work on many files.
type batch struct {
	ctx    context.Context
	op     string
	bar    *progress
	failed bool
	quiet  bool              // errors were told before
	seen   map[identity]bool // files that may be found again
}

// identity tells files apart that have different names.
type identity struct{ device, inode uint64 }

func newBatch(ctx context.Context, op string) *batch {
	return &batch{ctx: ctx, op: op, seen: make(map[identity]bool)}
}

// fail reports an error, and has the command fail when it has done the rest.
func (b *batch) fail(err error) {
	b.note(err)
	b.failed = true
}

// note tells something that is no error of the command.
func (b *batch) note(err error) {
	if b.quiet {
		return
	}
	b.bar.clear()
	report(err)
}

// result is what the command returns when all is done.
func (b *batch) result() error {
	if b.failed {
		return errReported
	}
	return nil
}

// find returns the regular files with those names and those in the folders with those
// names, at any depth. Errors are reported, the one it returns is errInterrupted.
func (b *batch) find(names []string) ([]found, error) {
	var files []found
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case err != nil:
			b.fail(err)
		case info.IsDir():
			if files, err = b.findIn(name, files, len(names) > 1); err != nil {
				return nil, err
			}
		case !info.Mode().IsRegular():
			b.fail(&fs.PathError{Op: b.op, Path: name, Err: irregularError(info.Mode())})
		default:
			if b.first(info, len(names) > 1) {
				files = append(files, found{name, info.Size()})
			}
		}
	}
	return files, interrupted(b.ctx, nil)
}

// first reports whether the file was not found before, by another name. Files with one name
// are kept in mind if they can be found again.
func (b *batch) first(info fs.FileInfo, again bool) bool {
	id, links, ok := identityOf(info)
	if !ok || links < 2 && !again {
		return true
	}
	before := b.seen[id]
	b.seen[id] = true
	return !before
}

// findIn appends the files in a folder to files. They may be found again in other folders.
func (b *batch) findIn(folder string, files []found, again bool) ([]found, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		b.fail(err)
	}
	for _, entry := range entries {
		if err := interrupted(b.ctx, nil); err != nil {
			return nil, err
		}
		name := filepath.Join(folder, entry.Name())
		switch {
		case entry.IsDir():
			if files, err = b.findIn(name, files, again); err != nil {
				return nil, err
			}
		case entry.Type()&fs.ModeSymlink != 0:
		case !entry.Type().IsRegular():
			b.note(&fs.PathError{Op: "skip", Path: name, Err: irregularError(entry.Type())})
		default:
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has just been removed
			}
			if err != nil {
				b.fail(err)
				continue
			}
			if b.first(info, again) {
				files = append(files, found{name, info.Size()})
			}
		}
	}
	return files, nil
}

// irregularError says what a file is, if not a regular one.
func irregularError(mode fs.FileMode) error {
	kind := "special"
	switch {
	case mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	}
	return errors.New("is " + kind + ", not a regular file")
}

// each calls do with every file, opened for reading, one at a time. Errors are reported;
// the one it returns is errInterrupted, or that of the output.
func (b *batch) each(files []found, do func(*mmapio.File, found) error, options ...mmapio.Option) error {
	for _, entry := range files {
		if err := interrupted(b.ctx, nil); err != nil {
			return err
		}
		err := b.open(entry, do, options)
		if errors.Is(err, errInterrupted) || errors.Is(err, errOutput) {
			return err
		}
		if err != nil {
			b.fail(err)
		}
	}
	return interrupted(b.ctx, nil)
}

func (b *batch) open(entry found, do func(*mmapio.File, found) error, options []mmapio.Option) (err error) {
	file, err := openFile(b.ctx, entry.name, os.O_RDONLY, options...)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	return do(file, entry)
}
