//go:build !unix

package main

import (
	"io/fs"
	"os"
	"syscall"

	"github.com/mmapio/mmapio"
)

// stopSignals are the signals to stop. Windows sends the second one when the
// console is closed.
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// outliveReader has nothing to do: writes to a pipe that nobody reads any more fail.
func outliveReader() {}

// keepOwner does nothing: a file made here belongs to whom its folder says.
func keepOwner(*mmapio.File, fs.FileInfo) {}

// identityOf says that nobody knows.
func identityOf(fs.FileInfo) (id identity, links uint64, ok bool) { return identity{}, 0, false }

// allocated says that nobody knows.
func allocated(fs.FileInfo) (int64, bool) { return 0, false }
