package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// coldFile returns the name of a new file on a disk, none of which is in memory,
// and the bytes of its first mebibyte, which repeat.
func coldFile(t testing.TB, size int64) (name string, body []byte) {
	t.Helper()
	dir := t.TempDir()
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil || stat.Type == unix.TMPFS_MAGIC {
		t.Skipf("the folder for temporary files is not on a disk: %v", err)
	}
	name, body = filepath.Join(dir, "file"), bodyOf(1, 1<<20)
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for off := int64(0); off < size; off += int64(len(body)) {
		if _, err := file.Write(body); err != nil {
			t.Skipf("no room for the file: %v", err)
		}
	}
	evict(t, name)
	if n := inMemory(t, name); n > size/10 {
		t.Skipf("%d of %d bytes stay in memory, whatever is said", n, size)
	}
	return name, body
}

// evict makes the kernel drop the file from memory, but for pages that are mapped.
func evict(t testing.TB, name string) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// inMemory returns how many bytes of the file are in memory.
func inMemory(t testing.TB, name string) int64 {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	states := make([]byte, (len(memory)+os.Getpagesize()-1)/os.Getpagesize())
	if err := mincore(memory, states); err != nil {
		t.Skipf("cannot see what is in memory: %v", err)
	}
	var n int64
	for _, state := range states {
		n += int64(state&1) * int64(os.Getpagesize())
	}
	return n
}

// mincore fills states, a byte a page of memory.
func mincore(memory, states []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&memory[0])), uintptr(len(memory)), uintptr(unsafe.Pointer(&states[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

func majorFaults(t testing.TB) int64 {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return int64(usage.Majflt)
}

// readScattered reads at random and checks every byte.
func readScattered(t testing.TB, f io.ReaderAt, body []byte, size int64, count int, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 64)
	for range count {
		off := random.Int64N(size/64) * 64
		if _, err := f.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		if err := checkBody(body, b, off%int64(len(body)), false); err != nil {
			t.Fatal(err)
		}
	}
}

// Reads of what is not in memory do not fault: the system is asked for it, and only
// what it brought is copied from the mapping.
func TestColdReadsDoNotFault(t *testing.T) {
	const size, reads = 64 << 20, 1500
	name, body := coldFile(t, size)
	run := func() (faults int64) {
		f, err := mmapio.Open(name, mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		readScattered(t, f, body, size, 5, 1)
		if !mmapio.IsMapped(f) {
			t.Fatal("not mapped")
		}
		before := majorFaults(t)
		readScattered(t, f, body, size, reads, 2)
		return majorFaults(t) - before
	}
	faults := run()
	t.Logf("%d major faults in %d cold reads", faults, reads)
	if faults > reads/50 {
		t.Errorf("%d major faults in %d cold reads", faults, reads)
	}

	// To see that such faults would be counted: the same, told that everything is in memory.
	evict(t, name)
	defer mmapio.Intercept(func(called string) error {
		if called == "resident" {
			return mmapio.ErrLie
		}
		return nil
	})()
	if faults := run(); faults < reads/20 {
		t.Skipf("the kernel counts only %d major faults in %d reads that do fault", faults, reads)
	}
}

// What was evicted reads right, and is read by the system again.
func TestEvictedPagesReadRight(t *testing.T) {
	const size = 16 << 20
	name, body := coldFile(t, size)
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for round := range uint64(4) {
		readScattered(t, f, body, size, 2000, round)
		if _, err := f.WriteAt(body[:5000], int64(round)<<20); err != nil {
			t.Fatal(err)
		}
		evict(t, name)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < size; off += len(body) {
		if err := checkBody(body, content[off:off+len(body)], 0, false); err != nil {
			t.Fatalf("in mebibyte %d: %v", off>>20, err)
		}
	}
}

// memoryGroup returns the folder of a new memory cgroup with that limit.
func memoryGroup(t testing.TB, limit int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skipf("no cgroups: %v", err)
	}
	bases := []struct{ base, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) == 3 && parts[1] == "memory":
			bases = slices.Insert(bases, 0, bases[0])
			bases[0].base += parts[2]
		case len(parts) == 3 && parts[1] == "":
			bases = append(bases, struct{ base, file string }{"/sys/fs/cgroup" + parts[2], "memory.max"})
		}
	}
	var reason error
	for _, b := range bases {
		dir, err := os.MkdirTemp(b.base, "mmapio-test-")
		if err != nil {
			reason = err
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, b.file), []byte(strconv.Itoa(limit)), 0); err != nil {
			reason = err
			_ = os.Remove(dir)
			continue
		}
		t.Cleanup(func() {
			var err error
			for range 100 { // the kernel takes a moment to notice that the child has ended
				if err = os.Remove(dir); err == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Error(err)
		})
		return dir
	}
	t.Skipf("no memory cgroup can be made: %v", reason)
	return ""
}

// A file several times the memory that may be used: random reads keep about the
// speed of os.File. Where pages that the kernel took away are read in faults, they
// are many times slower.
func TestLittleMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes several seconds, and a quick program")
	}
	limit := 64 << 20
	if strconv.IntSize == 32 {
		limit = 24 << 20 // a file of 128 MiB is the largest that is mapped
	}
	name, _ := coldFile(t, int64(4*limit))
	group := memoryGroup(t, limit)
	runChild(t, "little memory", name, group)
}

