//go:build !linux

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/mmapio/mmapio"
)

// mappedFiles would tell which files the processes of this machine have mapped.
type mappedFiles struct{ partial bool }

func readMappedFiles() (*mappedFiles, error) {
	return nil, fmt.Errorf("this system does not tell what is mapped: %w", errors.ErrUnsupported)
}

func (*mappedFiles) of(*mmapio.File, fs.FileInfo) (mapped int64, processes int, err error) {
	return 0, 0, errors.ErrUnsupported
}
