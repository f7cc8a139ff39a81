//go:build unix

package mmapio_test

import (
	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

func init() {
	duplicate = func(f *mmapio.File) (uintptr, error) {
		fd, err := unix.Dup(int(f.Fd()))
		return uintptr(fd), err
	}
}
