//go:build unix

package mmapio_test

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

func init() {
	privateConstructors = append(privateConstructors, privateConstructor{name: "NewFile", open: func(name string) (*mmapio.File, error) {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		fd, err := unix.Dup(int(file.Fd()))
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		return mmapio.NewFile(uintptr(fd), name, mmapio.WithCopyOnWrite()), nil
	}})
}
