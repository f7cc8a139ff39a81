package aferofs

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"
)

var (
	_ afero.Fs        = (*RootedFs)(nil)
	_ afero.Lstater   = (*RootedFs)(nil)
	_ afero.Symlinker = (*RootedFs)(nil)
)

// RootedFs is a folder and what is in it, as a file system of its own, with files that are
// [*mmapio.File]. Names do not lead out of it: no "..", no symbolic link, and no race of
// somebody who exchanges folders for links meanwhile. It is [os.Root] that sees to that.
//
// Names begin at the folder, with or without a slash: "/a/b" and "a/b" are the same file,
// and "/" and "." are the folder itself. Inside, it behaves as [afero.OsFs] does, to the
// error. Errors, and the names of files, show the names that were asked for, never where
// the folder is; the [os.File] of [mmapio.File.OSFile] does. What differs from OsFs:
//
//   - A ".." that leads out of the folder, and a symbolic link that does or is absolute,
//     is an error, that of os.Root. Such a link can be made, read and removed. More than 8
//     links on the way to a file are an error too.
//   - The folder itself cannot be removed, renamed or emptied: RemoveAll of it, and of
//     every name that ends in "..", is [syscall.EINVAL], and nothing is removed. The name
//     of the folder in [fs.FileInfo] is ".".
//   - When RemoveAll fails, the error has the name that was given, not that of what could
//     not be removed.
//   - Rename and SymlinkIfPossible may fail for another reason, if there are several: a
//     name that is empty, or ends in a slash.
//   - Setuid, setgid and sticky bits are not set on a file that is created where a
//     symbolic link leads to.
//
// What os.Root does not prevent is not prevented: hard links to files elsewhere, mounts
// and bind mounts inside the folder, devices. Whoever can make these can reach out. On js
// os.Root cannot withstand races, and goes by the name of the folder, also when that is
// given to another one. On Windows the names of devices, such as NUL, are errors, and the
// errno of an error can be another one than that of OsFs.
//
// All methods may be called by several goroutines at once.
type RootedFs struct {
	root    *os.Root
	options []mmapio.Option
}

// NewRooted returns the folder dir as a file system. The caller closes it; files that are
// open then stay open. The options are those of every file that it opens, as for [New].
// The error is that of [os.OpenRoot].
func NewRooted(dir string, options ...mmapio.Option) (*RootedFs, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &RootedFs{root, append([]mmapio.Option(nil), options...)}, nil
}

// Close gives up the folder. All calls but those of files that are open fail from then on
// with [fs.ErrClosed].
func (s *RootedFs) Close() error { return s.root.Close() }

// Name returns "mmapio rooted".
func (*RootedFs) Name() string { return "mmapio rooted" }

// inside returns the name as os.Root wants it. An empty name is no file anywhere.
func inside(name string) (string, error) {
	trimmed := strings.TrimLeft(name, slashes)
	switch {
	case name == "":
		return "", syscall.ENOENT
	case trimmed == "":
		return ".", nil
	}
	return trimmed, nil
}

// endsInSlash reports whether a name that is not the folder itself ends in a slash.
func endsInSlash(name string) bool {
	return name != "" && os.IsPathSeparator(name[len(name)-1]) && strings.Trim(name, slashes) != ""
}

// innerError returns what went wrong, without operation and names.
func innerError(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	if failed, ok := errors.AsType[*os.LinkError](err); ok {
		return failed.Err
	}
	return err
}

// at does what op says to a name inside the folder. An error is what package os returns.
func at(op, name string, do func(name string) error) error {
	within, err := inside(name)
	if err == nil {
		err = do(within)
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: innerError(err)}
	}
	return nil
}

// isLink reports whether a name that ends in a slash is a symbolic link. On Linux such
// a name cannot be removed or renamed, while os.Root goes on to where the link leads.
func (s *RootedFs) isLink(name string) bool {
	if runtime.GOOS != "linux" || !endsInSlash(name) {
		return false
	}
	info, err := s.root.Lstat(strings.TrimRight(name, slashes))
	return err == nil && info.Mode().Type() == fs.ModeSymlink
}

