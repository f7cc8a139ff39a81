package mmapio

import (
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BeUncached makes this a system, such as OpenBSD, where mappings and system calls do not
// see the same bytes: what sys_unix_other.go says of it, and mappings of the pages that a
// file has that stay as they are, whatever is written to the file.
func BeUncached() (restore func()) {
	oldTrust, oldStores, oldSys := trustIn, storesIntoMappings, sys
	trustIn = func(uintptr, fs.FileInfo, Mode) trust { return trust{} }
	storesIntoMappings = false
	sys.resident = func(address, length uintptr, found func(at, n uintptr)) {}
	sys.stamp = func(uintptr) error { return nil }
	sys.writeBack = func(address, length uintptr, wait bool) error { return nil }
	sys.mapFile = func(fd uintptr, off int64, length uintptr, access access) (unsafe.Pointer, error) {
		address, err := mapFile(fd, off, length, private)
		if err != nil || access == private {
			return address, err
		}
		var stat unix.Stat_t
		if err := unix.Fstat(int(fd), &stat); err != nil {
			return nil, err
		}
		memory := unsafe.Slice((*byte)(address), length)
		for at := int64(0); at < min(int64(length), stat.Size-off); at += int64(os.Getpagesize()) {
			first := memory[at]
			memory[at] = ^first // two stores, so that none is left out
			memory[at] = first
		}
		return address, unix.Mprotect(memory, unix.PROT_READ)
	}
	return func() { trustIn, storesIntoMappings, sys = oldTrust, oldStores, oldSys }
}
