package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// area is what /proc/self/smaps says of an area of memory.
type area struct {
	from, to uintptr
	bytes    map[string]int64
	flags    []string
}

func (a area) has(flag string) bool { return slices.Contains(a.flags, flag) }

// areasOf returns the areas that the memory is in.
func areasOf(t testing.TB, address, length uintptr) (areas []area) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skipf("no smaps: %v", err)
	}
	var current *area
	for line := range strings.Lines(string(smaps)) {
		name, rest, _ := strings.Cut(line, ":")
		if from, to, ok := strings.Cut(name, "-"); ok && strings.Contains(to, " ") {
			to, _, _ = strings.Cut(to, " ")
			start, _ := strconv.ParseUint(from, 16, 64)
			end, _ := strconv.ParseUint(to, 16, 64)
			current = nil
			if uintptr(start) < address+length && address < uintptr(end) {
				areas = append(areas, area{uintptr(start), uintptr(end), make(map[string]int64), nil})
				current = &areas[len(areas)-1]
			}
			continue
		}
		if current == nil {
			continue
		}
		fields := strings.Fields(rest)
		if name == "VmFlags" {
			current.flags = fields
		} else if len(fields) == 2 && fields[1] == "kB" {
			n, _ := strconv.ParseInt(fields[0], 10, 64)
			current.bytes[name] = n << 10
		}
	}
	return areas
}

// smapsSum adds up what smaps says of the memory.
func smapsSum(t testing.TB, address, length uintptr, names ...string) (sum int64) {
	t.Helper()
	for _, a := range areasOf(t, address, length) {
		for _, name := range names {
			sum += a.bytes[name]
		}
	}
	return sum
}

// flaggedBytes returns which bytes of the memory, from its start, have a flag.
func flaggedBytes(t testing.TB, address, length uintptr, flag string) (ranges [][2]uintptr) {
	t.Helper()
	for _, a := range areasOf(t, address, length) {
		if !a.has(flag) {
			continue
		}
		from, to := max(a.from, address)-address, min(a.to, address+length)-address
		if n := len(ranges); n > 0 && ranges[n-1][1] == from {
			ranges[n-1][1] = to
		} else {
			ranges = append(ranges, [2]uintptr{from, to})
		}
	}
	return ranges
}

var lastingAdvice = []struct {
	advice, undo mmapio.Advice
	flag         string
	lost         bool // the flag is there by default
}{
	{mmapio.AdviceSequential, mmapio.AdviceNormal, "sr", false},
	{mmapio.AdviceSequential, mmapio.AdviceRandom, "sr", false},
	{mmapio.AdviceHugePage, mmapio.AdviceNoHugePage, "hg", false},
	{mmapio.AdviceNoHugePage, mmapio.AdviceHugePage, "nh", false},
	{mmapio.AdviceDontDump, mmapio.AdviceDoDump, "dd", false},
	{mmapio.AdviceDontFork, mmapio.AdviceDoFork, "dc", false},
}

// skipWithoutAdvice skips where the kernel was built without what the advice is about.
func skipWithoutAdvice(t testing.TB, advice mmapio.Advice) {
	t.Helper()
	if advice != mmapio.AdviceHugePage && advice != mmapio.AdviceNoHugePage {
		return
	}
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skipf("no huge pages: %v", err)
	}
}

func TestAdviseLasts(t *testing.T) {
	needKernel(t, "advice has no effect")
	page := uintptr(mmapio.PageSize())
	size := int64(64 * page)
	for _, c := range lastingAdvice {
		t.Run(fmt.Sprint(c.advice, ", ", c.undo), func(t *testing.T) {
			skipWithoutAdvice(t, c.advice)
			f := openWarm(t, newFilled(t, int(size), 1))
			address, length := mmapio.MemoryOf(f)
			expect := func(when string, want ...[2]uintptr) {
				t.Helper()
				if got := flaggedBytes(t, address, length, c.flag); !slices.Equal(got, want) {
					t.Errorf("%s: %q at %v, want %v", when, c.flag, got, want)
				}
			}
			advise := func(off, n int64, advice mmapio.Advice) {
				t.Helper()
				if err := f.Advise(off, n, advice); err != nil {
					t.Fatal(err)
				}
			}
			expect("before")
			advise(int64(3*page)+1, int64(2*page), c.advice)
			expect("unaligned range", [2]uintptr{3 * page, 6 * page})
			advise(int64(4*page), 1, c.undo)
			expect("undone in the middle", [2]uintptr{3 * page, 4 * page}, [2]uintptr{5 * page, 6 * page})
			advise(int64(8*page), 0, c.advice)
			expect("no bytes", [2]uintptr{3 * page, 4 * page}, [2]uintptr{5 * page, 6 * page})

			mmapio.Unmap(f)
			if !mmapio.MapNow(f) {
				t.Fatal("not mapped again")
			}
			address, length = mmapio.MemoryOf(f)
			expect("mapped again", [2]uintptr{3 * page, 4 * page}, [2]uintptr{5 * page, 6 * page})
			advise(0, math.MaxInt64, c.undo)
			expect("undone")
			mmapio.Unmap(f)
			advise(0, math.MaxInt64, c.advice) // while there is no mapping
			if !mmapio.MapNow(f) {
				t.Fatal("not mapped again")
			}
			address, length = mmapio.MemoryOf(f)
			expect("advised without a mapping", [2]uintptr{0, length})
			if err := f.Truncate(3 * size); err != nil {
				t.Fatal(err)
			}
			if !mmapio.MapNow(f) {
				t.Fatal("not mapped again")
			}
			address, length = mmapio.MemoryOf(f)
			expect("grown", [2]uintptr{0, length})
		})
	}
}

func TestAdviseView(t *testing.T) {
	needKernel(t, "advice has no effect")
	page := uintptr(mmapio.PageSize())
	for _, mapping := range []mmapio.Mapping{mmapio.MapAlways, mmapio.MapNever} {
		for _, c := range lastingAdvice {
			t.Run(fmt.Sprint(mapping, c.advice), func(t *testing.T) {
				skipWithoutAdvice(t, c.advice)
				f, err := mmapio.OpenFile(newFilled(t, int(64*page), 1), os.O_RDWR, 0, mmapio.WithMapping(mapping))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				v, err := f.View(int64(10*page)+5, int64(20*page))
				if err != nil {
					t.Fatal(err)
				}
				defer v.Release()
				start := uintptr(unsafe.Pointer(&v.Bytes()[0])) - 5
				if err := v.Advise(int64(page), int64(page), c.advice); err != nil {
					t.Fatal(err)
				}
				if got, want := flaggedBytes(t, start, 21*page, c.flag), [][2]uintptr{{page, 3 * page}}; !slices.Equal(got, want) {
					t.Errorf("%q at %v, want %v", c.flag, got, want)
				}
				if err := v.Advise(0, int64(v.Len()), c.undo); err != nil {
					t.Fatal(err)
				}
				if got := flaggedBytes(t, start, 21*page, c.flag); len(got) > 0 {
					t.Errorf("%q at %v after %v", c.flag, got, c.undo)
				}
				for _, n := range []int64{int64(v.Len()) + 1, -1, math.MaxInt64} {
					if err := v.Advise(0, n, c.advice); !errors.Is(err, mmapio.ErrOutOfRange) {
						t.Errorf("%d bytes: %v", n, err)
					}
				}
			})
		}
	}
}

