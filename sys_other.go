//go:build !unix && !windows

package mmapio

import (
	"errors"
	"io/fs"
	"os"
	"unsafe"
)

// There are no mappings here: a File is the os.File inside.
const (
	leastGranularity   = 1
	supportsMapping    = false
	supportsStamp      = false
	pinsCopies         = false
	mustUnmapToResize  = false
	reservesAhead      = false
	seesFaults         = false
	syncCoversMappings = true

	unmappableFlags      = 0
	unmappableWriteFlags = 0
)

func mapFile(fd uintptr, off int64, length uintptr, access access) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}

func mapAt(fd uintptr, off int64, address, length uintptr, access access) error {
	return errors.ErrUnsupported
}

func seal(address, length uintptr) error { return errors.ErrUnsupported }

func unmap(address, length uintptr) error { return errors.ErrUnsupported }

func majorFaults() int64 { return 0 }

func outOfAddresses(err error) bool { return false }

func flagsOf(fd uintptr) int { return os.O_RDWR }

func trustOf(fd uintptr, info fs.FileInfo, mode Mode) trust { return trust{} }

func residentPages(address, length uintptr, found func(at, n uintptr)) {}

func stamp(fd uintptr) error { return errors.ErrUnsupported }

func writeBack(address, length uintptr, wait bool) error { return errors.ErrUnsupported }

// fileID is the same for all files: what identifies one only os knows.
type fileID struct{}

func fileIDOf(info fs.FileInfo) fileID { return fileID{} }

func addressLimits() (mappings int, bytes int64) { return defaultMappings, defaultAddressSpace }

// errMapped: a file can be cut while it is mapped.
var errMapped error

func openAnonymous(name string) (*os.File, error) { return nil, errNoMappings }

func discard(fd uintptr, off int64, address, length uintptr) error { return errors.ErrUnsupported }

// keepOwner does nothing: a new file belongs to whom its folder says.
func keepOwner(file *os.File, info fs.FileInfo) {}

const lockLimitName = ""

func madviseNumber(a Advice) (number int, ok bool) { return 0, false }

func advise(address, length uintptr, advice Advice) error { return errors.ErrUnsupported }

func lock(address, length uintptr, onFault bool) error { return errors.ErrUnsupported }

func unlock(address, length uintptr) error { return errors.ErrUnsupported }

func isLockLimit(err error) bool { return false }
