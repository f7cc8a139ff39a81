package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// smapsOf adds up what the kernel says of the mappings of the file, in bytes, for lines
// such as Anonymous.
func smapsOf(t testing.TB, name, line string) (sum int64) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for text := range strings.Lines(string(smaps)) {
		fields := strings.Fields(text)
		if !strings.HasSuffix(fields[0], ":") {
			inside = fields[len(fields)-1] == name
		} else if inside && fields[0] == line+":" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += n << 10
		}
	}
	return sum
}

// diskDir returns a folder on the disk, where pages of files can be told from memory.
func diskDir(t testing.TB) string {
	t.Helper()
	var stat unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Type == unix.TMPFS_MAGIC {
		t.Skipf("%s is in memory", dir)
	}
	return dir
}

// Only pages that were written to take up memory, and Discard and Commit give it back: the
// kernel says so.
func TestCopyOnWriteMemory(t *testing.T) {
	needKernel(t, "pages cannot be told apart")
	const size = 16<<20 - 100 // not whole pages
	page := int64(os.Getpagesize())
	name := filepath.Join(diskDir(t), "file")
	if err := os.WriteFile(name, patterned(size, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	f := openPrivate(t, name, os.O_RDWR)
	own := func() int64 { return smapsOf(t, name, "Anonymous") + smapsOf(t, name, "Swap") }
	check := func(when string, want int64) {
		t.Helper()
		if got := own(); got != want {
			t.Errorf("%s: %d bytes of its own, must be %d", when, got, want)
		}
	}
	if !inMaps(t, name) {
		t.Fatal("the file is not mapped at once")
	}
	b := make([]byte, size)
	for range 2 {
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	check("read", 0)
	if !mmapio.IsKnown(f, 0, size) {
		t.Error("after reads not all pages are known to be in memory")
	}
	for i := range int64(10) {
		if _, err := f.WriteAt([]byte{1}, i*1_000_000); err != nil {
			t.Fatal(err)
		}
	}
	check("ten writes", 10*page)
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil { // nothing else is dirty now
		t.Fatal(err)
	}
	if dirty := smapsOf(t, name, "Private_Dirty") + smapsOf(t, name, "Swap"); dirty != 10*page {
		t.Errorf("%d bytes are private and dirty, must be %d", dirty, 10*page)
	}
	if err := f.Discard(0, 1_500_000); err != nil {
		t.Fatal(err)
	}
	check("two discarded", 8*page)
	v, err := f.View(0, size)
	if err != nil {
		t.Fatal(err)
	}
	check("a View", 8*page)
	v.Bytes()[0] = 1
	check("a store to it", 9*page)
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	check("committed with a View", 9*page)
	v.Release()
	before := bytesRead(t)
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if n := bytesRead(t) - before; n > 100*page {
		t.Errorf("Commit has read %d bytes to write 9 pages", n)
	}
	check("committed", 0)
	for _, b := range f.Chunks(100_000).All() {
		_ = b[0]
	}
	mmapio.Forget(f)
	before = bytesRead(t)
	if _, err := f.ReadAt(b[:page], 5*page); err != nil {
		t.Fatal(err)
	}
	if n := bytesRead(t) - before; n < page {
		t.Errorf("after a loop over chunks pages count as changed: %d bytes were read from the file", n)
	}
	for _, off := range []int64{0, size - 1} {
		if _, err := f.WriteAt([]byte{2}, off); err != nil {
			t.Fatal(err)
		}
	}
	check("chunks and two writes", 2*page)
	if err := f.Discard(0, size); err != nil {
		t.Fatal(err)
	}
	check("all discarded", 0)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if inMaps(t, name) {
		t.Error("is mapped after Close")
	}
}

// bytesRead returns how many bytes this process has read by system calls.
func bytesRead(t testing.TB) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err == nil {
		_, err = fmt.Sscanf(string(text), "rchar: %d", &n)
	}
	if err != nil {
		t.Skipf("the kernel does not count: %v", err)
	}
	return n
}

// A File that is forgotten gives everything back.
func TestCopyOnWriteForgotten(t *testing.T) {
	name := newFilled(t, 1<<20, 1)
	func() {
		f, err := mmapio.Open(name, mmapio.WithCopyOnWrite())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(patterned(1<<20, 2), 0); err != nil {
			t.Fatal(err)
		}
		if !isOpen(t, name) || !inMaps(t, name) {
			t.Error("is not open or mapped")
		}
	}()
	eventually(t, "forgotten", func() error {
		if isOpen(t, name) || inMaps(t, name) {
			return errors.New("is still open or mapped")
		}
		return nil
	})
}

func init() {
	// The child prints what it finds in the file, after it has been told to look.
	moreTasks["look"] = func() error {
		name := os.Getenv("MMAPIO_TEST_LOOK")
		for range 2 {
			var b [1]byte
			if _, err := os.Stdin.Read(b[:]); err != nil {
				return err
			}
			f, err := mmapio.Open(name, mmapio.WithMapping(mmapio.MapAlways))
			if err != nil {
				return err
			}
			var text [7]byte
			for range 3 {
				if _, err := f.ReadAt(text[:], 5000); err != nil {
					return err
				}
			}
			if _, err := os.Stdout.Write(text[:]); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	}
}

// Another process sees changes after Commit and not before, also one that is started
// meanwhile.
func TestCopyOnWriteInAnotherProcess(t *testing.T) {
	name := newFilled(t, 10_000, 1)
	f := openPrivate(t, name, os.O_RDWR)
	before := string(mustRead(t, name)[5000:5007])
	if _, err := f.WriteAt([]byte("changed"), 5000); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "look")
	cmd.Env = append(cmd.Env, "MMAPIO_TEST_LOOK="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	look := func() string {
		t.Helper()
		var b [7]byte
		_, err := in.Write([]byte{1})
		_, readErr := io.ReadFull(out, b[:])
		if err := errors.Join(err, readErr); err != nil {
			t.Error(err)
		}
		return string(b[:])
	}
	if seen := look(); seen != before {
		t.Errorf("before Commit another process sees %q", seen)
	}
	if err := f.Commit(); err != nil {
		t.Error(err)
	}
	if seen := look(); seen != "changed" {
		t.Errorf("after Commit another process sees %q", seen)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A full disk: Commit into the holes of a file is ENOSPC, nothing is lost, and when there
// is room again it succeeds.
func TestCommitFullDisk(t *testing.T) {
	for kind, makeDisk := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			dir := makeDisk(t)
			name := filepath.Join(dir, "file")
			const size = 512 << 10
			if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
				t.Fatal(err)
			}
			f := openPrivate(t, name, os.O_RDWR)
			fillDisk(t, dir)
			want := patterned(size, 1)
			if _, err := f.WriteAt(want, 0); errors.Is(err, mmapio.ErrFault) && kind == "tmpfs" {
				t.Log("a hole of a full tmpfs cannot even be read through a mapping")
				if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt(want, 0); err != nil {
					t.Fatal(err)
				}
				fillDisk(t, dir)
			} else if err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(); !errors.Is(err, syscall.ENOSPC) && kind != "tmpfs" {
				t.Fatalf("Commit on a full disk: %v", err)
			}
			got := make([]byte, size)
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("changes are lost (%v)", err)
			}
			if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(mustRead(t, name), want) {
				t.Error("the file does not have what was committed")
			}
		})
	}
}

