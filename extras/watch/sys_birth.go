//go:build darwin || freebsd || netbsd

package watch

import "golang.org/x/sys/unix"

func birthOf(s *unix.Stat_t) int64 {
	return int64(s.Btim.Sec)*1e9 + int64(s.Btim.Nsec)
}