// onDisk returns the name of a new file of n bytes whose pages the kernel can let go of.
func onDisk(t testing.TB, n int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(patterned(n, 3)); err != nil {
		t.Fatal(err)
	}
	writeAndEvict(t, file)
	if left := residentBytes(t, file, n); left > 0 {
		t.Skipf("the file system of %s keeps %d of %d bytes in memory", name, left, n)
	}
	return name
}

// writeAndEvict takes the file out of memory.
func writeAndEvict(t testing.TB, file *os.File) {
	t.Helper()
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// overlay mounts an overlay, whose layers "lower" and "upper" have those files, and returns the
// folder where it is, which is beside that of the layers.
func overlay(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"lower", "upper", "work", "all"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := filepath.Join(dir, "all")
	data := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir)
	if err := unix.Mount("overlay", all, "overlay", 0, data); err != nil {
		t.Skipf("cannot mount an overlay: %v", err)
	}
	t.Cleanup(func() { unmount(t, all) })
	return all
}

func evictName(t testing.TB, name string) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	writeAndEvict(t, file)
}

// residentBytes asks the kernel, around the package, how much of the file is in memory.
func residentBytes(t testing.TB, file *os.File, n int) (sum int) {
	t.Helper()
	for _, page := range residentPagesOf(t, file, n) {
		if page {
			sum += mmapio.PageSize()
		}
	}
	return min(sum, n)
}

