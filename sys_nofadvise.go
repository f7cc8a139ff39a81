//go:build !linux && !freebsd && !netbsd

package mmapio

import "errors"

// advisesFiles: advice can be given for descriptors.
const advisesFiles = false

func adviseFile(fd uintptr, off, length int64, advice Advice) error { return errors.ErrUnsupported }
