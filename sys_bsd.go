//go:build darwin || dragonfly || freebsd

package mmapio

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

const (
	supportsStamp      = true
	syncCoversMappings = false

	unmappableFlags = 0
	dataSyncFlag    = 0
	noReserveFlag   = 0

	addressSpaceLimit = unix.RLIMIT_AS
)

// trustOf trusts file systems of this machine: these systems have one cache for
// mappings and system calls.
func trustOf(fd uintptr, info fs.FileInfo, mode Mode) trust {
	var stat unix.Statfs_t
	if unix.Fstatfs(int(fd), &stat) != nil {
		return trust{}
	}
	return trust{mappings: uint64(stat.Flags)&unix.MNT_LOCAL != 0}
}

func residentPages(address, length uintptr, found func(at, n uintptr)) {}

// stamp sets the modification time of the file to now.
func stamp(fd uintptr) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(fd), &stat); err != nil {
		return err
	}
	accessed := unix.NsecToTimeval(unix.TimespecToNsec(stat.Atim))
	return unix.Futimes(int(fd), []unix.Timeval{accessed, unix.NsecToTimeval(time.Now().UnixNano())})
}

func writeBack(address, length uintptr, wait bool) error {
	if length == 0 {
		return nil
	}
	flag := unix.MS_ASYNC
	if wait {
		flag = unix.MS_SYNC
	}
	return unix.Msync(bytesAt(address, length), flag)
}

func mappingLimit() int { return defaultMappings }

// addressesInUse is not told by these systems.
func addressesInUse() int64 { return 0 }