func residentPagesOf(t testing.TB, file *os.File, n int) []bool {
	t.Helper()
	memory, err := unix.Mmap(int(file.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	states := make([]byte, (n+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&memory[0])), uintptr(n), uintptr(unsafe.Pointer(&states[0]))); errno != 0 {
		t.Fatal(errno)
	}
	pages := make([]bool, (n+mmapio.PageSize()-1)/mmapio.PageSize())
	for i := range pages {
		pages[i] = true
	}
	for i, state := range states { // more than one a page with MMAPIO_PAGE_SIZE
		if state&1 == 0 {
			pages[i*os.Getpagesize()/mmapio.PageSize()] = false
		}
	}
	return pages
}

func resident(t testing.TB, f *mmapio.File, off, n int64) int64 {
	t.Helper()
	r, err := f.Resident(off, n)
	if err != nil {
		t.Fatal(err)
	}
	return r.Bytes()
}

func openControlled(t testing.TB, name string, flag int, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(name, flag, 0, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAdviseDontNeedAndWillNeed(t *testing.T) {
	needKernel(t, "advice has no effect")
	const size, from, n = 8 << 20, 1<<20 + 5, 3 << 20
	name := onDisk(t, size)
	want := patterned(size, 3)
	for _, mapping := range []mmapio.Mapping{mmapio.MapAlways, mmapio.MapNever} {
		for _, flag := range []int{os.O_RDONLY, os.O_RDWR} {
			for _, advice := range []mmapio.Advice{mmapio.AdviceDontNeed, mmapio.AdvicePageOut} {
				if advice == mmapio.AdvicePageOut && mapping == mmapio.MapNever {
					continue
				}
				t.Run(fmt.Sprint(mapping, flag, advice), func(t *testing.T) {
					f := openControlled(t, name, flag, mmapio.WithMapping(mapping))
					b := make([]byte, size)
					for range 3 { // the last time through the mapping
						if _, err := f.ReadAt(b, 0); err != nil {
							t.Fatal(err)
						}
					}
					if got := resident(t, f, 0, math.MaxInt64); got != size {
						t.Fatalf("%d bytes are in memory", got)
					}
					if mapping == mmapio.MapAlways && !mmapio.IsKnown(f, 0, size) {
						t.Fatal("not known to be in memory")
					}
					if err := f.Advise(from, n, advice); err != nil {
						t.Fatal(err)
					}
					// Large folios go as a whole, or not at all.
					if got := resident(t, f, from, n); got > n/2 {
						t.Errorf("%d of %d bytes are still in memory", got, int64(n))
					}
					if mmapio.IsKnown(f, from, 1) || mmapio.IsKnown(f, from+n-1, 1) {
						t.Error("still believed to be in memory")
					}
					if mapping == mmapio.MapAlways && !mmapio.IsKnown(f, 0, from-5) {
						t.Error("the bytes before are forgotten too")
					}
					if got := resident(t, f, 0, 1<<20); got < 1<<19 {
						t.Errorf("only %d bytes before are left in memory", got)
					}
					if _, err := f.ReadAt(b[:n], from); err != nil || !bytes.Equal(b[:n], want[from:from+n]) {
						t.Errorf("other bytes after that, %v", err)
					}
					if err := f.Advise(0, math.MaxInt64, mmapio.AdviceDontNeed); err != nil {
						t.Fatal(err)
					}
					if got := resident(t, f, 0, math.MaxInt64); got != 0 {
						t.Fatalf("%d bytes are still in memory", got)
					}
					if err := f.Advise(0, 64<<10, mmapio.AdviceWillNeed); err != nil {
						t.Fatal(err)
					}
					waitFor(t, "the bytes to be read", func() bool { return resident(t, f, 0, 64<<10) == 64<<10 })
				})
			}
		}
	}
}

// waitFor waits for something that the kernel does in its own time.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestAdviseViewDontNeed(t *testing.T) {
	needKernel(t, "advice has no effect")
	const size = 4 << 20
	name := onDisk(t, size)
	f := openControlled(t, name, os.O_RDWR, mmapio.WithMapping(mmapio.MapNever))
	v, err := f.View(0, size)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if err := v.Prefault(0, size); err != nil {
		t.Fatal(err)
	}
	address := uintptr(unsafe.Pointer(&v.Bytes()[0]))
	if got := smapsSum(t, address, size, "Rss"); got != size {
		t.Errorf("Prefault mapped %d bytes", got)
	}
	if r, err := v.Resident(0, size); err != nil || r.Bytes() != size {
		t.Errorf("%d bytes are in memory, %v", r.Bytes(), err)
	}
	if err := v.Advise(0, size, mmapio.AdviceDontNeed); err != nil {
		t.Fatal(err)
	}
	if r, err := v.Resident(0, size); err != nil || r.Bytes() != 0 {
		t.Errorf("%d bytes are in memory, %v", r.Bytes(), err)
	}
	if !bytes.Equal(v.Bytes(), patterned(size, 3)) {
		t.Error("other bytes after that")
	}
}

// A descriptor that reads ahead brings in more than was asked for.
func TestAdviseDescriptor(t *testing.T) {
	const size = 4 << 20
	name := onDisk(t, size)
	read := func(f *mmapio.File) int64 {
		evictName(t, name)
		if _, err := f.ReadAt(make([]byte, 100), 0); err != nil {
			t.Fatal(err)
		}
		var got int64
		waitFor(t, "reading ahead to end", func() bool {
			before := got
			got = resident(t, f, 0, size)
			return got > 0 && got == before
		})
		return got
	}
	page := int64(mmapio.PageSize())
	for _, mapping := range []mmapio.Mapping{mmapio.MapNever, mmapio.MapAuto} {
		normal := read(openControlled(t, name, os.O_RDONLY, mmapio.WithMapping(mapping)))
		if normal <= page {
			t.Skipf("reading ahead is off: %d bytes", normal)
		}
		f := openControlled(t, name, os.O_RDONLY, mmapio.WithMapping(mapping), mmapio.WithAdvice(mmapio.AdviceRandom))
		if got := read(f); got != page {
			t.Errorf("opened for random reads, %d bytes come in, otherwise %d", got, normal)
		}
		if err := f.Advise(0, math.MaxInt64, mmapio.AdviceNormal); err != nil {
			t.Fatal(err)
		}
		if got := read(f); got != normal {
			t.Errorf("back to normal, %d bytes come in, otherwise %d", got, normal)
		}
		if err := f.Advise(0, size/2, mmapio.AdviceRandom); err != nil {
			t.Fatal(err)
		}
		if got := read(f); got != normal {
			t.Errorf("a part being random, %d bytes come in, otherwise %d", got, normal)
		}
	}
	evictName(t, name)
	f := openControlled(t, name, os.O_RDONLY, mmapio.WithAdvice(mmapio.AdviceWillNeed))
	waitFor(t, "the bytes to be read", func() bool { return resident(t, f, 0, 64<<10) == 64<<10 })
}

func TestAdvisePopulate(t *testing.T) {
	needKernel(t, "advice has no effect")
	page := int64(mmapio.PageSize())
	size := 64 * page
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	blocks := func() int64 {
		var stat unix.Stat_t
		if err := unix.Stat(name, &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Blocks * 512
	}
	f := openControlled(t, name, os.O_RDWR)
	before := blocks()
	if err := f.Advise(page, 4*page, mmapio.AdvicePopulateRead); err != nil {
		if errors.Is(err, syscall.EINVAL) {
			t.Skipf("older than Linux 5.14: %v", err)
		}
		t.Fatal(err)
	}
	address, length := mmapio.MemoryOf(f)
	if got := smapsSum(t, address, length, "Rss"); got < 4*page {
		t.Errorf("%d bytes are mapped", got)
	}
	if got := blocks(); got != before {
		t.Errorf("reading took up %d bytes on the disk", got-before)
	}
	if err := f.Advise(page, 4*page, mmapio.AdvicePopulateWrite); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got < before+4*page {
		t.Errorf("holes took up only %d bytes on the disk", got-before)
	}
	if got := smapsSum(t, address, length, "Referenced"); got < 4*page {
		t.Errorf("%d bytes were used", got)
	}
	if err := f.Advise(0, math.MaxInt64, mmapio.AdviceCold); err != nil {
		t.Fatal(err)
	}
	if got := smapsSum(t, address, length, "Referenced"); got != 0 {
		t.Errorf("%d bytes are not cold", got)
	}
	readOnly := openControlled(t, name, os.O_RDONLY)
	if err := readOnly.Advise(0, page, mmapio.AdvicePopulateWrite); !isPathError(err, "advise", mmapio.ErrReadOnly) {
		t.Errorf("for storing, read-only: %v", err)
	}
	never := openControlled(t, name, os.O_RDWR, mmapio.WithMapping(mmapio.MapNever))
	for _, advice := range []mmapio.Advice{mmapio.AdvicePopulateRead, mmapio.AdviceCold, mmapio.AdviceHugePage, mmapio.AdviceDontDump} {
		if err := never.Advise(0, page, advice); !isPathError(err, "advise", errors.ErrUnsupported) {
			t.Errorf("%v, never mapped: %v", advice, err)
		}
	}
}

// lockedBytes returns how much of the memory of this process is locked.
func lockedBytes(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("no status: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmLck:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmLck")
	return 0
}

// skipWithoutLocks skips where the process may not lock n bytes.
func skipWithoutLocks(t testing.TB, n int) {
	t.Helper()
	memory, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	if err := unix.Mlock(memory); err != nil {
		t.Skipf("cannot lock %d bytes: %v", n, err)
	}
}

func TestLock(t *testing.T) {
	page := int64(mmapio.PageSize())
	size := 64 * page
	skipWithoutLocks(t, int(4*size))
	start := lockedBytes(t)
	f := openWarm(t, newFilled(t, int(size), 1))
	expect := func(when string, pages int64) {
		t.Helper()
		if got := lockedBytes(t) - start; got != pages*page {
			t.Errorf("%s: %d pages are locked, want %d", when, got/page, pages)
		}
		address, length := mmapio.MemoryOf(f)
		if got := smapsSum(t, address, length, "Locked"); got != pages*page {
			t.Errorf("%s: %d pages of the mapping are locked, want %d", when, got/page, pages)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("before", 0)
	do(f.Lock(3*page+1, 2*page))
	expect("unaligned range", 3)
	do(f.Lock(4*page, page))
	expect("the same again", 3)
	do(f.Unlock(4*page, 1))
	expect("unlocked in the middle", 2)
	do(f.Lock(10*page, 0))
	expect("no bytes", 2)
	do(f.Unlock(30*page, 10*page))
	expect("unlocked what is not locked", 2)
	mmapio.Unmap(f)
	if got := lockedBytes(t); got != start {
		t.Errorf("without a mapping, %d bytes are locked", got-start)
	}
	if !mmapio.MapNow(f) {
		t.Fatal("not mapped again")
	}
	expect("mapped again", 2)

	do(f.LockAll())
	expect("all", 64)
	_, err := f.WriteAt(make([]byte, page), size)
	do(err)
	mmapio.MapNow(f)
	expect("grown by a write", 65)
	do(f.Truncate(size * 2))
	expect("grown by Truncate", 128)
	do(f.Truncate(size))
	expect("cut", 64)
	do(f.UnlockAll())
	expect("nothing", 0)
	do(f.Truncate(size * 2))
	expect("grown without locks", 0)

	do(f.LockAll())
	v, err := f.View(page, 10*page)
	do(err)
	do(v.Lock(page, page))
	do(f.Close())
	if got := lockedBytes(t) - start; got != page {
		t.Errorf("after Close, with a View that has locked a page: %d pages", got/page)
	}
	v.Release()
	if got := lockedBytes(t); got != start {
		t.Errorf("at the end %d bytes are locked", got-start)
	}
}

// A file that grows inside its window keeps being locked as a whole.
func TestLockGrowth(t *testing.T) {
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, 16<<20)
	for _, options := range [][]mmapio.Option{nil, {mmapio.WithPreallocate(1 << 20)}} {
		start := lockedBytes(t)
		f := openWarm(t, newFilled(t, 4<<20, 1), options...)
		if err := f.LockAll(); err != nil {
			t.Fatal(err)
		}
		address, length := mmapio.MemoryOf(f)
		if length < 8<<20 {
			t.Skipf("the window has only %d bytes", length)
		}
		for at := int64(4 << 20); at < 6<<20; at += page / 2 {
			if _, err := f.WriteAt(make([]byte, page/2), at); err != nil {
				t.Fatal(err)
			}
		}
		if now, _ := mmapio.MemoryOf(f); now != address {
			t.Error("mapped anew")
		}
		if got := lockedBytes(t) - start; got != 6<<20 {
			t.Errorf("%d bytes are locked", got)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := lockedBytes(t); got != start {
			t.Errorf("after Close %d bytes are locked", got-start)
		}
	}
}

func TestLockOfEmptyFile(t *testing.T) {
	skipWithoutLocks(t, 1<<20)
	start := lockedBytes(t)
	f := openControlled(t, newFilled(t, 0, 1), os.O_RDWR)
	if err := f.LockAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 100_000), 0); err != nil {
		t.Fatal(err)
	}
	want := mmapio.AlignUp(100_000, int64(mmapio.PageSize()))
	if got := lockedBytes(t) - start; got != want {
		t.Errorf("%d bytes are locked, want %d", got, want)
	}
}

// A file that is appended to from its beginning is mapped, because it is to be locked.
func TestLockOfAppendedFile(t *testing.T) {
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, 1<<20)
	start := lockedBytes(t)
	f := openControlled(t, newFilled(t, 0, 1), os.O_RDWR)
	if err := f.LockAll(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := f.Write(make([]byte, page)); err != nil {
			t.Fatal(err)
		}
	}
	if got := (lockedBytes(t) - start) / page; got != 100 {
		t.Errorf("%d pages are locked, want 100", got)
	}
}

// What others have cut off is not to be locked.
func TestLockAfterCut(t *testing.T) {
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, int(16*page))
	start := lockedBytes(t)
	name := newFilled(t, int(16*page), 1)
	f := openWarm(t, name)
	if err := os.Truncate(name, 3*page); err != nil {
		t.Fatal(err)
	}
	if err := f.LockAll(); err != nil {
		t.Fatal(err)
	}
	if got := lockedBytes(t) - start; got != 3*page {
		t.Errorf("%d bytes are locked, want %d", got, 3*page)
	}
}

// A Lock that Close overtakes leaves nothing locked, also where a View keeps the memory.
func TestLockDuringClose(t *testing.T) {
	size := 16 * mmapio.PageSize()
	skipWithoutLocks(t, size)
	start := lockedBytes(t)
	f := openWarm(t, newFilled(t, size, 1))
	v, err := f.View(0, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	restore := mmapio.Intercept(func(name string) error {
		if name == "lock" {
			return f.Close()
		}
		return nil
	})
	err = f.LockAll()
	restore()
	if err != nil {
		t.Fatal(err)
	}
	if got := lockedBytes(t) - start; got != 0 {
		t.Errorf("after Close %d bytes are locked", got)
	}
}

// Advice to let go of memory passes over what is locked, where the kernel has EINVAL.
func TestAdviseLocked(t *testing.T) {
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, int(16*page))
	for _, advice := range []mmapio.Advice{mmapio.AdviceDontNeed, mmapio.AdviceCold, mmapio.AdvicePageOut} {
		f := openWarm(t, newFilled(t, int(16*page), 1))
		v, err := f.View(0, 16*page)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Release()
		if err := f.Lock(3*page, page); err != nil {
			t.Fatal(err)
		}
		if err := v.Lock(8*page, page); err != nil {
			t.Fatal(err)
		}
		if err := v.Prefault(0, 16*page); err != nil {
			t.Fatal(err)
		}
		for _, advise := range []func(off, n int64, advice mmapio.Advice) error{f.Advise, v.Advise} {
			if err := advise(0, 16*page, advice); err != nil {
				t.Errorf("%v: %v", advice, err)
			}
		}
		if advice == mmapio.AdviceDontNeed {
			address, length := mmapio.MemoryOf(f)
			if got := smapsSum(t, address, length, "Rss"); got != 2*page {
				t.Errorf("%v: %d pages stay mapped, want the 2 that are locked", advice, got/page)
			}
		}
	}
}

func TestLockOnFault(t *testing.T) {
	needKernel(t, "mlock2 is missing")
	page := int64(mmapio.PageSize())
	size := 64 * page
	skipWithoutLocks(t, int(size))
	name := newFilled(t, int(size), 1)
	f := openControlled(t, name, os.O_RDWR)
	if err := f.LockOnFault(page, 10*page); err != nil {
		t.Fatal(err)
	}
	address, length := mmapio.MemoryOf(f)
	if got, want := flaggedBytes(t, address, length, "lo"), [][2]uintptr{{uintptr(page), uintptr(11 * page)}}; !slices.Equal(got, want) {
		t.Errorf("locked: %v, want %v", got, want)
	}
	if got := smapsSum(t, address, length, "Locked"); got != 0 {
		t.Errorf("%d bytes are locked already", got)
	}
	if err := f.Prefault(2*page, 3*page); err != nil {
		t.Fatal(err)
	}
	if got := smapsSum(t, address, length, "Locked"); got < 3*page || got > 10*page {
		t.Errorf("%d bytes are locked after 3 pages were used", got)
	}
}

// Several Views of the same bytes, and the File, lock them independently.
func TestLockViews(t *testing.T) {
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, int(64*page))
	start := lockedBytes(t)
	f := openWarm(t, newFilled(t, int(64*page), 1))
	expect := func(when string, pages int64) {
		t.Helper()
		if got := lockedBytes(t) - start; got != pages*page {
			t.Errorf("%s: %d pages are locked, want %d", when, got/page, pages)
		}
	}
	var views [2]*mmapio.View
	for i := range views {
		v, err := f.View(int64(10*i)*page, 20*page)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.LockAll(); err != nil {
			t.Fatal(err)
		}
		views[i] = v
	}
	expect("two Views", 30)
	if err := f.Lock(0, page); err != nil {
		t.Fatal(err)
	}
	views[0].Release()
	expect("one View released", 21)
	if err := f.Lock(10*page, page); err != nil {
		t.Fatal(err)
	}
	if err := views[1].Unlock(0, 2*page); err != nil {
		t.Fatal(err)
	}
	expect("unlocked in part", 20)
	if err := f.UnlockAll(); err != nil {
		t.Fatal(err)
	}
	expect("unlocked the File", 18)
	if err := views[1].UnlockAll(); err != nil {
		t.Fatal(err)
	}
	expect("unlocked all", 0)
	views[1].Release()

	never := openControlled(t, f.Name(), os.O_RDWR, mmapio.WithMapping(mmapio.MapNever))
	if err := never.Lock(0, page); !isPathError(err, "lock", errors.ErrUnsupported) {
		t.Errorf("never mapped: %v", err)
	}
	v, err := never.View(page+5, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.LockAll(); err != nil {
		t.Fatal(err)
	}
	expect("a View that is mapped alone", 1)
	v.Release()
	expect("released", 0)
}

// A lock that fails half-way leaves nothing locked.
func TestLockOfCutFile(t *testing.T) {
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, int(64*page))
	start := lockedBytes(t)
	f := openWarm(t, newFilled(t, int(64*page), 1))
	v, err := f.View(0, 64*page)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if err := v.Lock(0, page); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(f.Name(), 10*page); err != nil {
		t.Fatal(err)
	}
	if err := v.LockAll(); !isPathError(err, "lock", syscall.ENOMEM) {
		t.Errorf("behind the end: %v", err)
	}
	if got := lockedBytes(t) - start; got != page {
		t.Errorf("%d bytes are locked", got)
	}
}

