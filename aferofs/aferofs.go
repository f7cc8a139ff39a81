// Package aferofs makes mmapio a file system of [afero]: its regular files are
// [*mmapio.File] itself, so that everything a File can do is there for who looks for it.
//
// [New] is the file system of the machine, as [afero.OsFs]; [NewRooted] is a folder that
// nothing leads out of.
package aferofs

import (
	"io/fs"
	"os"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"
)

var (
	_ afero.Fs        = (*Fs)(nil)
	_ afero.Lstater   = (*Fs)(nil)
	_ afero.Symlinker = (*Fs)(nil)
	_ afero.File      = (*mmapio.File)(nil)
)

// Fs is the file system of the machine, with files that are [*mmapio.File]. It behaves as
// [afero.OsFs] does, to the error: results are those of package os, errors are
// [*fs.PathError] and [*os.LinkError].
//
// All methods may be called by several goroutines at once.
type Fs struct {
	options []mmapio.Option
}

// New returns the file system of the machine. The options are those of every file that it
// opens; one that does not fit a file makes opening that file fail. For options that only
// files opened for writing can have there is [mmapio.ForWriting].
func New(options ...mmapio.Option) *Fs { return &Fs{append([]mmapio.Option(nil), options...)} }

// Name returns "mmapio".
func (*Fs) Name() string { return "mmapio" }

// Create creates or truncates the named file, as [os.Create] does.
func (s *Fs) Create(name string) (afero.File, error) {
	return bare(mmapio.Create(name, s.options...))
}

// Open opens the named file for reading, as [os.Open] does.
func (s *Fs) Open(name string) (afero.File, error) {
	return bare(mmapio.Open(name, s.options...))
}

// OpenFile opens the named file, as [os.OpenFile] does.
func (s *Fs) OpenFile(name string, flag int, perm fs.FileMode) (afero.File, error) {
	return bare(mmapio.OpenFile(name, flag, perm, s.options...))
}

// bare makes sure that no file is nil, and not a nil pointer that is not nil.
func bare(f *mmapio.File, err error) (afero.File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Mkdir makes a folder, as [os.Mkdir] does.
func (*Fs) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// MkdirAll makes a folder and those on the way to it, as [os.MkdirAll] does.
func (*Fs) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

// Remove removes a file or an empty folder, as [os.Remove] does.
func (*Fs) Remove(name string) error { return os.Remove(name) }

// RemoveAll removes path and all that is in it, as [os.RemoveAll] does.
func (*Fs) RemoveAll(path string) error { return os.RemoveAll(path) }

// Rename renames a file or a folder, as [os.Rename] does.
func (*Fs) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Stat describes the named file, as [os.Stat] does.
func (*Fs) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// Chmod changes the mode of the named file, as [os.Chmod] does.
func (*Fs) Chmod(name string, mode fs.FileMode) error { return os.Chmod(name, mode) }

// Chown changes the owner of the named file, as [os.Chown] does.
func (*Fs) Chown(name string, uid, gid int) error { return os.Chown(name, uid, gid) }

// Chtimes changes the times of the named file, as [os.Chtimes] does.
func (*Fs) Chtimes(name string, atime, mtime time.Time) error {
	return os.Chtimes(name, atime, mtime)
}

// LstatIfPossible describes the named file or symbolic link, as [os.Lstat] does. That is
// always possible.
func (*Fs) LstatIfPossible(name string) (fs.FileInfo, bool, error) {
	info, err := os.Lstat(name)
	return info, true, err
}

// SymlinkIfPossible makes newname a symbolic link to oldname, as [os.Symlink] does.
func (*Fs) SymlinkIfPossible(oldname, newname string) error { return os.Symlink(oldname, newname) }

// ReadlinkIfPossible returns where the named symbolic link leads to, as [os.Readlink]
// does.
func (*Fs) ReadlinkIfPossible(name string) (string, error) { return os.Readlink(name) }
