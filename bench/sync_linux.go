package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what was written to f durable, and of what the file system knows about f
// only what is needed to read that back.
func syncData(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = c.Control(func(fd uintptr) { syncErr = unix.Fdatasync(int(fd)) })
	if err == nil {
		err = syncErr
	}
	return err
}
