//go:build freebsd || netbsd

package mmapio

import "golang.org/x/sys/unix"

const advisesFiles = true

// adviseFile relies on the first five kinds of advice having POSIX's numbers here: see
// sys/fcntl.h.
func adviseFile(fd uintptr, off, length int64, advice Advice) error {
	return unix.Fadvise(int(fd), off, length, int(advice))
}