// Cold pages are read and brought in by system calls, not by faults.
func TestCopyOnWriteCold(t *testing.T) {
	const size = 32 << 20
	name := filepath.Join(diskDir(t), "file")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(patterned(size, 1)); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	f := openPrivate(t, name, os.O_RDONLY)
	faults := func() int64 {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return int64(usage.Majflt)
	}
	for _, row := range []struct {
		name string
		do   func(off int64) error
	}{
		{"ReadAt", func(off int64) error { _, err := f.ReadAt(make([]byte, 100), off); return err }},
		{"WriteAt", func(off int64) error { _, err := f.WriteAt(make([]byte, 100), off); return err }},
	} {
		if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		mmapio.Forget(f)
		var asked atomic.Int64
		restore := mmapio.Intercept(func(name string) error {
			if name == "populateWrite" {
				asked.Add(1)
			}
			return nil
		})
		before := faults()
		for i := range int64(50) {
			if err := row.do(i * 600_000); err != nil {
				t.Fatal(err)
			}
		}
		restore()
		// Pages that madvise brings in count as major faults as well.
		if row.name == "WriteAt" && asked.Load() < 40 {
			t.Errorf("%d of 50 writes to cold pages have brought them in by a system call", asked.Load())
		}
		if n := faults() - before; row.name == "ReadAt" && n > 10 {
			t.Errorf("%s: %d major faults", row.name, n)
		}
	}
}

// What is locked in memory is discarded too.
func TestDiscardLocked(t *testing.T) {
	name := newFilled(t, 100_000, 1)
	body := mustRead(t, name)
	f := openPrivate(t, name, os.O_RDONLY)
	v, err := f.View(0, 50_000)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if err := unix.Mlock(v.Bytes()); err != nil {
		t.Skipf("cannot lock memory: %v", err)
	}
	if _, err := f.WriteAt(patterned(90_000, 2), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Discard(0, 90_000); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 90_000)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, body[:90_000]) {
		t.Errorf("not discarded (%v)", err)
	}
	if err := unix.Munlock(v.Bytes()); err != nil {
		t.Error(err)
	}
}