// Create creates or truncates the named file, as [os.Create] does.
func (s *RootedFs) Create(name string) (afero.File, error) {
	return s.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// Open opens the named file for reading, as [os.Open] does.
func (s *RootedFs) Open(name string) (afero.File, error) {
	return s.OpenFile(name, os.O_RDONLY, 0)
}

// specialMode is what os.Root does not take when it creates something.
const specialMode = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// OpenFile opens the named file, as [os.OpenFile] does.
func (s *RootedFs) OpenFile(name string, flag int, perm fs.FileMode) (afero.File, error) {
	var f *mmapio.File
	err := at("open", name, func(within string) (err error) {
		options := append([]mmapio.Option{mmapio.WithName(name)}, s.options...)
		if flag&os.O_CREATE != 0 {
			if err := s.creatable(within, flag); err != nil {
				return err
			}
			if perm&specialMode != 0 {
				f, err = s.createSpecial(within, flag, perm, options)
				if err == nil || flag&os.O_EXCL != 0 || !errors.Is(err, fs.ErrExist) {
					return err
				}
			}
		}
		f, err = mmapio.OpenFileInRoot(s.root, within, flag, perm.Perm(), options...)
		return err
	})
	return bare(f, err)
}

// creatable returns the error of creating a file whose name ends in a slash, where that is
// another one than that of os.Root, or os.Root makes a folder.
func (s *RootedFs) creatable(within string, flag int) error {
	if runtime.GOOS != "linux" && runtime.GOOS != "windows" || !endsInSlash(within) {
		return nil
	}
	base := lastPart(within)
	if _, err := s.root.Stat("./" + strings.TrimSuffix(strings.TrimRight(within, slashes), base)); err != nil {
		return err
	}
	if flag&os.O_EXCL != 0 && (base == "." || base == "..") {
		return syscall.EEXIST
	}
	return syscall.EISDIR
}

// createSpecial creates a file, which must not exist, with bits that os.Root does not take.
func (s *RootedFs) createSpecial(within string, flag int, perm fs.FileMode, options []mmapio.Option) (*mmapio.File, error) {
	f, err := mmapio.OpenFileInRoot(s.root, within, flag|os.O_EXCL, perm.Perm(), options...)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Chmod(info.Mode() | perm&specialMode)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), s.root.Remove(within))
	}
	return f, nil
}

// Mkdir makes a folder, as [os.Mkdir] does.
func (s *RootedFs) Mkdir(name string, perm fs.FileMode) error {
	return at("mkdir", name, func(within string) error {
		if err := s.root.Mkdir(within, perm.Perm()); err != nil {
			return err
		}
		if perm&fs.ModeSticky == 0 || runtime.GOOS == "windows" {
			return nil
		}
		info, err := s.root.Lstat(within)
		if err == nil {
			err = s.root.Chmod(within, info.Mode()|fs.ModeSticky)
		}
		if err != nil {
			return errors.Join(err, s.root.Remove(within))
		}
		return nil
	})
}

