package mmapio

import (
	"errors"
	"os"
	"unsafe"
)

const (
	is64Bit = ^uint(0)>>32 != 0

	// defaultMappings is what a process may have at most where the system does not say.
	defaultMappings = 65530
	// defaultAddressSpace is what a process may use where the system sets no limit.
	defaultAddressSpace int64 = 1 << (31 + 15*(^uint(0)>>63))
)

var (
	pageSize = os.Getpagesize()
	// mapGranularity is what the place of a mapping in its file is a multiple of.
	mapGranularity = max(pageSize, leastGranularity)
)

// What depends on whether mappings and system calls see the same bytes, so that tests can
// be on a system where they do not.
var (
	trustIn            = trustOf
	storesIntoMappings = supportsStamp
)

// sys is the calls to the system that can fail at any time, so that tests can make
// them fail.
var sys = struct {
	mapFile     func(fd uintptr, off int64, length uintptr, access access) (unsafe.Pointer, error)
	mapAt       func(fd uintptr, off int64, address, length uintptr, access access) error
	seal        func(address, length uintptr) error
	unmap       func(address, length uintptr) error
	resident    func(address, length uintptr, found func(at, n uintptr))
	majorFaults func() int64
	stamp       func(fd uintptr) error
	writeBack   func(address, length uintptr, wait bool) error
	datasync    func(file *os.File) error
	startFlush  func(file *os.File) error
	sync        func(file *os.File) error

	allocate     func(file *os.File, off, length int64) error
	populateRead func(address, length uintptr) error
	mapWindow    func(fd uintptr, off int64, length uintptr) (unsafe.Pointer, error)
	readAhead    func(fd uintptr, off, length int64)

	populateWrite func(address, length uintptr) error
	discard       func(fd uintptr, off int64, address, length uintptr) error
	privatePages  func(address, length uintptr, found func(at, n uintptr))
	writeAt       func(file *os.File, b []byte, off int64) (int, error)

	advise     func(address, length uintptr, advice Advice) error
	adviseFile func(fd uintptr, off, length int64, advice Advice) error
	lock       func(address, length uintptr, onFault bool) error
	unlock     func(address, length uintptr) error
	pageStates func(address, length uintptr, states []byte) error
	hugeBytes  func(address, length uintptr) (int64, error)
}{
	mapFile, mapAt, seal, unmap, residentPages, majorFaults, stamp, writeBack, datasync, startFlush, (*os.File).Sync,
	allocate, populateRead, mapWindow, readAhead,
	populateWrite, discard, privatePages, (*os.File).WriteAt,
	advise, adviseFile, lock, unlock, pageStates, hugeBytes,
}

// trust says how far a file system can be relied upon.
type trust struct {
	mappings bool  // mappings and system calls of all processes see the same bytes
	mincore  bool  // mincore tells which pages of the file are in memory
	hidden   bool  // mincore would, but not this process
	hugePage int64 // the length of a page, where all are huge and only mappings can be written to
	sparing  bool  // reading a hole takes up memory through a mapping, but not in a system call
}

var (
	errUntrusted = errors.New("file system does not keep mappings and system calls coherent")
	errTooLarge  = errors.New("file does not fit into the address space")
)

// bytesAt returns the bytes at an address outside the Go heap.
func bytesAt(address, length uintptr) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))), length)
}

// statSize is sizeOf by Stat.
func statSize(file *os.File) (size int64, regular bool, err error) {
	info, err := file.Stat()
	if err != nil {
		if closed := control(file, func(uintptr) {}); closed != nil {
			err = closed // Windows has other words for it
		}
		return 0, false, err
	}
	return info.Size(), info.Mode().IsRegular(), nil
}
