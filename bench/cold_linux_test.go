package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is on a file system without a disk is never cold, and is not called so.
func TestNeverCold(t *testing.T) {
	const folder = "/dev/shm"
	var stat unix.Statfs_t
	if err := unix.Statfs(folder, &stat); err != nil || stat.Type != unix.TMPFS_MAGIC {
		t.Skipf("no tmpfs at %s: type %#x, %v", folder, stat.Type, err)
	}
	parent, err := os.MkdirTemp(folder, "mmapio-bench-test-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(parent); err != nil {
			t.Error(err)
		}
	})
	w := &workspace{ctx: t.Context(), dir: parent, largest: miB, files: 20, ops: 1 << 10}
	for _, r := range coldRows(true) {
		r.around = nil
		rep, err := measure(w, []row{r}, 2, time.Millisecond, silence{})
		if err != nil {
			t.Fatal(err)
		}
		if res := rep.Rows[0]; !strings.Contains(res.Skipped, errKept.Error()) {
			t.Errorf("%s is not skipped: %q", res.name(), res.Skipped)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Errorf("files left: %v, %v", left, err)
		}
	}
	if err := evictable(filepath.Join(parent, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: got %v", err)
	}
}

// A process goes into a group with less memory and comes back, wherever it may make one.
func TestLimitMemory(t *testing.T) {
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skipf("no cgroups: %v", err)
	}
	undo, err := limitMemory(1 << 30)
	if err != nil {
		t.Skip(err)
	}
	inside, readErr := os.ReadFile("/proc/self/cgroup")
	if err := errors.Join(readErr, undo()); err != nil {
		t.Fatal(err)
	}
	if string(inside) == string(before) {
		t.Errorf("the process has not moved: %s", inside)
	}
	if after, err := os.ReadFile("/proc/self/cgroup"); err != nil || string(after) != string(before) {
		t.Errorf("the process was in %s, and is in %s: %v", before, after, err)
	}
}
