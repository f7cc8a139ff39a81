package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// evict makes the kernel forget what it has in memory of the file at path.
func evict(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // dirty pages stay
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// limitMemory moves the process into a new memory cgroup with a limit, and returns what
// moves it back.
func limitMemory(limit int) (undo func() error, err error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("no cgroups: %w", err)
	}
	var reasons []error
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		base, file := "/sys/fs/cgroup", "memory.max"
		switch parts[1] {
		case "memory":
			base, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case "":
		default:
			continue
		}
		home := filepath.Join(base, parts[2])
		undo, err := enterGroup(home, file, limit)
		if err == nil {
			return undo, nil
		}
		reasons = append(reasons, err)
	}
	return nil, fmt.Errorf("no memory cgroup can be made: %w", errors.Join(reasons...))
}

func enterGroup(home, file string, limit int) (undo func() error, err error) {
	group, err := os.MkdirTemp(home, "mmapio-bench-")
	if err != nil {
		return nil, err
	}
	self := []byte(strconv.Itoa(os.Getpid()))
	err = os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(limit)), 0)
	if err == nil {
		err = os.WriteFile(filepath.Join(group, "cgroup.procs"), self, 0)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(group))
	}
	return func() error {
		return errors.Join(os.WriteFile(filepath.Join(home, "cgroup.procs"), self, 0), os.Remove(group))
	}, nil
}
