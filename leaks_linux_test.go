package mmapio_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// usage is what the kernel says this process holds.
type usage struct {
	descriptors, mappings, goroutines int
	address                           int64 // bytes of address space
}

func currentUsage(t testing.TB) usage {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("cannot see the descriptors: %v", err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return usage{
		descriptors: len(descriptors),
		mappings:    bytes.Count(readMaps(t), []byte("\n")),
		goroutines:  runtime.NumGoroutine(),
		address:     pages * int64(os.Getpagesize()),
	}
}

func readMaps(t testing.TB) []byte {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return maps
}

// inMaps reports whether the file is mapped according to the kernel.
func inMaps(t testing.TB, name string) bool {
	t.Helper()
	return bytes.Contains(readMaps(t), []byte(name))
}

// isOpen reports whether a descriptor of this process is the file.
func isOpen(t testing.TB, name string) bool {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		return err == nil && target == name
	})
}

// threadSpace is the address space that new threads of the runtime may take up with
// cgo: 8 MiB of stack and 64 MiB of heap of the C library each. A hundredth of the
// windows that are opened would be more.
const threadSpace = 8 * (8 + 64 + 1) << 20

// A hundred thousand times open, read, close: what the process holds is what it
// held before.
func TestOpenCloseLeaksNothing(t *testing.T) {
	count := 100_000
	if testing.Short() || raceEnabled {
		count = 5_000
	}
	small, large := newFilled(t, 5000, 1), newFilled(t, 3<<20, 1)
	b := make([]byte, 100)
	turn := func(i int) {
		name := small
		if i%10 == 0 {
			name = large // with address space reserved ahead
		}
		if err := useOnce(name, b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2000 { // the program itself grows at first
		turn(i)
	}
	settled(t)
	before := currentUsage(t)
	begin := time.Now()
	turns := 0
	for ; turns < count && time.Since(begin) < 20*time.Second; turns++ {
		turn(turns)
	}
	during := currentUsage(t)
	t.Logf("%d turns in %v, held before %+v, right after %+v", turns, time.Since(begin), before, during)
	if turns < count {
		t.Logf("the machine is too slow for %d", count)
	}
	if during.descriptors > before.descriptors {
		t.Errorf("%d descriptors right after, were %d", during.descriptors, before.descriptors)
	}
	if limit, _ := mmapio.Budget(); during.mappings > before.mappings+2*limit {
		t.Errorf("%d mappings right after, were %d", during.mappings, before.mappings)
	}
	others := 20 // mappings of the Go runtime, of which the race detector makes more
	if raceEnabled {
		others = 100
	}
	eventually(t, "in the end", func() error {
		now := currentUsage(t)
		if now.descriptors > before.descriptors || now.mappings > before.mappings+others || now.goroutines > before.goroutines || now.address > before.address+threadSpace {
			return fmt.Errorf("%+v, were %+v", now, before)
		}
		return nil
	})
}

// A File that was forgotten is collected: descriptor and mapping go away.
func TestForgottenFileIsCollected(t *testing.T) {
	for _, stored := range []bool{false, true} {
		name := newFilled(t, 100_000, 1)
		func() {
			f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := f.ReadAt(make([]byte, 100), 0); err != nil {
					t.Fatal(err)
				}
			}
			if stored {
				if _, err := f.WriteAt([]byte("last"), 0); err != nil {
					t.Fatal(err)
				}
			}
			if !mmapio.IsKnown(f, 0, 4) || !inMaps(t, name) || !isOpen(t, name) {
				t.Error("not mapped and open in the first place")
			}
			runtime.KeepAlive(f)
		}()
		eventually(t, "the forgotten file", func() error {
			if inMaps(t, name) || isOpen(t, name) {
				return fmt.Errorf("mapped %v, open %v", inMaps(t, name), isOpen(t, name))
			}
			return nil
		})
		if b, err := os.ReadFile(name); stored && (err != nil || string(b[:4]) != "last") {
			t.Errorf("the file begins with %q, %v", b[:4], err)
		}
	}
}

// After Close, and after everything else that gives a mapping up, the kernel has
// the file mapped no more, without any help from the collector.
func TestMappingGoesAtOnce(t *testing.T) {
	for what, do := range map[string]func(f *mmapio.File) error{
		"Close": func(f *mmapio.File) error { return f.Close() },
		"Detach": func(f *mmapio.File) error {
			inner, err := f.Detach()
			if err != nil {
				return err
			}
			return inner.Close()
		},
		"Truncate": func(f *mmapio.File) error { return f.Truncate(100) },
	} {
		name := newFilled(t, 3<<20, 1)
		f := openWarm(t, name)
		if !inMaps(t, name) {
			t.Fatal("not mapped in the first place")
		}
		if err := do(f); err != nil {
			t.Fatal(err)
		}
		if inMaps(t, name) {
			t.Errorf("still mapped after %s", what)
		}
		runtime.KeepAlive(f)
	}
}

// The space of a removed file is free as soon as the last File is closed.
func TestSpaceOfRemovedFileIsFreed(t *testing.T) {
	const size = 4 << 20
	dir := smallTmpfs(t, 8<<20)
	free := func() int64 {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); err != nil {
			t.Fatal(err)
		}
		return int64(stat.Bavail) * int64(stat.Bsize)
	}
	before := free()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, patterned(size, 1), 0o666); err != nil {
		t.Fatal(err)
	}
	f := openWarm(t, name)
	h := &hashWriter{Hash: sha256.New(), check: func([]byte) error { return nil }}
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if now := free(); now > before-size/2 {
		t.Errorf("%d bytes free, were %d before the file was there", now, before)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if now := free(); now < before-1<<20 {
		t.Errorf("%d bytes free after Close, were %d before", now, before)
	}
	runtime.KeepAlive(f)
}
