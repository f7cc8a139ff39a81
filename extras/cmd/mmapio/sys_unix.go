//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"

	"github.com/mmapio/mmapio"
)

// stopSignals are the signals to stop.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// keepOwner gives file the owner and the group that the file described by info
// has, as far as this user may: it is about to take the place of that file.
func keepOwner(file *mmapio.File, info fs.FileInfo) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if file.Chown(int(stat.Uid), int(stat.Gid)) != nil {
			_ = file.Chown(-1, int(stat.Gid)) // the group alone needs fewer rights
		}
	}
}
