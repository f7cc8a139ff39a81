package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
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

// evictable evicts the file at path, and returns an error where that leaves it in memory, as a
// file system does that has no other place: what is called cold there would not be.
func evictable(path string) error {
	if err := evict(path); err != nil {
		return err
	}
	f, err := mmapio.Open(path, mmapio.WithMapping(mmapio.MapNever))
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size == 0 {
		return err
	}
	left, err := f.Resident(0, size)
	if err != nil {
		return err
	}
	if n := left.Bytes(); n > size/16 {
		return fmt.Errorf("%w: %d of its %d bytes are there", errKept, n, size)
	}
	return nil
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
		// A group that has processes may not be divided (version 2), but one above it is.
		for parent := home; ; parent = filepath.Dir(parent) {
			undo, err := enterGroup(home, parent, file, limit)
			if err == nil {
				return undo, nil
			}
			if parent == home {
				reasons = append(reasons, err)
			}
			if len(parent) <= len(base) {
				break
			}
		}
	}
	return nil, fmt.Errorf("no memory cgroup can be made: %w", errors.Join(reasons...))
}

// enterGroup moves the process from home into a new group inside parent, whose limit is in a file
// of that name.
func enterGroup(home, parent, file string, limit int) (undo func() error, err error) {
	group, err := os.MkdirTemp(parent, "mmapio-bench-")
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