func init() {
	aloneRuns["little memory"] = func(arguments []string) error {
		name, group := arguments[0], arguments[1]
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return errSkip(fmt.Sprint("cannot enter the cgroup: ", err))
		}
		theirs, err := os.Open(name)
		if err != nil {
			return err
		}
		defer theirs.Close()
		info, err := theirs.Stat()
		if err != nil {
			return err
		}
		ours, err := mmapio.Open(name, mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			return err
		}
		defer ours.Close()
		body := bodyOf(1, 1<<20)
		read := func(f io.ReaderAt, seed uint64, d time.Duration) (float64, error) {
			var reads atomic.Int64
			var failure atomic.Pointer[error]
			var readers sync.WaitGroup
			begin := time.Now()
			for i := range uint64(16) {
				readers.Go(func() {
					random := rand.New(rand.NewPCG(seed, i))
					b := make([]byte, 4096)
					for time.Since(begin) < d && failure.Load() == nil {
						off := random.Int64N(info.Size()/4096) * 4096
						_, err := f.ReadAt(b, off)
						if err == nil {
							err = checkBody(body, b, off%int64(len(body)), false)
						}
						if err != nil {
							failure.Store(&err)
						}
						reads.Add(1)
					}
				})
			}
			readers.Wait()
			if err := failure.Load(); err != nil {
				return 0, *err
			}
			return float64(reads.Load()), nil
		}
		var ratios []float64
		for round := range uint64(8) {
			n, err := read(theirs, round, 300*time.Millisecond)
			if err != nil {
				return err
			}
			m, err := read(ours, round+100, 300*time.Millisecond)
			if err != nil {
				return err
			}
			ratios = append(ratios, m/n)
		}
		slices.Sort(ratios)
		if !mmapio.IsMapped(ours) {
			return fmt.Errorf("not mapped")
		}
		if median := ratios[len(ratios)/2]; median < 0.5 {
			return fmt.Errorf("%.2f times as many reads as by os.File, of %.2f", median, ratios)
		}
		return nil
	}
}

// The first reads of a part of a file ask about all of it only where there is more than what
// was read: to ask about pages that are not in memory takes as long as reading one.
func TestColdReadsAskLittle(t *testing.T) {
	const size, part = 64 << 20, mmapio.Neighbourhood
	for _, c := range []struct {
		what  string
		from  int64 // what of each part is in memory, in KiB, up to its end
		known bool
		asked int // about each part: around a read, or about all of it
	}{
		{"all is in memory", 0, true, 2},
		{"all but the first read is", 512, true, 3},
		{"nothing is", part >> 10, false, 2},
	} {
		t.Run(c.what, func(t *testing.T) {
			name, _ := coldFile(t, size)
			f := openFor(t, name, os.O_RDONLY, mmapio.WithMapping(mmapio.MapAlways))
			if !mmapio.MapNow(f) {
				t.Fatal("not mapped")
			}
			file, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			b := make([]byte, part)
			for off := int64(0); off < size; off += part {
				if _, err := file.ReadAt(b[c.from<<10:], off+c.from<<10); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_RANDOM); err != nil { // nothing is read ahead
				t.Fatal(err)
			}
			if n, want := inMemory(t, name), size-(size/part)*(c.from<<10); n > want+size/64 || n < want-size/64 {
				t.Skipf("%d bytes are in memory, not %d", n, want)
			}
			asked := 0
			defer mmapio.Intercept(func(called string) error {
				switch called {
				case "resident":
					asked++
				case "majorFaults":
					return errors.ErrUnsupported // what is known stays known, however short memory is
				}
				return nil
			})()
			for off := int64(0); off < size; off += part {
				for _, at := range []int64{100 << 10, 1000 << 10, 1500 << 10} {
					if _, err := f.ReadAt(b[:64], off+at); err != nil {
						t.Fatal(err)
					}
				}
				if got := mmapio.IsKnown(f, off+1800<<10, 1); got != c.known {
					t.Errorf("at %d: that what was not read is in memory is known: %t", off, got)
				}
			}
			if want := c.asked * size / part; asked != want {
				t.Errorf("asked %d times, want %d", asked, want)
			}
		})
	}
}