// A locked file is not pushed out by others.
func TestLockedFilesStayMapped(t *testing.T) {
	skipWithoutLocks(t, 1<<20)
	waitFor(t, "the mappings of other tests to be given back", func() bool {
		runtime.GC()
		inUse, all := mmapio.Mappings()
		return all == inUse && inUse < 2
	})
	defer mmapio.SetBudget(8, 1<<40)()
	locked := openControlled(t, newFilled(t, 10_000, 1), os.O_RDWR)
	other := openControlled(t, newFilled(t, 10_000, 1), os.O_RDWR)
	if err := locked.LockAll(); err != nil {
		t.Fatal(err)
	}
	if !mmapio.MapNow(other) {
		t.Fatal("not mapped")
	}
	waitFor(t, "the other file to lose its mapping", func() bool {
		f := openControlled(t, newFilled(t, 10_000, 1), os.O_RDWR)
		mmapio.MapNow(f)
		time.Sleep(time.Millisecond) // mappings keep their place for a second
		return !mmapio.IsMapped(other)
	})
	if !mmapio.IsMapped(locked) {
		t.Error("the locked file lost its mapping too")
	}
}

func init() {
	aloneRuns["lock limit"] = lockLimit
	aloneRuns["hidden residency"] = hiddenResidency
}

