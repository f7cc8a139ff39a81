package mmapio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// copyStep is how much is copied between two looks at the context. It is a variable so
// that tests need not copy that much.
var copyStep int64 = 8 << 20

const (
	// readBuffer is how much is read at once where the kernel does not copy.
	readBuffer = 256 << 10
	// copyPiece is how many zeros make a hole where the system does not tell of holes.
	copyPiece = 64 << 10
)

// copySys is the calls to the system of CopyFile that may be refused, so that tests can
// make them fail. A File makes none of them.
var copySys = struct {
	clone     func(to, from *os.File) error
	copyRange func(to, from *os.File, off int64, n int) (int, error)
	nextData  func(file *os.File, off int64) (from, to int64, err error)
}{cloneFile, copyRange, nextData}

var (
	errSameFile    = fmt.Errorf("they are the same file: %w", os.ErrInvalid)
	errDangling    = errors.New("is a symbolic link to a file that does not exist")
	errNotCopyable = fmt.Errorf("only regular files can be copied: %w", os.ErrInvalid)
)

// CopyFile makes dst a copy of the regular file src: the same bytes, the same holes, the
// same permission bits.
//
// The copy is made in a temporary file beside dst, which takes the name dst when it is
// complete. When CopyFile returns an error dst is as it was, and the temporary file is
// removed. Somebody who looks at dst meanwhile, and of several who copy to it at the
// same time, each sees a whole file. A program that is killed leaves the temporary file,
// named .mmapio-*.tmp.
//
// Symbolic links are followed on both sides. A dst that exists must be a regular file
// which may be written; the copy takes its owner and group as far as the process may
// give files away, and other hard links to it keep the old content. A new dst belongs to
// the process. Beside the permission bits no attribute is copied, no times, no access
// control list; where the file system keeps no permission bits they are not copied
// either.
//
// Where the file system can share the blocks of two files (Btrfs, XFS, and others that
// know FICLONE, see ioctl_ficlone(2)), no bytes are moved. Elsewhere on Linux the kernel
// copies (copy_file_range(2)), or, where it does not, CopyFile reads and writes.
//
// If progress is not nil, it is called on the goroutine of the caller with the bytes
// done and the bytes there are: first with 0 done, once the temporary file is there,
// then after every step of at most 8 MiB and every hole, and last with all done. Between
// two steps CopyFile looks at ctx; if that has ended, the error wraps the one of
// [context.Context.Err].
//
// Src may be open, mapped and written to at the same time, by this process or others.
// All bytes that were written before CopyFile began are in the copy, as far as nobody
// cuts src before they are copied; of what is written meanwhile the copy may have some
// and not others. It ends where src ends when CopyFile gets there. The space that a File
// has preallocated behind the end, see [WithPreallocate], is part of the file for
// everybody else, and of the copy: call [File.Sync] before. What differs from the file under
// [WithCopyOnWrite] is not copied: call [File.Commit] before.
//
// If dst exists, the copy is on stable storage before it takes the place of dst, so that
// after a power failure dst is the old file or the whole new one. A new dst is as durable
// as one written by [os.WriteFile].
//
// An error is a [*fs.PathError] that names src or dst, or an [*os.LinkError] that names
// both: if src and dst are the same file, which is an [os.ErrInvalid], if ctx has ended,
// and if the renaming fails. If a temporary file cannot be removed, the error says that
// too. CopyFile may be called by several goroutines at once.
//
//   - Linux: all of the above. Holes are kept where the file system tells them.
//   - Other systems: CopyFile reads and writes, and leaves out runs of zeros, which
//     become holes where the file system has them.
//   - Windows: a dst that is open or mapped, in this process or another one, cannot be
//     replaced: that is an error. The permission bits are whether a file is read-only.
func CopyFile(ctx context.Context, dst, src string, progress func(done, total int64)) (err error) {
	ended := func() error {
		if err := ctx.Err(); err != nil {
			return &os.LinkError{Op: "copy", Old: src, New: dst, Err: err}
		}
		return nil
	}
	if err := ended(); err != nil {
		return err
	}
	source, info, err := openToCopy(src)
	if err != nil {
		return err
	}
	defer source.Close()
	target, existing, err := targetOfCopy(dst, source, info)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(target), ".mmapio-*.tmp")
	if err != nil {
		return &fs.PathError{Op: "create a temporary file beside", Path: dst, Err: innerError(err)}
	}
	complete := false
	defer func() {
		if complete {
			return
		}
		_ = file.Close() // it may be closed already
		if failed, ok := errors.AsType[*fs.PathError](err); ok && failed.Path == file.Name() {
			err = &fs.PathError{Op: failed.Op, Path: dst, Err: failed.Err}
		}
		if removeErr := os.Remove(file.Name()); removeErr != nil {
			err = fmt.Errorf("%w; the partial copy is left behind: %w", err, removeErr)
		}
	}()

	c := copying{to: file, from: source, ended: ended, progress: progress, total: info.Size()}
	if err := c.run(); err != nil {
		return err
	}
	if err := copyMode(file, info.Mode().Perm()); err != nil {
		return err
	}
	if existing != nil {
		keepOwner(file, existing)
		if err := file.Sync(); err != nil {
			return err
		}
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := ended(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), target); err != nil {
		if failed, ok := errors.AsType[*os.LinkError](err); ok {
			err = failed.Err
		}
		return &os.LinkError{Op: "copy", Old: src, New: dst, Err: err}
	}
	complete = true
	return nil
}

