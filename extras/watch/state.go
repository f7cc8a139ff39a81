package watch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// state is what a look at a file shows. Times are only compared.
type state struct {
	exists  bool
	regular bool
	foreign bool // another file than any that has the name

	device, inode uint64
	birth         int64       // 0 where it is not known
	info          fs.FileInfo // for os.SameFile, where there is no device and inode

	size           int64
	written        int64  // modification time
	changed        int64  // time of the last change of anything; 0 where it is not known
	created        int64  // what looksSame compares, and nothing else
	mode, uid, gid uint32 // as the system has them
	links          uint64 // hard links
	mountPoint     bool   // the file itself
}

// isSame reports whether both are the same file.
func (s *state) isSame(other *state) bool {
	switch {
	case s.foreign || other.foreign:
		return false
	case s.info != nil && other.info != nil:
		return os.SameFile(s.info, other.info)
	}
	return s.device == other.device && s.inode == other.inode &&
		(s.birth == other.birth || s.birth == 0 || other.birth == 0)
}

// sameMetadata compares what chmod, chown and the like change.
func (s *state) sameMetadata(other *state) bool {
	return s.mode == other.mode && s.uid == other.uid && s.gid == other.gid && s.links == other.links
}

// equal reports whether nothing that can be seen has changed.
func (s *state) equal(other *state) bool {
	if !s.exists || !other.exists {
		return s.exists == other.exists
	}
	return s.isSame(other) && s.size == other.size && s.written == other.written &&
		s.changed == other.changed && s.sameMetadata(other)
}

// look returns the state of the file of that name. That there is none is a state too.
func look(name string) (state, error) {
	s, err := stat(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return state{}, nil
		}
		return state{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	s.exists = true
	return s, nil
}

// place is a name in a folder. What happens to it can change what a path leads to.
type place struct {
	folder, name string
	last         bool // it is the name of the file itself
}

// maxLinks is how many symbolic links a path may lead through.
const maxLinks = 40

// placesOf follows an absolute path and returns where it can be changed: at each
// symbolic link, and where it ends, which is the file, or the first thing that is missing.
func placesOf(path string) []place {
	volume := filepath.VolumeName(path) + string(filepath.Separator)
	folder, rest := volume, split(path[len(volume):])
	var places []place
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			folder = filepath.Dir(folder)
			continue
		}
		at := place{folder, name, len(rest) == 0}
		full := filepath.Join(folder, name)
		info, err := os.Lstat(full)
		if err != nil {
			return append(places, at)
		}
		if target, err := os.Readlink(full); info.Mode()&fs.ModeSymlink != 0 && err == nil {
			if links++; links > maxLinks {
				return places
			}
			places = append(places, place{folder, name, false})
			if filepath.IsAbs(target) {
				folder = filepath.VolumeName(target) + string(filepath.Separator)
				target = target[len(filepath.VolumeName(target)):]
			}
			rest = append(split(target), rest...)
			continue
		}
		if at.last {
			return append(places, at)
		}
		folder = full
	}
	return places
}

// split returns the elements of a path that mean something.
func split(path string) []string {
	return strings.FieldsFunc(filepath.FromSlash(path), func(r rune) bool { return r == filepath.Separator })
}