const nobody = 65534

func lockLimit(arguments []string) error {
	f, err := mmapio.OpenFile(arguments[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	limit := uint64(8 * mmapio.PageSize())
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return errSkip(err.Error())
	}
	if err := syscall.Setuid(nobody); err != nil {
		return errSkip(err.Error())
	}
	err = f.Lock(0, math.MaxInt64)
	if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("beyond the limit: %v", err)
	}
	if _, ok := errors.AsType[*fs.PathError](err); !ok || !strings.Contains(err.Error(), "ulimit -l") {
		return fmt.Errorf("the error does not help: %v", err)
	}
	if err := f.Lock(0, int64(limit)); err != nil {
		return fmt.Errorf("up to the limit, after one that failed: %w", err)
	}
	b := make([]byte, 100)
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, patterned(100, 1)) {
		return fmt.Errorf("read %v, %v", b, err)
	}
	return nil
}

func TestLockLimit(t *testing.T) {
	runChild(t, "lock limit", newFilled(t, 1<<20, 1))
}

func hiddenResidency(arguments []string) error {
	if err := syscall.Setuid(nobody); err != nil {
		return errSkip(err.Error())
	}
	f, err := mmapio.Open(arguments[0])
	if err != nil {
		return errSkip(err.Error())
	}
	defer f.Close()
	r, err := f.Resident(0, math.MaxInt64)
	if _, ok := errors.AsType[*fs.PathError](err); !ok || !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%d bytes, %v", r.Bytes(), err)
	}
	return nil
}

func TestResidencyIsHidden(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // this test's own
		t.Fatal(err)
	}
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, patterned(1<<20, 1), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir := name; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o005 == 0 && info.Mode().Perm()&0o004 == 0 {
			t.Skipf("others cannot get at %s: %v", dir, err)
		}
	}
	runChild(t, "hidden residency", name)
}

