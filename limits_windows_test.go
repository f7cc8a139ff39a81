package mmapio_test

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// makeSparse makes a file whose holes take no space: a property of each file here.
func makeSparse(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	var returned uint32
	err = windows.DeviceIoControl(windows.Handle(f.Fd()), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &returned, nil)
	return errors.Join(err, f.Close())
}