// writeInPlace changes a file without cutting it.
func writeInPlace(t testing.TB, name string, b []byte) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// Locking a private copy makes no pages its own, so that a Commit writes back none that
// nobody has stored to.
func TestCopyOnWriteLocked(t *testing.T) {
	needKernel(t, "mlock2 is missing")
	page := int64(mmapio.PageSize())
	size := 16 * page
	skipWithoutLocks(t, int(2*size))
	for _, how := range []string{"File", "View", "View on fault"} {
		t.Run(how, func(t *testing.T) {
			name := newFilled(t, int(size), 1)
			f := openPrivate(t, name, os.O_RDWR)
			v, err := f.View(0, size) // all pages may be stored to
			if err != nil {
				t.Fatal(err)
			}
			start := lockedBytes(t)
			switch how {
			case "File":
				err = f.LockAll()
			case "View":
				err = v.LockAll()
			default:
				err = v.LockOnFault(0, size)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := lockedBytes(t) - start; got != size {
				t.Errorf("%d bytes are locked, want %d", got, size)
			}
			address, length := mmapio.MemoryOf(f)
			if got := smapsSum(t, address, length, "Locked"); how != "View on fault" && got != size {
				t.Errorf("%d bytes are locked and in memory, want %d", got, size)
			}
			if got := smapsOf(t, name, "Anonymous"); got != 0 {
				t.Errorf("%d bytes are the copy's own", got)
			}
			theirs := bytes.Repeat([]byte{'x'}, int(size))
			writeInPlace(t, name, theirs)
			if _, err := f.WriteAt([]byte("mine"), page); err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			copy(theirs[page:], "mine")
			if !bytes.Equal(mustRead(t, name), theirs) {
				t.Error("Commit has written pages that were not stored to")
			}
			if err := f.Discard(0, size); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, size)
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, theirs) {
				t.Errorf("not what the file has (%v)", err)
			}
			v.Release()
		})
	}
}

// Pages that are populated for storing count as written to: reads do not show now theirs
// and now those of the file, and Discard gives them back.
func TestCopyOnWritePopulated(t *testing.T) {
	needKernel(t, "advice has no effect")
	page := int64(mmapio.PageSize())
	size := 16 * page
	name := newFilled(t, int(size), 1)
	before := mustRead(t, name)
	f := openPrivate(t, name, os.O_RDWR)
	if err := f.Advise(0, size, mmapio.AdvicePopulateWrite); errors.Is(err, syscall.EINVAL) {
		t.Skipf("kernel before 5.14: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if got := smapsOf(t, name, "Anonymous"); got != size {
		t.Fatalf("%d bytes are the copy's own, want %d", got, size)
	}
	theirs := bytes.Repeat([]byte{'x'}, int(size))
	writeInPlace(t, name, theirs)
	got := make([]byte, size)
	for range 2 {
		mmapio.Forget(f)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, before) {
			t.Errorf("not what the file was (%v)", err)
		}
	}
	if err := f.Discard(100, 50); err != nil {
		t.Fatal(err)
	}
	copy(before[100:150], theirs)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, before) {
		t.Errorf("a part of a page is not discarded (%v)", err)
	}
}

// A file system that is mapped for nobody else is mapped for a private copy: there is no
// other way.
func TestCopyOnWriteUntrusted(t *testing.T) {
	body := patterned(100_000, 1)
	all := overlay(t, map[string][]byte{"lower/file": body})
	name := filepath.Join(all, "file")
	plain, err := mmapio.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	warm(plain)
	if mmapio.IsMapped(plain) {
		t.Skip("is trusted here")
	}
	f := openPrivate(t, name, os.O_RDONLY)
	want := bytes.Clone(body)
	for i := range 20 {
		b := patterned(1000, i)
		if _, err := f.WriteAt(b, int64(i)*4500); err != nil {
			t.Fatal(err)
		}
		copy(want[i*4500:], b)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("reads something else (%v)", err)
	}
	if !bytes.Equal(mustRead(t, name), body) {
		t.Error("the file has changed")
	}
}

// The modification time of the file stays too.
func TestCopyOnWriteTime(t *testing.T) {
	name := newFilled(t, 10_000, 1)
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f := openPrivate(t, name, os.O_RDWR)
	err = f.UpdateChunks(1000, func(_ int64, b []byte) error { b[0]++; return nil })
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(name)
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the time moved from %v to %v, %v", before.ModTime(), after.ModTime(), err)
	}
}
