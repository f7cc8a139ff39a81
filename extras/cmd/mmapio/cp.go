package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mmapio/mmapio"
)

type cpCmd struct {
	Source      string `arg:"" name:"src" help:"The file to copy. It may be a pipe or a device."`
	Destination string `arg:"" name:"dst" help:"Its copy, or the folder to put it in."`
	jsonFlag
}

// Help is what mmapio cp --help prints below the usage.
func (*cpCmd) Help() string {
	return "The copy has the permission bits and the holes of the original, and shares its blocks " +
		"where the file system can do that. It is written to a " +
		"temporary file beside DST, which takes the place of DST when it is complete: " +
		"a copy that fails or is interrupted leaves DST as it was, and nothing else. " +
		"The owner of DST stays the same where that is allowed, a symbolic link DST is " +
		"followed, and other hard links to DST keep the old content. A pipe or device " +
		"DST is written to directly."
}

// copied is what has been copied.
type copied struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Size        int64  `json:"size_bytes"`
}

// Run copies the file.
func (c *cpCmd) Run(ctx context.Context) error {
	result, err := c.copy(ctx)
	if err == nil && c.JSON {
		err = printJSON(result)
	}
	return err
}

func (c *cpCmd) copy(ctx context.Context) (result copied, err error) {
	info, err := os.Stat(c.Source)
	if err != nil {
		return result, err
	}
	if info.IsDir() {
		return result, folderError("cp", c.Source)
	}
	destination, existing, err := resolve(c.Source, c.Destination)
	if err != nil {
		return result, err
	}
	result.Source, result.Destination = c.Source, destination
	if existing != nil && os.SameFile(info, existing) {
		return result, fmt.Errorf("cp: %s and %s are the same file", c.Source, c.Destination)
	}
	onto := existing == nil || existing.Mode().IsRegular() // a file, not into a pipe
	if onto && info.Mode().IsRegular() {
		result.Size, err = copyFile(ctx, destination, existing, c.Source)
		return result, err
	}
	source, err := openFile(ctx, c.Source, os.O_RDONLY)
	if err != nil {
		return result, err
	}
	defer source.Close()
	if onto {
		result.Size, err = replace(ctx, destination, existing, source)
	} else {
		result.Size, err = copyInto(ctx, destination, source)
	}
	return result, err
}

// copyFile copies the regular file source to destination, which existing has so far,
// if it is not nil, and returns how many bytes that are.
func copyFile(ctx context.Context, destination string, existing fs.FileInfo, source string) (int64, error) {
	var bar *progress
	begun, last := false, int64(0)
	err := mmapio.CopyFile(ctx, destination, source, func(done, total int64) {
		if !begun {
			begun, bar = true, byteProgress(source, total)
		}
		bar.add(done - last)
		last = done
	})
	bar.end()
	if err == nil {
		return last, nil
	}
	if _, left := err.(interface{ Unwrap() []error }); left {
		return 0, err // it says that the partial copy is there
	}
	if err = interrupted(ctx, err); begun {
		return 0, removed(err, destination, existing)
	}
	return 0, err
}

// removed adds to err that a copy has left nothing.
func removed(err error, destination string, existing fs.FileInfo) error {
	if existing != nil {
		return fmt.Errorf("%w; the partial copy was removed, %s is as it was", err, destination)
	}
	return fmt.Errorf("%w; the partial copy was removed", err)
}

// resolve returns the name of the file to write and what is there now, nil if
// nothing is. A folder gets a file named like source; links are followed.
func resolve(source, name string) (string, fs.FileInfo, error) {
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		name = filepath.Join(name, filepath.Base(source))
		if info, err = os.Stat(name); err == nil && info.IsDir() {
			return "", nil, folderError("cp", name)
		}
	}
	switch {
	case err == nil && !info.Mode().IsRegular():
		return name, info, nil
	case err == nil:
		name, err = filepath.EvalSymlinks(name)
		return name, info, err
	case name == "" || !errors.Is(err, fs.ErrNotExist):
		return "", nil, err
	}
	if _, err := os.Lstat(name); err == nil {
		return "", nil, &fs.PathError{Op: "cp", Path: name, Err: errors.New("is a symbolic link to a file that does not exist")}
	}
	if os.IsPathSeparator(name[len(name)-1]) {
		return "", nil, &fs.PathError{Op: "cp", Path: name, Err: errors.New("no such folder")}
	}
	return name, nil, nil
}