// TestResidentForRoot asks as root about a file of somebody else, opened for reading only.
func TestResidentForRoot(t *testing.T) {
	const size = 4 << 20
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, patterned(size, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	f := openControlled(t, name, os.O_RDWR)
	if err := f.Advise(0, size/2, mmapio.AdviceDontNeed); err != nil {
		t.Skipf("nothing can be evicted here: %v", err)
	}
	want := residentPagesOf(t, file, size)
	if err := os.Chown(name, 12345, 12345); err != nil {
		t.Skipf("this user may not give files away: %v", err)
	}
	asked := openControlled(t, name, os.O_RDONLY)
	got, err := asked.Resident(0, size)
	if err != nil {
		t.Fatal(err)
	}
	out := 0
	for page, in := range want {
		if !in {
			out++
		}
		if got.Has(int64(page)) != in {
			t.Errorf("page %d is in memory: %v, want %v", page, !in, in)
		}
	}
	if out == 0 {
		t.Skip("everything has stayed in memory")
	}
}

// TestResidentOnOverlay asks about a file of an overlay, as its owner. Opened for reading only
// it may be that of the lower layer, which reads no longer come from once somebody has written
// to it: that is unknown, not hidden.
func TestResidentOnOverlay(t *testing.T) {
	const size = 1 << 20
	all := overlay(t, map[string][]byte{"lower/lower": patterned(size, 1), "upper/upper": patterned(size, 1)})
	for _, layer := range []string{"lower", "upper"} {
		name := filepath.Join(all, layer)
		readOnly := openControlled(t, name, os.O_RDONLY)
		if r, err := readOnly.Resident(0, size); !isPathError(err, "resident", errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s, read-only: %d bytes, %v", layer, r.Bytes(), err)
		}
		v := viewOf(t, readOnly, 0, size)
		if r, err := v.Resident(0, size); !isPathError(err, "resident", errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s, a View, read-only: %d bytes, %v", layer, r.Bytes(), err)
		}
		v.Release()

		f := openControlled(t, name, os.O_RDWR) // which brings it into the upper layer
		if err := errors.Join(f.Sync(), f.Advise(0, size/2, mmapio.AdviceDontNeed)); err != nil {
			t.Fatal(err)
		}
		under, err := os.Open(filepath.Join(filepath.Dir(all), "upper", layer))
		if err != nil {
			t.Fatal(err)
		}
		defer under.Close()
		want := residentPagesOf(t, under, size)
		got, err := f.Resident(0, size)
		if err != nil {
			t.Fatal(err)
		}
		for page, in := range want {
			if got.Has(int64(page)) != in {
				t.Errorf("%s: page %d is in memory: %v, want %v", layer, page, !in, in)
				break
			}
		}
	}
}

func TestResident(t *testing.T) {
	const size = 100<<20 + 100 // more than is mapped at once to ask
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, off := range []int64{0, 5000, 63<<20 + 10, 64 << 20, 96<<20 - 1, size - 50} {
		if _, err := file.WriteAt(make([]byte, 50), off); err != nil {
			t.Fatal(err)
		}
	}
	want := residentPagesOf(t, file, size)
	page := int64(mmapio.PageSize())
	for _, mapped := range []bool{false, true} {
		f := openControlled(t, name, os.O_RDWR)
		if mapped && !mmapio.MapNow(f) {
			t.Fatal("not mapped")
		}
		for _, r := range [][2]int64{{0, math.MaxInt64}, {0, 1}, {page + 1, page}, {63 << 20, 2 << 20}, {64<<20 - 1, 2}, {size - 1, 100}, {0, 0}, {size, 10}, {math.MaxInt64, math.MaxInt64}} {
			got, err := f.Resident(r[0], r[1])
			if err != nil {
				t.Fatal(err)
			}
			from, to := min(r[0], size), min(r[0]+min(r[1], math.MaxInt64-r[0]), size)
			var inMemory, pages int64
			for at := from / page * page; from < to && at < to; at += page {
				if has := got.Has(pages); has != want[at/page] {
					t.Errorf("mapped %v, %v: page at %d is in memory: %v", mapped, r, at, has)
				}
				if want[at/page] {
					inMemory += min(at+page, to) - max(at, from)
				}
				pages++
			}
			if got.Bytes() != inMemory || got.Pages() != pages || got.Has(pages) || got.Has(-1) || got.PageSize() != int(page) {
				t.Errorf("mapped %v, %v: %d bytes and %d pages, want %d and %d", mapped, r, got.Bytes(), got.Pages(), inMemory, pages)
			}
		}
		if mmapio.IsMapped(f) != mapped {
			t.Error("asking has mapped the file")
		}
		v, err := f.View(5000, 100)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Resident(10, 20); err != nil || got.Bytes() != 20 {
			t.Errorf("of a View: %d bytes, %v", got.Bytes(), err)
		}
		v.Release()
	}
	if after := residentPagesOf(t, file, size); !slices.Equal(after, want) {
		t.Error("asking has read pages in")
	}
}

func TestPrefault(t *testing.T) {
	needKernel(t, "advice has no effect")
	const size = 8<<20 + 100
	name := onDisk(t, size)
	for _, mapping := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways, mmapio.MapNever} {
		t.Run(fmt.Sprint(mapping), func(t *testing.T) {
			evictName(t, name)
			f := openControlled(t, name, os.O_RDONLY, mmapio.WithMapping(mapping))
			if err := f.Prefault(1<<20, 1<<20); err != nil {
				t.Fatal(err)
			}
			if got := resident(t, f, 1<<20, 1<<20); got != 1<<20 {
				t.Errorf("%d bytes are in memory", got)
			}
			if mapping != mmapio.MapNever && (!mmapio.IsKnown(f, 1<<20, 1<<20) || mmapio.IsKnown(f, 4<<20, 1)) {
				t.Error("the reads that follow are no copies, or all are")
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			evictName(t, name)
			f = openControlled(t, name, os.O_RDONLY, mmapio.WithMapping(mapping), mmapio.WithPrefault())
			if got := resident(t, f, 0, math.MaxInt64); got != size {
				t.Errorf("opened, %d bytes are in memory", got)
			}
			if mapping != mmapio.MapNever && !mmapio.IsKnown(f, 0, size) {
				t.Error("opened, the reads that follow are no copies")
			}
		})
	}
}

// What is in memory is mapped without populating it, and that is safe when it is cut off
// meanwhile.
func TestPrefaultInMemory(t *testing.T) {
	const size = 4<<20 + 100
	name := onDisk(t, size)
	if _, err := os.ReadFile(name); err != nil { // now it is in memory
		t.Fatal(err)
	}
	f := openControlled(t, name, os.O_RDONLY, mmapio.WithMapping(mmapio.MapAlways))
	populated := 0
	cut := false
	defer mmapio.Intercept(func(call string) error {
		switch {
		case call == "populateRead":
			populated++
		case call == "pageStates" && cut:
			if err := os.Truncate(name, 1<<20); err != nil {
				t.Error(err)
			}
			return mmapio.ErrLie
		}
		return nil
	})()
	if err := f.Prefault(0, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	address, length := mmapio.MemoryOf(f)
	if got := smapsSum(t, address, length, "Rss"); got < size {
		t.Errorf("%d bytes are mapped", got)
	}
	if populated > 0 || !mmapio.IsKnown(f, 0, size) {
		t.Errorf("populated %d times, known %t", populated, mmapio.IsKnown(f, 0, size))
	}

	cut = true // meanwhile
	if err := f.Prefault(0, math.MaxInt64); err != nil {
		t.Errorf("cut meanwhile: %v", err)
	}
	if populated == 0 {
		t.Error("what faults was not populated")
	}
}

// What is known to be in memory and is not any more is brought in by system calls, and what is
// known of other files stays known.
func TestPrefaultEvicted(t *testing.T) {
	const size = 32 << 20
	name := onDisk(t, size)
	f := openControlled(t, name, os.O_RDONLY, mmapio.WithMapping(mmapio.MapAlways))
	if err := f.Prefault(0, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if err := mmapio.PageOut(f); err != nil {
		t.Skipf("memory cannot be paged out: %v", err)
	}
	if left := resident(t, f, 0, size); left > size/16 {
		t.Skipf("%d bytes stay in memory", left)
	}
	if !mmapio.IsKnown(f, 0, size) {
		t.Fatal("nothing is known that is wrong")
	}
	other := openControlled(t, onDisk(t, 1<<20), os.O_RDONLY, mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPrefault())
	before := mmapio.MajorFaults()
	if err := f.Prefault(0, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if got := resident(t, f, 0, size); got != size {
		t.Errorf("%d bytes are in memory", got)
	}
	if faults := mmapio.MajorFaults() - before; faults > size/int64(os.Getpagesize())/32 {
		t.Errorf("%d major faults: pages were waited for", faults)
	}
	if !mmapio.IsKnown(other, 0, 1<<20) {
		t.Error("what is known of another file was forgotten")
	}
}

// Who prefaults learns that others have cut the file: what is written behind the new end then
// is in the file.
func TestPrefaultFindsCut(t *testing.T) {
	const size = 1 << 20
	for _, prefault := range []int64{10, size, math.MaxInt64} {
		name := onDisk(t, size)
		f := openControlled(t, name, os.O_RDWR, mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPrefault())
		if err := os.Truncate(name, 100); err != nil {
			t.Fatal(err)
		}
		if err := f.Prefault(0, prefault); err != nil {
			t.Errorf("Prefault(0, %d) of a file that was cut: %v", prefault, err)
		}
		if n, err := f.ReadAt(make([]byte, 100), 50); n != 50 || err != io.EOF {
			t.Errorf("after Prefault(0, %d) 50 bytes read as %d, %v", prefault, n, err)
		}
		if n, err := f.WriteAt([]byte("is not lost"), 200); n != 11 || err != nil {
			t.Fatal(n, err)
		}
		if content, err := os.ReadFile(name); err != nil || len(content) != 211 || string(content[200:]) != "is not lost" {
			t.Errorf("after Prefault(0, %d) the file has %d bytes, %v", prefault, len(content), err)
		}
	}
}

// lockLists are lists of what FuzzLock does, four bytes each.
func lockLists(count int) (lists [][]byte) {
	for seed := range count {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		list := make([]byte, 4*40)
		for i := range list {
			list[i] = byte(random.Uint32())
		}
		lists = append(lists, list)
	}
	return lists
}

// FuzzLock locks and unlocks any ranges of a File and of two Views that overlap, and asks the
// kernel for the pages that are locked: those that one of the three wants to be.
func FuzzLock(f *testing.F) {
	for i, list := range lockLists(6) {
		f.Add(i%2 == 0, list)
	}
	f.Fuzz(func(t *testing.T, private bool, list []byte) {
		const pages = 40
		page := int64(os.Getpagesize())
		var options []mmapio.Option
		if private {
			options = append(options, mmapio.WithCopyOnWrite())
		}
		file := openFor(t, newFilled(t, int(pages*page-5), 1), os.O_RDWR, options...)
		if !mmapio.MapNow(file) {
			t.Fatal("not mapped")
		}
		address, _ := mmapio.MemoryOf(file)
		whole, part := viewOf(t, file, 5, pages*page-10), viewOf(t, file, 10*page+7, 10*page)
		holders := []struct {
			lock, unlock func(off, n int64) error
			from, length int64
			wants        [pages]bool
		}{
			{lock: file.Lock, unlock: file.Unlock, length: pages*page - 5},
			{lock: whole.Lock, unlock: whole.Unlock, from: 5, length: pages*page - 10},
			{lock: part.Lock, unlock: part.Unlock, from: 10*page + 7, length: 10 * page},
		}
		compare := func(when string) {
			t.Helper()
			var got, want [pages]bool
			for _, flagged := range flaggedBytes(t, address, uintptr(pages*page), "lo") {
				for at := flagged[0]; at < flagged[1]; at += uintptr(page) {
					got[at/uintptr(page)] = true
				}
			}
			for i := range want {
				want[i] = holders[0].wants[i] || holders[1].wants[i] || holders[2].wants[i]
			}
			if got != want {
				t.Fatalf("%s: locked\n%v, want\n%v", when, got, want)
			}
		}
		for ; len(list) >= 4; list = list[4:] {
			who := int(list[0]>>1) % 3
			h := &holders[who]
			off := int64(list[1]) * h.length / 256
			n := max(1, int64(list[2])*(h.length-off)/256+int64(list[3])%3-1)
			n = min(n, h.length-off)
			locks := list[0]&1 == 0
			change := h.unlock
			if locks {
				change = h.lock
			}
			if err := change(off, n); errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EPERM) || errors.Is(err, errors.ErrUnsupported) {
				t.Skipf("cannot lock: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			for i := (h.from + off) / page; i <= (h.from+off+n-1)/page; i++ {
				h.wants[i] = locks
			}
			compare(fmt.Sprintf("holder %d, %d bytes at %d, locked: %v", who, n, off, locks))
		}
		whole.Release()
		part.Release()
		holders[1].wants, holders[2].wants = [pages]bool{}, [pages]bool{}
		compare("the Views are released")
	})
}

// viewControl is a control of a View of 8 pages.
type viewControl struct {
	name    string
	prepare func(v *mmapio.View) error // before any call fails
	call    func(v *mmapio.View) error
	stays   bool // an error stays with the File
}

func viewControls() (all []viewControl) {
	page := int64(mmapio.PageSize())
	for _, advice := range everyAdvice {
		if advice == mmapio.AdviceCollapse {
			continue // whether it can be done is not for the test to say
		}
		all = append(all, viewControl{name: "Advise " + advice.String(), call: func(v *mmapio.View) error { return v.Advise(page+1, 4*page, advice) }})
	}
	// What the View has locked of its own in the middle divides what is to be unlocked.
	lockTwice := func(v *mmapio.View) error { return errors.Join(v.Lock(0, page), v.Lock(3*page, 2*page)) }
	return append(all,
		viewControl{name: "Advise cold around locks", prepare: lockTwice, call: func(v *mmapio.View) error { return v.Advise(0, 8*page, mmapio.AdviceCold) }},
		viewControl{name: "Lock", call: func(v *mmapio.View) error { return v.Lock(page+1, 2*page) }},
		viewControl{name: "Lock more", prepare: lockTwice, call: func(v *mmapio.View) error { return v.LockAll() }},
		viewControl{name: "LockOnFault", call: func(v *mmapio.View) error { return v.LockOnFault(page+1, 2*page) }},
		viewControl{name: "Unlock", prepare: lockTwice, call: func(v *mmapio.View) error { return v.Unlock(0, 4*page) }},
		viewControl{name: "UnlockAll", prepare: lockTwice, call: func(v *mmapio.View) error { return v.UnlockAll() }},
		viewControl{name: "Prefault", call: func(v *mmapio.View) error { return v.Prefault(page+1, 6*page) }},
		viewControl{name: "Flush", call: func(v *mmapio.View) error { return v.Flush() }, stays: true},
		viewControl{name: "FlushRange", call: func(v *mmapio.View) error { return v.FlushRange(page+1, 2*page) }, stays: true},
	)
}

// hints are the calls to the system that can fail without an error: there is another way, or
// nobody has asked for what they do.
var hints = map[string]bool{
	"resident": true, "pageStates": true, "majorFaults": true, "readAhead": true, "populateRead": true, "stamp": true,
}

// TestViewControlsFailOnce has each call to the system fail once that a control of a View
// makes: the first, the second and so on. The error comes back, nothing stays locked or
// mapped, and the next time it works.
func TestViewControlsFailOnce(t *testing.T) {
	needKernel(t, "advice has no effect")
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, int(32*page))
	size := 16 * page
	content := patterned(int(size), 1)
	start := lockedBytes(t)
	failed := 0
	for _, kind := range []struct {
		name    string
		options []mmapio.Option
	}{
		{"mapped", []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}},
		{"alone", []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}},
		{"private", []mmapio.Option{mmapio.WithCopyOnWrite()}},
	} {
		for _, c := range viewControls() {
			t.Run(kind.name+"/"+c.name, func(t *testing.T) {
				name := newFilled(t, int(size), 1)
				// try does it with the call of that number failing, and returns which it was.
				// 0 is none.
				try := func(number int, failure error) (failing string) {
					f := openFor(t, name, os.O_RDWR, kind.options...)
					v := viewOf(t, f, page, 8*page)
					if c.prepare != nil {
						if err := c.prepare(v); err != nil {
							t.Skipf("cannot be prepared: %v", err)
						}
					}
					locked := lockedBytes(t)
					calls := 0
					restore := mmapio.Intercept(func(name string) error {
						if name == "unmap" || name == "majorFaults" {
							return nil // those of others
						}
						if calls++; calls == number {
							failing = name
							return failure
						}
						return nil
					})
					err := c.call(v)
					restore()
					what := fmt.Sprintf("%s (call %d) fails with %v", failing, number, failure)
					switch _, isPathError := errors.AsType[*fs.PathError](err); {
					case failing == "" && err != nil:
						t.Skip(err) // this kernel, or this file system
					case failing != "" && !hints[failing] && !errors.Is(err, failure), err != nil && !isPathError,
						hints[failing] && err != nil && !errors.Is(err, failure):
						t.Errorf("%s: %v", what, err)
					}
					if now := lockedBytes(t); err != nil && now > locked {
						t.Errorf("%s: %d bytes more are locked", what, now-locked)
					}
					switch again := c.call(v); {
					case err != nil && c.stays:
						if !errors.Is(again, failure) {
							t.Errorf("%s: again: %v", what, again)
						}
					case again != nil:
						t.Errorf("%s: again: %v", what, again)
					case c.name == "UnlockAll":
						if now := lockedBytes(t); now != start {
							t.Errorf("%s: unlocked again, %d bytes are locked", what, now-start)
						}
					}
					if !bytes.Equal(v.Bytes(), content[page:9*page]) {
						t.Errorf("%s: the View shows other bytes", what)
					}
					if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
						t.Errorf("%s: other bytes in the file: %v", what, err)
					}
					v.Release()
					if now := lockedBytes(t); now != start {
						t.Errorf("%s: released, %d bytes are locked", what, now-start)
					}
					if err := f.Close(); err != nil && !(c.stays && errors.Is(err, failure)) {
						t.Errorf("%s: Close: %v", what, err)
					}
					if inMaps(t, name) {
						t.Errorf("%s: released, it stays mapped", what)
					}
					return failing
				}
				try(0, nil)
				for _, failure := range []error{syscall.EIO, syscall.ENOMEM, syscall.EAGAIN} {
					for number := 1; try(number, failure) != ""; number++ {
						failed++
					}
				}
			})
		}
	}
	t.Logf("%d calls have failed", failed)
	if failed < 50 {
		t.Errorf("only %d calls have failed", failed)
	}
}

