//go:build darwin || dragonfly || freebsd

package watch

import "golang.org/x/sys/unix"

func isRemote(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && uint64(s.Flags)&unix.MNT_LOCAL == 0
}