// replace is copyFile for a pipe or a device.
func replace(ctx context.Context, destination string, existing fs.FileInfo, source *mmapio.File) (int64, error) {
	if existing != nil {
		// Renaming needs no permission to write the file that it replaces; a copy does.
		file, err := os.OpenFile(destination, os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		if err := file.Close(); err != nil {
			return 0, err
		}
	}
	file, err := mmapio.CreateTemp(filepath.Dir(destination), ".mmapio-*.tmp")
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return 0, &fs.PathError{Op: "create a temporary file beside", Path: destination, Err: pathErr.Err}
	}
	if err != nil {
		return 0, err
	}
	n, err := fill(ctx, file, source, existing)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	// The last look at the signals: after the next step the copy is there.
	if err = interrupted(ctx, err); err == nil {
		err = os.Rename(file.Name(), destination)
	}
	if err == nil {
		return n, nil
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok && pathErr.Path == file.Name() {
		err = &fs.PathError{Op: pathErr.Op, Path: destination, Err: pathErr.Err}
	}
	if removeErr := os.Remove(file.Name()); removeErr != nil {
		return 0, fmt.Errorf("%w; the partial copy is left behind: %w", err, removeErr)
	}
	return 0, removed(err, destination, existing)
}

// fill makes file a copy of source, permission bits included. If it is to replace
// existing, the bytes are on stable storage when fill returns, so that not even a
// power cut loses both the old file and its replacement.
func fill(ctx context.Context, file, source *mmapio.File, existing fs.FileInfo) (int64, error) {
	n, err := transfer(ctx, file, source)
	if err != nil {
		return 0, err
	}
	info, err := source.Stat()
	if err != nil {
		return 0, err
	}
	if existing != nil {
		keepOwner(file, existing)
	}
	if err := file.Chmod(info.Mode().Perm()); err != nil {
		return 0, err
	}
	if existing != nil {
		return n, file.Sync()
	}
	return n, nil
}

// copyInto writes source to a pipe or a device.
func copyInto(ctx context.Context, destination string, source *mmapio.File) (int64, error) {
	file, err := openFile(ctx, destination, os.O_WRONLY)
	if err != nil {
		return 0, err
	}
	n, err := transfer(ctx, file, source)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, fmt.Errorf("%w; %s may have got a part", err, destination)
	}
	return n, nil
}

// Sizes of the steps of a copy from or to a pipe: between two of them there is time for
// the progress bar and for signals.
const (
	stepOfFile = 8 << 20
	stepOfPipe = 64 << 10 // more than that makes the bar jump when the pipe is slow
)

// transfer copies what is in source to file, up to the end, wherever that turns
// out to be, and returns how many bytes that were.
func transfer(ctx context.Context, file, source *mmapio.File) (all int64, err error) {
	from, err := source.Stat()
	if err != nil {
		return 0, err
	}
	to, err := file.Stat()
	if err != nil {
		return 0, err
	}
	size, total := int64(stepOfPipe), int64(0)
	if from.Mode().IsRegular() {
		size, total = stepOfFile, from.Size()
	}
	step := func() (int64, error) { return io.CopyN(file, source, size) }
	if !from.Mode().IsRegular() || !to.Mode().IsRegular() {
		moveOn := step
		step = func() (int64, error) { return wait(ctx, moveOn) }
	}

	bar := byteProgress(source.Name(), total)
	defer bar.end()
	for {
		if err := interrupted(ctx, nil); err != nil {
			return all, err
		}
		n, err := step()
		bar.add(n)
		all += n
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}
