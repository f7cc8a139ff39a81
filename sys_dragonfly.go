package mmapio

import "golang.org/x/sys/unix"

const (
	madvPageOut = 0
	madvNoCore  = unix.MADV_NOCORE
	madvCore    = unix.MADV_CORE
)