// openToCopy opens a regular file. What is none is not opened: that might wait, or do
// something.
func openToCopy(name string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if err := checkCopyable(name, info); err != nil {
		return nil, nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil {
		err = checkCopyable(name, info)
	}
	if err != nil {
		_ = file.Close() // nothing was written
		return nil, nil, err
	}
	return file, info, nil
}

func checkCopyable(name string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return &fs.PathError{Op: "copy", Path: name, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "copy", Path: name, Err: errNotCopyable}
	}
	return nil
}

// targetOfCopy returns the name of the file to make or to replace, at the end of all
// links, and what has that name, nil if nothing has. It must not be the source.
func targetOfCopy(name string, source *os.File, sourceInfo fs.FileInfo) (string, fs.FileInfo, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) && name != "" {
		if _, err := os.Lstat(name); err == nil {
			return "", nil, &fs.PathError{Op: "copy", Path: name, Err: errDangling}
		}
		return name, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	if err := checkCopyable(name, info); err != nil {
		return "", nil, err
	}
	if os.SameFile(sourceInfo, info) {
		return "", nil, &os.LinkError{Op: "copy", Old: source.Name(), New: name, Err: errSameFile}
	}
	// Renaming needs no permission to write the file that it replaces. Copying does.
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return "", nil, err
	}
	if err := file.Close(); err != nil {
		return "", nil, err
	}
	link, err := os.Lstat(name)
	if err == nil && !link.Mode().IsRegular() {
		name, err = filepath.EvalSymlinks(name)
	}
	return name, info, err
}

// copyMode gives the new file permission bits, as far as its file system keeps any.
func copyMode(file *os.File, perm fs.FileMode) error {
	err := file.Chmod(perm)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		return nil // FAT says EPERM
	}
	return err
}

// copying is the state of one copy.
type copying struct {
	to, from *os.File
	ended    func() error // what the context says
	progress func(done, total int64)
	total    int64
	off      int64 // so far everything is copied
	written  int64 // so far to has been written
	size     int64 // what the size of to was set to
	plain    bool  // the kernel does not copy
	thin     bool  // the system does not tell of holes
	buffer   []byte
}

// run copies everything.
func (c *copying) run() error {
	c.report()
	if err := copySys.clone(c.to, c.from); err == nil {
		info, err := c.to.Stat()
		if err == nil {
			c.total = info.Size()
			c.advance(c.total)
		}
		return err
	}
	for {
		from, to, err := copySys.nextData(c.from, c.off)
		switch {
		case err == io.EOF: // a hole up to the end, or the end
			info, err := c.from.Stat()
			if err != nil {
				return err
			}
			// There are files with content and without a size.
			from, to = max(c.off, info.Size()), max(c.off, info.Size())+readBuffer
		case err != nil:
			from, to, c.plain, c.thin = c.off, c.off+copyStep, true, true
		case c.off == 0 && (from > 0 || to < c.total):
			// Written inside its size, a file with holes gets no more blocks than it
			// needs. XFS allocates ahead where it grows.
			if err := c.to.Truncate(c.total); err != nil {
				return err
			}
			c.size = c.total
		}
		if from > c.off {
			c.advance(from)
		}
		for c.off < to {
			if err := c.ended(); err != nil {
				return err
			}
			n, err := c.step(min(to-c.off, copyStep))
			if n > 0 {
				c.advance(c.off + n)
			}
			if err == io.EOF {
				return c.finish()
			}
			if err != nil {
				return err
			}
		}
	}
}

// step copies up to n bytes. At the end of the file the error is io.EOF.
func (c *copying) step(n int64) (int64, error) {
	if !c.plain {
		done, err := copySys.copyRange(c.to, c.from, c.off, int(n))
		if err == nil && done > 0 {
			c.written = c.off + int64(done)
			return int64(done), nil
		}
		// The end, a file system that does not copy, or an error: reading and
		// writing tell which, and whose it is.
		c.plain = err != nil
	}
	if c.buffer == nil {
		c.buffer = make([]byte, readBuffer)
	}
	for done := int64(0); ; {
		b := c.buffer[:min(n-done, readBuffer)]
		if len(b) == 0 {
			return done, nil
		}
		got, err := c.from.ReadAt(b, c.off+done)
		for b = b[:got]; len(b) > 0; {
			piece := b[:min(len(b), copyPiece)]
			if b = b[len(piece):]; !c.thin || !bytes.Equal(piece, zeros[:len(piece)]) {
				if _, err := c.to.WriteAt(piece, c.off+done); err != nil {
					return done, err
				}
				c.written = c.off + done + int64(len(piece))
			}
			done += int64(len(piece))
		}
		if err != nil {
			return done, err
		}
	}
}

// finish ends the copy where the source ends, which may be in a hole.
func (c *copying) finish() error {
	info, err := c.from.Stat()
	if err != nil {
		return err
	}
	if c.off > c.written {
		// Somebody may have cut the source in a hole that was there.
		c.off = max(c.written, min(c.off, info.Size()))
	}
	if c.off != max(c.written, c.size) {
		if err := c.to.Truncate(c.off); err != nil {
			return err
		}
	}
	c.total = c.off
	c.report()
	return nil
}

func (c *copying) advance(off int64) {
	c.off = off
	c.total = max(c.total, off)
	c.report()
}

func (c *copying) report() {
	if c.progress != nil {
		c.progress(c.off, c.total)
	}
}
