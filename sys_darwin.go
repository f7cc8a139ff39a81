package mmapio

import "golang.org/x/sys/unix"

const (
	madvPageOut = unix.MADV_PAGEOUT
	madvNoCore  = 0
	madvCore    = 0
)
