package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// onDescriptor calls do with the descriptor of the file.
func onDescriptor(file *mmapio.File, do func(fd uintptr) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := conn.Control(func(fd uintptr) { err = do(fd) })
	return errors.Join(controlErr, err)
}

// cached returns how many pages of the n bytes at off are in the page cache and how many
// of those are not yet written to the disk, if the kernel can count them: Linux 6.5.
func cached(file *mmapio.File, off, n int64) (pages, dirty int64, ok bool) {
	var stat unix.Cachestat_t
	err := onDescriptor(file, func(fd uintptr) error {
		return unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0)
	})
	return int64(stat.Cache), int64(stat.Dirty + stat.Writeback), err == nil
}

// nextData returns where the first bytes at off or behind it begin that are no hole, and
// where they end. It returns size twice if there are none. A file system that does not know of holes
// has none.
func nextData(file *mmapio.File, off, size int64) (from, to int64) {
	from, to = off, size
	err := onDescriptor(file, func(fd uintptr) (err error) {
		if from, err = unix.Seek(int(fd), off, unix.SEEK_DATA); err != nil {
			return err
		}
		to, err = unix.Seek(int(fd), from, unix.SEEK_HOLE)
		return err
	})
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size
	case err != nil:
		return off, size
	}
	return min(from, size), min(to, size)
}

// inMemoryOnly reports whether the file has no other place than memory: then it cannot be
// evicted.
func inMemoryOnly(file *mmapio.File) bool {
	kind := fileSystem(file)
	return kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC || kind == unix.HUGETLBFS_MAGIC
}

// onHugetlbfs reports whether the file consists of huge pages only. What is allocated of it is in
// memory.
func onHugetlbfs(file *mmapio.File) bool { return fileSystem(file) == unix.HUGETLBFS_MAGIC }

func fileSystem(file *mmapio.File) uint32 {
	var stat unix.Statfs_t
	if onDescriptor(file, func(fd uintptr) error { return unix.Fstatfs(int(fd), &stat) }) != nil {
		return 0
	}
	return uint32(stat.Type)
}

// explainLockLimit adds to the error of a lock what the limit is, if so many bytes in all are more.
func explainLockLimit(err error, needed int64) error {
	if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EAGAIN) {
		return err
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil || limit.Cur >= uint64(needed) {
		return err
	}
	return fmt.Errorf("%w; it is %s, and %s are needed: ulimit -l %d as root, or LimitMEMLOCK= of systemd, raises it",
		err, byteCount(int64(limit.Cur)), byteCount(needed), (needed+1023)/1024)
}

// totalMemory returns how much memory the machine has.
func totalMemory() (int64, bool) {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0, false
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit)), true
}

// hugePageSize returns the length of a huge page, or 0 if there are none.
func hugePageSize() int64 {
	text, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
