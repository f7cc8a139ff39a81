//go:build unix

package main

import (
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/mmapio/mmapio"
)

// stopSignals are the signals to stop.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// outliveReader has writes to a pipe that nobody reads any more fail, where they would end the
// program: there are files to remove.
func outliveReader() { signal.Ignore(syscall.SIGPIPE) }

// keepOwner gives file the owner and the group that the file described by info
// has, as far as this user may: it is about to take the place of that file.
func keepOwner(file *mmapio.File, info fs.FileInfo) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if file.Chown(int(stat.Uid), int(stat.Gid)) != nil {
			_ = file.Chown(-1, int(stat.Gid)) // the group alone needs fewer rights
		}
	}
}

// identityOf returns what tells the file apart from others, and how many names it has.
func identityOf(info fs.FileInfo) (id identity, links uint64, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, 0, false
	}
	return identity{uint64(stat.Dev), uint64(stat.Ino)}, uint64(stat.Nlink), true
}

// allocated returns how many bytes the file takes up on the disk.
func allocated(info fs.FileInfo) (int64, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int64(stat.Blocks) * 512, true
}