// MkdirAll makes a folder and those on the way to it, as [os.MkdirAll] does.
func (s *RootedFs) MkdirAll(path string, perm fs.FileMode) error {
	if info, err := s.Stat(path); err == nil {
		if info.IsDir() {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	if slash := strings.LastIndexAny(strings.TrimRight(path, slashes), slashes); slash > 0 {
		if err := s.MkdirAll(path[:slash], perm); err != nil {
			return err
		}
	}
	err := s.Mkdir(path, perm)
	if err != nil {
		// Somebody else may have made it meanwhile, and "a/." is there once "a" is.
		if info, _, statErr := s.LstatIfPossible(path); statErr == nil && info.IsDir() {
			return nil
		}
	}
	return err
}

// Remove removes a file or an empty folder, as [os.Remove] does. The folder of the file
// system itself stays.
func (s *RootedFs) Remove(name string) error {
	return at("remove", name, func(within string) error {
		if s.isLink(within) {
			return syscall.ENOTDIR
		}
		return s.root.Remove(within)
	})
}

// RemoveAll removes path and all that is in it, as [os.RemoveAll] does. The folder of the
// file system itself stays, with all that is in it.
func (s *RootedFs) RemoveAll(path string) error {
	if path == "" {
		return nil // as os does
	}
	op := "unlinkat"
	if base := lastPart(path); base == "." {
		op = "RemoveAll"
	}
	return at(op, path, func(within string) error {
		if lastPart(within) == ".." || s.sameFolder(within, ".") {
			return syscall.EINVAL // os.Root would empty the folder of "dir/.."
		}
		return s.root.RemoveAll(within)
	})
}

// lastPart returns what is behind the last slash but those at the end.
func lastPart(name string) string {
	trimmed := strings.TrimRight(name, slashes)
	return trimmed[strings.LastIndexAny(trimmed, slashes)+1:]
}

// Rename renames a file or a folder, as [os.Rename] does.
func (s *RootedFs) Rename(oldname, newname string) error {
	from, err := inside(oldname)
	if err == nil {
		var to string
		if to, err = inside(newname); err == nil && (s.isLink(from) || s.isLink(to)) {
			err = syscall.ENOTDIR
		}
		if err == nil && lastPart(from) == ".." && runtime.GOOS != "windows" {
			err = syscall.EBUSY
		}
		if err == nil {
			err = s.root.Rename(from, to)
		}
		if errors.Is(err, fs.ErrExist) && oldname != newname && s.sameFolder(from, to) {
			return nil // by two names, as the kernel sees it
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: innerError(err)}
	}
	return nil
}

// sameFolder reports whether two names are those of one folder.
func (s *RootedFs) sameFolder(one, other string) bool {
	info, err := s.root.Lstat(one)
	if err != nil || !info.IsDir() {
		return false
	}
	second, err := s.root.Lstat(other)
	return err == nil && os.SameFile(info, second)
}

// Stat describes the named file, as [os.Stat] does.
func (s *RootedFs) Stat(name string) (info fs.FileInfo, err error) {
	err = at(statOperation, name, func(within string) (err error) {
		info, err = s.root.Stat(within)
		return err
	})
	return info, err
}

// Chmod changes the mode of the named file, as [os.Chmod] does.
func (s *RootedFs) Chmod(name string, mode fs.FileMode) error {
	return at("chmod", name, func(within string) error { return s.root.Chmod(within, mode) })
}

// Chown changes the owner of the named file, as [os.Chown] does.
func (s *RootedFs) Chown(name string, uid, gid int) error {
	return at("chown", name, func(within string) error { return s.root.Chown(within, uid, gid) })
}

// Chtimes changes the times of the named file, as [os.Chtimes] does.
func (s *RootedFs) Chtimes(name string, atime, mtime time.Time) error {
	return at("chtimes", name, func(within string) error { return s.root.Chtimes(within, atime, mtime) })
}

// LstatIfPossible describes the named file or symbolic link, as [os.Lstat] does. That is
// always possible.
func (s *RootedFs) LstatIfPossible(name string) (info fs.FileInfo, possible bool, err error) {
	err = at(lstatOperation, name, func(within string) (err error) {
		info, err = s.root.Lstat(within)
		return err
	})
	return info, true, err
}

// SymlinkIfPossible makes newname a symbolic link to oldname, as [os.Symlink] does.
// Oldname is stored as it is: one that is absolute, or leads out of the folder, makes a
// link that is not followed.
func (s *RootedFs) SymlinkIfPossible(oldname, newname string) error {
	within, err := inside(newname)
	if err == nil {
		err = s.root.Symlink(oldname, within)
	}
	if err != nil {
		return &os.LinkError{Op: "symlink", Old: oldname, New: newname, Err: innerError(err)}
	}
	return nil
}

// ReadlinkIfPossible returns where the named symbolic link leads to, as [os.Readlink]
// does.
func (s *RootedFs) ReadlinkIfPossible(name string) (target string, err error) {
	err = at("readlink", name, func(within string) (err error) {
		target, err = s.root.Readlink(within)
		return err
	})
	return target, err
}
