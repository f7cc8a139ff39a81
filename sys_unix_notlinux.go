//go:build unix && !linux

package mmapio

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openAnonymous opens a file that has no name any more.
func openAnonymous(name string) (*os.File, error) {
	for {
		path := filepath.Join(os.TempDir(), "mmapio-"+rand.Text())
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err == unix.EEXIST || err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// discard maps the file anew in place of pages of a private mapping.
func discard(fd uintptr, off int64, address, length uintptr) error {
	_, err := unix.MmapPtr(int(fd), off, pointer(address), length, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_FIXED|noReserveFlag)
	return err
}

func madviseNumber(a Advice) (number int, ok bool) {
	switch a {
	case AdviceNormal:
		return unix.MADV_NORMAL, true
	case AdviceRandom:
		return unix.MADV_RANDOM, true
	case AdviceSequential:
		return unix.MADV_SEQUENTIAL, true
	case AdviceWillNeed:
		return unix.MADV_WILLNEED, true
	case AdviceDontNeed:
		return unix.MADV_DONTNEED, true
	case AdvicePageOut:
		return madvPageOut, madvPageOut != 0
	case AdviceDontDump:
		return madvNoCore, madvNoCore != 0
	case AdviceDoDump:
		return madvCore, madvCore != 0
	}
	return 0, false
}

func lock(address, length uintptr, onFault bool) error {
	if onFault {
		return errors.ErrUnsupported
	}
	return unix.Mlock(bytesAt(address, length))
}
