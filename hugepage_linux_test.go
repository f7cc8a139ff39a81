package mmapio_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

const hugeSize = int64(mmapio.HugeAlign)

// hugeTmpfs returns a folder on a file system in memory of its own that makes huge pages for who asks.
func hugeTmpfs(t testing.TB, huge string) string {
	t.Helper()
	if enabled, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil || strings.Contains(string(enabled), "[never]") {
		t.Skipf("huge pages are %q here, %v", enabled, err)
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256m,huge="+huge); err != nil {
		t.Skipf("cannot mount a tmpfs with huge pages: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// hugeBytes asks the File, and the kernel around it.
func hugeBytes(t testing.TB, f *mmapio.File) int64 {
	t.Helper()
	got, err := f.HugePages()
	if err != nil {
		t.Fatal(err)
	}
	address, length := mmapio.MemoryOf(f)
	want := smapsSum(t, address, length, "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb")
	if got != want {
		t.Errorf("HugePages says %d, smaps %d", got, want)
	}
	return got
}

func TestHugePagesOnTmpfs(t *testing.T) {
	for _, huge := range []string{"advise", "always", "never"} {
		t.Run(huge, func(t *testing.T) {
			dir := hugeTmpfs(t, huge)
			name := filepath.Join(dir, "file")
			size := 8*hugeSize + 5000
			if err := os.WriteFile(name, patterned(int(size), 1), 0o666); err != nil {
				t.Fatal(err)
			}
			without := openControlled(t, name, os.O_RDWR)
			if err := without.Prefault(0, math.MaxInt64); err != nil {
				t.Fatal(err)
			}
			if got := hugeBytes(t, without); got != 0 && huge != "always" {
				t.Errorf("nobody asked, but %d bytes are huge", got)
			}
			if n, err := openControlled(t, name, os.O_RDWR, mmapio.WithHugePages()).HugePages(); n != 0 || err != nil {
				t.Errorf("not mapped, but %d bytes are huge, %v", n, err)
			}
			for _, options := range [][]mmapio.Option{
				{mmapio.WithHugePages(), mmapio.WithPrefault()},
				{mmapio.WithHugePages()},
			} {
				f := openControlled(t, name, os.O_RDWR, options...)
				if !mmapio.MapNow(f) {
					t.Fatal("not mapped")
				}
				if got := hugeBytes(t, f); got < 8*hugeSize {
					t.Errorf("%d bytes are huge", got)
				}
				b := make([]byte, size)
				if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, patterned(int(size), 1)) {
					t.Errorf("other bytes, %v", err)
				}
				v, err := f.View(hugeSize+5, hugeSize*2)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := v.HugePages(); err != nil || n < hugeSize || n > 3*hugeSize {
					t.Errorf("of a View, %d bytes are huge, %v", n, err)
				}
				v.Release()
			}
		})
	}
}

// What Prefault reads in from a disk comes in huge pages where the file system can.
func TestHugePagesOnDisk(t *testing.T) {
	size := 8 * hugeSize
	name := onDisk(t, int(size))
	without := openControlled(t, name, os.O_RDONLY, mmapio.WithPrefault())
	n := hugeBytes(t, without)
	if err := without.Close(); err != nil {
		t.Fatal(err)
	}
	evictName(t, name)
	f := openControlled(t, name, os.O_RDONLY, mmapio.WithHugePages(), mmapio.WithPrefault())
	got := hugeBytes(t, f)
	if !mmapio.IsKnown(f, 0, int(size)) {
		t.Error("what was brought in is forgotten")
	}
	t.Logf("%d of %d bytes are huge, %d if nobody asks", got, size, n)
	if v, err := f.View(0, size); err != nil || !bytes.Equal(v.Bytes(), patterned(int(size), 3)) {
		t.Errorf("other bytes, %v", err)
	} else {
		v.Release()
	}
}
