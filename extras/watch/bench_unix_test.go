//go:build unix

package watch_test

import (
	"time"

	"golang.org/x/sys/unix"
)

// processorTime returns how long the process has computed, in and out of the kernel.
func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
