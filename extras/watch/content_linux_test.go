package watch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio/extras/watch"
)

// residentPages asks the kernel which pages of a file are in memory.
func residentPages(t *testing.T, f *os.File, size int) []byte {
	t.Helper()
	memory, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(memory)
	states := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&memory[0])), uintptr(size), uintptr(unsafe.Pointer(&states[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for i := range states {
		states[i] &= 1
	}
	return states
}

func countPages(states []byte) int {
	n := 0
	for _, s := range states {
		n += int(s)
	}
	return n
}

// unlike returns how many pages are in memory in one of two states only.
func unlike(a, b []byte) int {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// TestWatchLeavesMemoryAlone: comparing the content changes nothing about which pages are
// in memory. A few are left to the kernel, which takes pages away and brings pages in for
// reasons of its own, while other tests use the machine.
func TestWatchLeavesMemoryAlone(t *testing.T) {
	const size = 16<<20 + 12345
	for _, dontCache := range []bool{true, false} {
		for _, blockSize := range []int{64 << 10, 1000} {
			t.Run(fmt.Sprintf("DONTCACHE=%v/%d", dontCache, blockSize), func(t *testing.T) {
				defer watch.SetDontCache(dontCache)()
				name := filepath.Join(folder(t), "file")
				must(t, os.WriteFile(name, []byte(strings.Repeat("0123456789abcdef", size/16+1)[:size]), 0o600))
				f, err := os.OpenFile(name, os.O_RDWR, 0)
				must(t, err)
				defer f.Close()
				must(t, f.Sync())
				must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
				must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
				page := os.Getpagesize()
				for off := 0; off < size; off += 3 * page { // what the program uses
					_, err := f.ReadAt(make([]byte, 1), int64(off))
					must(t, err)
				}
				before := residentPages(t, f, size)
				if n := countPages(before); n == len(before) {
					t.Skipf("all %d pages stay in memory on this file system", n)
				} else if n == 0 {
					t.Fatal("nothing is in memory")
				}

				w := begin(t, name, watch.WithContent(blockSize, time.Hour), watch.WithQuiet(0))
				if after := residentPages(t, f, size); unlike(before, after) > len(before)/100 {
					t.Fatalf("of %d pages, %d were in memory before the first reading, and %d are after it", len(before), countPages(before), countPages(after))
				}
				// A write into a page that is in memory, which has all of it read again.
				_, err = f.WriteAt([]byte("X"), int64(30*page))
				must(t, err)
				expect(t, w, modified)
				remove(t, name) // told after the comparison
				expect(t, w, removed)
				after := residentPages(t, f, size)
				if unlike(before, after) > len(before)/100 {
					t.Fatalf("of %d pages, %d were in memory before the second reading, and %d are after it", len(before), countPages(before), countPages(after))
				}
				t.Logf("%d of %d pages in memory, before and after", countPages(after), len(after))
			})
		}
	}
}

// TestWatchSparse compares a file of a tebibyte that is nearly all hole.
func TestWatchSparse(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "begin")
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Skipf("no such large file here: %v", err)
	}
	w := begin(t, name, watch.WithContent(1<<20, time.Hour))
	writeAt(t, name, 1<<39+5, "middle")
	if event := next(t, w); event.Kind != modified || event.Offset != 1<<39 || event.Len != 1<<20 {
		t.Error(event)
	}
}

// TestWatchTooLong: a file of nothing but a hole costs whoever makes it nothing, and does not
// take up the memory of whoever compares it.
func TestWatchTooLong(t *testing.T) {
	const blockSize, long = 64, 64<<27 + 1
	name := filepath.Join(t.TempDir(), "file")
	write(t, name, "a")
	if err := os.Truncate(name, long); err != nil {
		t.Skipf("no long files here: %v", err)
	}
	events := make(chan watch.Event, 100)
	follow := func() (*watch.Watch, error) {
		return watch.PathFunc(t.Context(), name, func(e watch.Event) { events <- e }, watch.WithContent(blockSize, time.Hour))
	}
	if _, err := follow(); err == nil || !strings.Contains(err.Error(), "larger blocks") || !strings.Contains(err.Error(), name) {
		t.Fatalf("the watch of a file that is too long begins with %v", err)
	}
	must(t, os.Truncate(name, 1))
	_, err := follow()
	must(t, err)
	must(t, os.Truncate(name, long))
	await := func(kind watch.Kind) watch.Event {
		t.Helper()
		for deadline := time.After(limit); ; {
			select {
			case e := <-events:
				if e.Kind == kind {
					return e
				}
			case <-deadline:
				t.Fatalf("no event of the kind %v", kind)
			}
		}
	}
	if e := await(watch.Overflow); e.Err == nil || !strings.Contains(e.Err.Error(), "larger blocks") {
		t.Errorf("the file has become too long: %v", e.Err)
	}
	must(t, os.Truncate(name, 1))
	writeAt(t, name, 0, "b")
	await(watch.Modified)
}
