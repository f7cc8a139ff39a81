package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

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
	needKernel(t, "there are no huge pages")
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

// What is more than is looked at when a file is mapped is made huge by Prefault.
func TestHugePagesPrefaulted(t *testing.T) {
	needKernel(t, "there are no huge pages")
	const atOnce = 64 << 20
	size := atOnce + 4*hugeSize
	name := filepath.Join(hugeTmpfs(t, "advise"), "file")
	if err := os.WriteFile(name, patterned(int(size), 1), 0o666); err != nil {
		t.Fatal(err)
	}
	f := openControlled(t, name, os.O_RDWR, mmapio.WithHugePages())
	if !mmapio.MapNow(f) {
		t.Fatal("not mapped")
	}
	if got := hugeBytes(t, f); got != atOnce {
		t.Errorf("mapped, %d bytes are huge", got)
	}
	if err := f.Prefault(atOnce, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if got := hugeBytes(t, f); got != size {
		t.Errorf("brought in, %d of %d bytes are huge", got, size)
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
	var f *mmapio.File
	for attempt := 1; ; attempt++ {
		evictName(t, name)
		mmapio.CheckPressure() // what was before does not count
		f = openControlled(t, name, os.O_RDONLY, mmapio.WithHugePages(), mmapio.WithPrefault())
		if !mmapio.CheckPressure() && mmapio.IsKnown(f, 0, int(size)) {
			break
		}
		if attempt == 5 { // not by chance
			t.Fatal("what is brought in is taken for a sign of pressure, and forgotten")
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got := hugeBytes(t, f)
	t.Logf("%d of %d bytes are huge, %d if nobody asks", got, size, n)
	if v, err := f.View(0, size); err != nil || !bytes.Equal(v.Bytes(), patterned(int(size), 3)) {
		t.Errorf("other bytes, %v", err)
	} else {
		v.Release()
	}
}

const poolOfHugePages = "/proc/sys/vm/nr_hugepages"

// Memory lies so that what is aligned in the file can be mapped as a huge page.
func TestMappingsAreAligned(t *testing.T) {
	name := newFilled(t, 1, 1)
	if err := os.Truncate(name, 20<<20+5); err != nil {
		t.Fatal(err)
	}
	for i := range int64(8) {
		mapped, alone := openFor(t, name, os.O_RDWR), openFor(t, name, os.O_RDWR, mmapio.WithMapping(mmapio.MapNever))
		for _, v := range []*mmapio.View{viewOf(t, mapped, i*5000, 3<<20), viewOf(t, alone, 1<<20+i*100_000, 3<<20)} {
			address := uintptr(unsafe.Pointer(unsafe.SliceData(v.Bytes())))
			if (address-uintptr(v.Offset()))%mmapio.HugeAlign != 0 {
				t.Errorf("what is at %#x in the file is at %#x in memory", v.Offset(), address)
			}
		}
	}
}

// hugetlbfs returns a folder where all pages are huge, with so many of them.
func hugetlbfs(t testing.TB, pages int) string {
	t.Helper()
	pool, err := os.Open(poolOfHugePages)
	if err != nil {
		t.Skipf("no huge pages: %v", err)
	}
	t.Cleanup(func() { pool.Close() })
	// Another process that runs this test must not take our number for that of before.
	if err := unix.Flock(int(pool.Fd()), unix.LOCK_EX); err != nil {
		t.Skipf("cannot have the huge pages for ourselves: %v", err)
	}
	before, err := os.ReadFile(poolOfHugePages)
	if err != nil {
		t.Fatal(err)
	}
	set := func(text string) error { return os.WriteFile(poolOfHugePages, []byte(text), 0) }
	if err := set(strconv.Itoa(pages)); err != nil {
		t.Skipf("cannot set aside huge pages: %v", err)
	}
	t.Cleanup(func() {
		if err := set(string(before)); err != nil {
			t.Error(err)
		}
	})
	if now, err := os.ReadFile(poolOfHugePages); err != nil || strings.TrimSpace(string(now)) != strconv.Itoa(pages) {
		t.Skipf("only %s huge pages can be had, %v", now, err)
	}
	dir := t.TempDir()
	if err := unix.Mount("hugetlbfs", dir, "hugetlbfs", 0, ""); err != nil {
		t.Skipf("cannot mount a hugetlbfs: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func hugePageIn(t testing.TB, dir string) int64 {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Bsize)
}

func TestHugetlbfs(t *testing.T) {
	needKernel(t, "there are no huge pages")
	dir := hugetlbfs(t, 64) // enough for a mapping that reaches too far
	page := hugePageIn(t, dir)
	for _, mapping := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways, mmapio.MapNever} {
		name := filepath.Join(dir, "file")
		f, err := mmapio.Create(name, mmapio.WithMapping(mapping), mmapio.WithSize(4*page), mmapio.WithHugePages())
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 4*page)
		expect := func(when string) {
			t.Helper()
			got := make([]byte, len(want)+1)
			if n, err := f.ReadAt(got, 0); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
				t.Fatalf("%s: read %d bytes, %v", when, n, err)
			}
		}
		expect("empty")
		writeAt := func(n, seed int, off int64) {
			t.Helper()
			b := patterned(n, seed)
			if m, err := f.WriteAt(b, off); m != n || err != nil {
				t.Fatalf("wrote %d of %d bytes at %d: %v", m, n, off, err)
			}
			copy(want[off:], b)
		}
		for i := range 40 {
			writeAt(1000+i, i, int64(i)*150_000)
		}
		expect("written at offsets")
		if at, err := f.Seek(page-500, io.SeekStart); at != page-500 || err != nil {
			t.Fatal(at, err)
		}
		for i := range 40 {
			b := patterned(700, 50+i)
			if n, err := f.Write(b); n != len(b) || err != nil {
				t.Fatalf("wrote %d bytes: %v", n, err)
			}
			copy(want[page-500+int64(700*i):], b)
		}
		if at, err := f.Seek(0, io.SeekCurrent); at != page-500+700*40 || err != nil {
			t.Errorf("the position is %d, %v", at, err)
		}
		expect("written in sequence")
		if n, err := f.ReadFrom(bytes.NewReader(patterned(100_000, 99))); n != 100_000 || err != nil {
			t.Errorf("copied %d bytes: %v", n, err)
		}
		copy(want[page-500+700*40:], patterned(100_000, 99))
		expect("copied")
		if n, err := f.WriteAt([]byte("long"), 4*page-2); n != 0 || err == nil || !strings.Contains(err.Error(), "Truncate") {
			t.Errorf("past the end: %d, %v", n, err)
		}

		v, err := f.View(page+5, page)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(v.Bytes(), want[page+5:2*page+5]) {
			t.Error("a View shows other bytes")
		}
		if _, err := v.WriteAt([]byte("view"), 10); err != nil {
			t.Error(err)
		}
		copy(want[page+15:], "view")
		if err := v.Flush(); err != nil {
			t.Error(err)
		}
		for _, advice := range []mmapio.Advice{mmapio.AdviceSequential, mmapio.AdviceNormal, mmapio.AdviceWillNeed, mmapio.AdviceDontDump} {
			if err := v.Advise(0, 10, advice); err != nil {
				t.Error(err)
			}
		}
		if err := v.LockAll(); err != nil {
			t.Error(err)
		}
		if n, err := v.HugePages(); n == 0 || err != nil {
			t.Errorf("%d bytes of a View are huge, %v", n, err)
		}
		v.Release()
		expect("viewed")
		var chunks []byte
		all := f.Chunks(300_000)
		for _, chunk := range all.All() {
			chunks = append(chunks, chunk...)
		}
		if err := all.Err(); err != nil || !bytes.Equal(chunks, want) {
			t.Errorf("%d bytes in chunks, %v", len(chunks), err)
		}
		if mapping != mmapio.MapNever {
			if err := f.Prefault(0, math.MaxInt64); err != nil {
				t.Error(err)
			}
			if got := hugeBytes(t, f); got != 4*page {
				t.Errorf("%d bytes are huge", got)
			}
			address, length := mmapio.MemoryOf(f)
			if err := f.Advise(page+1, 1, mmapio.AdviceDontDump); err != nil {
				t.Error(err)
			}
			if got, want := flaggedBytes(t, address, length, "dd"), [][2]uintptr{{uintptr(page), uintptr(2 * page)}}; !slices.Equal(got, want) {
				t.Errorf("not to be dumped: %v, want %v", got, want)
			}
			if err := f.Lock(5, 10); err != nil {
				t.Error(err)
			}
			if !mmapio.IsKnown(f, 0, int(4*page)) {
				t.Error("not known to be in memory")
			}
		}

		if err := f.Truncate(page + 4096); !isPathError(err, "truncate", syscall.EINVAL) {
			t.Errorf("half a page: %v", err)
		}
		if err := f.Truncate(6 * page); err != nil {
			t.Fatal(err)
		}
		want = append(want, make([]byte, 2*page)...)
		expect("grown")
		writeAt(1000, 7, 6*page-1000)
		expect("grown and written")
		if err := f.Truncate(2 * page); err != nil {
			t.Fatal(err)
		}
		want = want[:2*page]
		expect("cut")
		writeAt(1000, 8, 2*page-1000)
		expect("cut and written")
		if err := f.Flush(); err != nil {
			t.Error(err)
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("others see other bytes, %v", err)
		}
		if _, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithPreallocate(page)); !isPathError(err, "open", errors.ErrUnsupported) {
			t.Errorf("preallocating: %v", err)
		}
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// A private copy of a file on hugetlbfs: whole huge pages become its own, and are given back
// as such; Commit writes them through a mapping.
func TestHugetlbfsCopyOnWrite(t *testing.T) {
	dir := hugetlbfs(t, 64)
	page := hugePageIn(t, dir)
	name := filepath.Join(dir, "file")
	disk := patterned(int(4*page), 1)
	created, err := mmapio.Create(name, mmapio.WithSize(4*page))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(all(len(disk))(created.WriteAt(disk, 0)), created.Close()); err != nil {
		t.Fatal(err)
	}
	f := openPrivate(t, name, os.O_RDWR)
	want := bytes.Clone(disk)
	expect := func(when string) {
		t.Helper()
		got := make([]byte, len(want))
		for off := 0; off < len(got); off += 50_000 { // system calls first, copies of memory then
			if _, err := f.ReadAt(got[off:min(off+50_000, len(got))], int64(off)); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: other bytes", when)
		}
		chunks := f.Chunks(300_000) // of memory
		got = got[:0]
		for _, chunk := range chunks.All() {
			got = append(got, chunk...)
		}
		if chunks.Err() != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: other bytes in memory, %v", when, chunks.Err())
		}
		if !bytes.Equal(mustRead(t, name), disk) {
			t.Fatalf("%s: the file has other bytes", when)
		}
	}
	for i, discarded := range [][2]int64{{0, 8192}, {8192, 4096}, {5, 1}, {page, page}, {page, page + 8192}, {page - 100, page + 200}, {0, 4 * page}} {
		for at := int64(0); at < 4*page; at += page {
			b := patterned(20_000, int(at)+i)
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
			copy(want[at:], b)
		}
		expect("written")
		off, n := discarded[0], discarded[1]
		if err := f.Discard(off, n); err != nil {
			t.Fatalf("%v: %v", discarded, err)
		}
		copy(want[off:off+n], disk[off:])
		expect(fmt.Sprintf("discarded %v", discarded))
	}
	for _, at := range []int64{100, 2*page - 1000, 4*page - 1000} {
		if _, err := f.WriteAt(patterned(1000, 5), at); err != nil {
			t.Fatal(err)
		}
		copy(want[at:], patterned(1000, 5))
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	disk = bytes.Clone(want)
	expect("committed")
}

// A write that goes through a mapping because there is no other way is counted once.
func TestHugetlbfsPending(t *testing.T) {
	dir := hugetlbfs(t, 64)
	f, err := mmapio.Create(filepath.Join(dir, "file"), mmapio.WithSize(hugePageIn(t, dir)), mmapio.WithMapping(mmapio.MapNever),
		mmapio.WithFlushPolicy(mmapio.EveryBytes(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Flush(), all(300)(f.WriteAt(make([]byte, 300), 1000)), all(20)(f.Write(make([]byte, 20)))); err != nil {
		t.Fatal(err)
	}
	if n := f.Pending(); n != 320 {
		t.Errorf("%d bytes are pending, 320 were written", n)
	}
	if n, err := f.ReadFrom(bytes.NewReader(make([]byte, 100))); n != 100 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if n := f.Pending(); n != 420 {
		t.Errorf("%d bytes are pending, 420 were written", n)
	}
}

// Without a free huge page a write is an error, and reading goes on.
func TestHugetlbfsExhausted(t *testing.T) {
	needKernel(t, "there are no huge pages")
	dir := hugetlbfs(t, 0)
	page := hugePageIn(t, dir)
	f, err := mmapio.Create(filepath.Join(dir, "file"), mmapio.WithMapping(mmapio.MapAlways), mmapio.WithSize(2*page))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 3 {
		if n, err := f.WriteAt([]byte("bytes"), 10); n != 0 || !isPathError(err, "write", syscall.ENOMEM) {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
		if n, err := f.ReadAt(make([]byte, 10), 0); n != 10 || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
	if v, err := f.View(0, page); !isPathError(err, "view", syscall.ENOMEM) {
		t.Errorf("a View: %v, %v", v, err)
	}
	if err := f.Lock(0, page); err == nil {
		t.Error("locked")
	}
}
