//go:build unix

package mmapio

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	leastGranularity  = 1
	supportsMapping   = true
	pinsCopies        = false
	mustUnmapToResize = false
	reservesAhead     = is64Bit
	seesFaults        = true

	unmappableWriteFlags = unix.O_APPEND | os.O_SYNC | dataSyncFlag
)

// mapFile maps length bytes of the file fd from off on, which is the start of a page. A
// window of 2 MiB or more is aligned to that.
func mapFile(fd uintptr, off int64, length uintptr, access access) (unsafe.Pointer, error) {
	address, err := mapAligned(fd, off, length, access)
	if err == nil {
		adviseRandom(address, length)
	}
	return address, err
}

// mapAt is mapFile at an address that is reserved. A page is mapped elsewhere first: where a file
// system refuses, the kernel has given the reserved addresses away by then.
func mapAt(fd uintptr, off int64, address, length uintptr, access access) error {
	prot, flags := access.flags()
	probe, err := unix.MmapPtr(int(fd), off, nil, uintptr(pageSize), prot, flags)
	if err != nil {
		return err
	}
	if err := unix.MunmapPtr(probe, uintptr(pageSize)); err != nil {
		return err
	}
	if _, err := unix.MmapPtr(int(fd), off, pointer(address), length, prot, flags|unix.MAP_FIXED); err != nil {
		_ = seal(address, length) // there may be a hole now
		return err
	}
	adviseRandom(pointer(address), length)
	return nil
}

// flags returns how memory for that is mapped.
func (a access) flags() (prot, flags int) {
	prot, flags = unix.PROT_READ, unix.MAP_SHARED
	if a != toRead {
		prot |= unix.PROT_WRITE
	}
	if a == private {
		flags = unix.MAP_PRIVATE | noReserveFlag
	}
	return prot, flags
}

func mapAligned(fd uintptr, off int64, length uintptr, access access) (unsafe.Pointer, error) {
	prot, flags := access.flags()
	if length < hugeAlign {
		return unix.MmapPtr(int(fd), off, nil, length, prot, flags)
	}
	// Some file systems see to it themselves: see thp_get_unmapped_area in mm/huge_memory.c.
	if address, err := unix.MmapPtr(int(fd), off, nil, length, prot, flags); err == nil {
		if (uintptr(off)-uintptr(address))&(hugeAlign-1) == 0 {
			return address, nil
		}
		if err := unix.MunmapPtr(address, length); err != nil {
			return nil, err
		}
	}
	reserved := length + hugeAlign
	if reserved < length {
		return nil, unix.ENOMEM
	}
	base, err := unix.MmapPtr(-1, 0, nil, reserved, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|noReserveFlag)
	if err != nil {
		return nil, err
	}
	before := (uintptr(off) - uintptr(base)) & (hugeAlign - 1)
	address, err := unix.MmapPtr(int(fd), off, unsafe.Add(base, before), length, prot, flags|unix.MAP_FIXED)
	if err != nil {
		if err := unix.MunmapPtr(base, reserved); err != nil {
			return nil, err
		}
		// Pages of a GiB have an alignment of their own.
		return unix.MmapPtr(int(fd), off, nil, length, prot, flags)
	}
	// What is left over before and behind. If it cannot be given back it stays
	// inaccessible, and that is all.
	if before > 0 {
		_ = unix.MunmapPtr(base, before)
	}
	if after := reserved - before - alignUpPage(length); after > 0 {
		_ = unix.MunmapPtr(unsafe.Add(base, reserved-after), after)
	}
	return address, nil
}

func alignUpPage(n uintptr) uintptr { return uintptr(alignUp(int64(n), int64(pageSize))) }

// seal puts inaccessible memory where a mapping was.
func seal(address, length uintptr) error {
	_, err := unix.MmapPtr(-1, 0, pointer(address), length, unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|noReserveFlag)
	return err
}

func unmap(address, length uintptr) error { return unix.MunmapPtr(pointer(address), length) }

// pointer makes a pointer of an address outside the Go heap.
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

func majorFaults() int64 {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return int64(usage.Majflt)
}

// outOfAddresses reports whether a file could not be mapped because there are too
// many mappings, or too little address space left.
func outOfAddresses(err error) bool { return errors.Is(err, unix.ENOMEM) }

// flagsOf returns the flags that fd was opened with.
func flagsOf(fd uintptr) int {
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return os.O_RDWR
	}
	return flags
}

// fileID is the same for all handles of a file. Other files may have the same one.
type fileID struct{ device, inode uint64 }

func fileIDOf(info fs.FileInfo) (id fileID) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		id = fileID{uint64(stat.Dev), uint64(stat.Ino)}
	}
	return id
}

// addressLimits returns how many mappings and how many bytes of address space the
// process may have, beside those it has.
func addressLimits() (mappings int, bytes int64) {
	mappings, bytes = mappingLimit(), defaultAddressSpace
	var limit unix.Rlimit
	if addressSpaceLimit >= 0 && unix.Getrlimit(addressSpaceLimit, &limit) == nil && uint64(limit.Cur) < uint64(bytes) {
		bytes = max(0, int64(limit.Cur)-addressesInUse())
	}
	return mappings, bytes
}

// errMapped: a file can be cut while it is mapped.
var errMapped error

// keepOwner gives file the owner and the group that info tells, as far as the process may.
func keepOwner(file *os.File, info fs.FileInfo) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if file.Chown(int(stat.Uid), int(stat.Gid)) != nil {
			_ = file.Chown(-1, int(stat.Gid)) // the group alone needs fewer rights
		}
	}
}

// advise hands advice for whole pages of mapped memory to the kernel.
func advise(address, length uintptr, advice Advice) error {
	number, _ := madviseNumber(advice)
	return unix.Madvise(bytesAt(address, length), number)
}

func unlock(address, length uintptr) error { return unix.Munlock(bytesAt(address, length)) }

const lockLimitName = "RLIMIT_MEMLOCK (ulimit -l)"

// isLockLimit reports whether memory could not be locked because the process may not lock
// so much: the errnos that mlock(2) has for that.
func isLockLimit(err error) bool {
	return errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EAGAIN)
}
