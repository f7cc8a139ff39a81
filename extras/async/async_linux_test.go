package async_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/async"
)

// unwritten returns how many pages of the file the kernel has still to write: see
// cachestat(2).
func unwritten(t *testing.T, path string) uint64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(file.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
		t.Skipf("the kernel does not tell: cachestat: %v", err)
	}
	return stat.Dirty + stat.Writeback
}

// When a WriteAt is done the kernel has nothing left to write.
func TestWritesAreStable(t *testing.T) {
	for _, mapping := range []mmapio.Mapping{mmapio.MapNever, mmapio.MapAlways} {
		name := filepath.Join(t.TempDir(), "file")
		f, err := mmapio.Create(name, mmapio.WithSize(1<<20), mmapio.WithMapping(mapping))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		write := func(off int64) {
			if _, err := f.WriteAt([]byte("written"), off); err != nil {
				t.Fatal(err)
			}
		}
		write(0)
		write(0)
		if unwritten(t, name) == 0 {
			t.Skip("this file system writes at once")
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if n := unwritten(t, name); n != 0 {
			t.Skipf("this file system has %d pages to write after fsync", n)
		}
		g := async.NewGroup(t.Context())
		for i := range int64(20) {
			off := i * 50_000
			if i == 19 {
				off = 1<<20 - 3 // grows
			}
			if _, err := g.WriteAt(f, []byte("written"), off).Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := unwritten(t, name); n != 0 {
				t.Errorf("mapping %d, offset %d: %d pages are not written", mapping, off, n)
			}
		}
		write(500_000)
		write(700_000)
		if unwritten(t, name) == 0 {
			t.Error("pages that are not written are not seen")
		}
		if _, err := g.FlushRange(f, 0, 1<<20).Wait(t.Context()); err != nil || unwritten(t, name) != 0 {
			t.Errorf("FlushRange: %v, %d pages are not written", err, unwritten(t, name))
		}
		write(500_000)
		if _, err := g.Flush(f).Wait(t.Context()); err != nil || unwritten(t, name) != 0 {
			t.Errorf("Flush: %v, %d pages are not written", err, unwritten(t, name))
		}
		closing(t, g)
	}
}
