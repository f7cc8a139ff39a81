//go:build unix && !linux

package watch

import (
	"os"

	"golang.org/x/sys/unix"
)

const watchesFiles = false

func explain(err error) error { return err }

func stat(name string) (state, error) {
	var s unix.Stat_t
	if err := ignoringInterrupts(func() error { return unix.Stat(name, &s) }); err != nil {
		return state{}, err
	}
	return stateOf(&s), nil
}

func statFile(file *os.File) (state, error) {
	var s unix.Stat_t
	if err := ignoringInterrupts(func() error { return unix.Fstat(int(file.Fd()), &s) }); err != nil {
		return state{}, err
	}
	return stateOf(&s), nil
}

func ignoringInterrupts(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func stateOf(s *unix.Stat_t) state {
	return state{
		regular: uint32(s.Mode)&unix.S_IFMT == unix.S_IFREG,
		device:  uint64(s.Dev),
		inode:   uint64(s.Ino),
		birth:   birthOf(s),
		size:    int64(s.Size),
		written: int64(s.Mtim.Sec)*1e9 + int64(s.Mtim.Nsec),
		changed: int64(s.Ctim.Sec)*1e9 + int64(s.Ctim.Nsec),
		mode:    uint32(s.Mode), uid: uint32(s.Uid), gid: uint32(s.Gid),
		links: uint64(s.Nlink),
	}
}

// openToRead opens a file. Should it be a pipe by now, that does not wait.
func openToRead(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
}
