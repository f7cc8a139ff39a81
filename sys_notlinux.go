//go:build !linux

package mmapio

import (
	"errors"
	"io/fs"
	"os"
	"unsafe"
)

// populates: without a system call that reads mapped bytes in, handing them
// over would read in faults.
const populates = false

// datasync is a whole Sync: on macOS nothing less reaches the disk.
func datasync(file *os.File) error { return file.Sync() }

// startFlush does no more than look whether the file is open: there is no call that
// begins to write out what system calls have written.
func startFlush(file *os.File) error { return control(file, func(uintptr) {}) }

func allocate(file *os.File, off, length int64) error { return errors.ErrUnsupported }

var errPopulateFault error

func populateRead(address, length uintptr) error { return errors.ErrUnsupported }

func hasHoles(info fs.FileInfo) bool { return false }

func mapWindow(fd uintptr, off int64, length uintptr) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}

func readAhead(fd uintptr, off, length int64) {}

func adviseRandom(address unsafe.Pointer, length uintptr) {}

func populateWrite(address, length uintptr) error { return errors.ErrUnsupported }

// privatePages: nobody tells which pages differ from the file.
func privatePages(address, length uintptr, found func(at, n uintptr)) { found(0, length) }

func cloneFile(to, from *os.File) error { return errors.ErrUnsupported }

func copyRange(to, from *os.File, off int64, n int) (int, error) { return 0, errors.ErrUnsupported }

func nextData(file *os.File, off int64) (from, to int64, err error) {
	return 0, 0, errors.ErrUnsupported
}

const (
	locksOnFault   = false
	tellsResidency = false
	tellsHuge      = false
)

func pageStates(address, length uintptr, states []byte) error { return errNoResidency }

func hugeBytes(address, length uintptr) (int64, error) { return 0, errNoHuge }

func hugePageSize(fd uintptr) int64 { return 0 }

func sizeOf(file *os.File) (size int64, regular bool, err error) { return statSize(file) }