// What could not be unlocked is unlocked the next time, and nobody's when who locked it is
// gone.
func TestUnlockFails(t *testing.T) {
	page := int64(mmapio.PageSize())
	skipWithoutLocks(t, int(32*page))
	start := lockedBytes(t)
	f := openWarm(t, newFilled(t, int(16*page), 1))
	expect := func(when string, pages int64) {
		t.Helper()
		if got := lockedBytes(t) - start; got != pages*page {
			t.Errorf("%s: %d bytes are locked, want %d pages", when, got, pages)
		}
	}
	failing := func(do func()) {
		t.Helper()
		failed := false
		defer mmapio.Intercept(func(name string) error {
			if name != "unlock" {
				return nil
			}
			failed = true
			return syscall.EAGAIN
		})()
		if do(); !failed {
			t.Error("nothing was unlocked")
		}
	}
	if err := errors.Join(f.Lock(0, page), f.Lock(4*page, 2*page)); err != nil {
		t.Fatal(err)
	}
	failing(func() {
		if err := f.UnlockAll(); !isPathError(err, "unlock", syscall.EAGAIN) {
			t.Errorf("unlocking fails: %v", err)
		}
	})
	expect("failed", 3)
	if err := f.UnlockAll(); err != nil {
		t.Error(err)
	}
	expect("the next time", 0)

	first, second := viewOf(t, f, 0, 4*page), viewOf(t, f, 0, 8*page)
	if err := first.LockAll(); err != nil {
		t.Fatal(err)
	}
	failing(first.Release)
	expect("released in vain", 4)
	if err := errors.Join(second.LockAll(), second.UnlockAll()); err != nil {
		t.Error(err)
	}
	expect("locked and unlocked by another View", 0)

	if err := f.LockAll(); err != nil {
		t.Fatal(err)
	}
	failing(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	expect("closed in vain", 16)
	if err := errors.Join(second.LockAll(), second.UnlockAll()); err != nil {
		t.Error(err)
	}
	expect("locked and unlocked by a View after Close", 8)
	second.Release()
	expect("released", 0)
}
