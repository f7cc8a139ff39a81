package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// A View is the pages of the file themselves: the kernel has them mapped, shared, as long
// as the View lives, and no longer.
func TestViewInMaps(t *testing.T) {
	for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
		name := newFilled(t, 100_000, 1)
		f := openFor(t, name, os.O_RDWR, options...)
		v := viewOf(t, f, 10_000, 1000)
		address := fmt.Sprintf("%x", uintptr(unsafe.Pointer(&v.Bytes()[0]))&^uintptr(os.Getpagesize()-1))
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		line := lineOf(t, name)
		if !strings.Contains(line, "rw-s") || way == "alone" && !strings.HasPrefix(line, address) {
			t.Errorf("%s: %q, want %s", way, line, address)
		}
		if isOpen(t, name) {
			t.Errorf("%s: a descriptor is open", way)
		}
		v.Release()
		if line := lineOf(t, name); line != "" {
			t.Errorf("%s, after Release: %q", way, line)
		}
	}
}

// lineOf returns the first line of the kernel's list of mappings that names the file.
func lineOf(t testing.TB, name string) string {
	t.Helper()
	for line := range strings.Lines(string(readMaps(t))) {
		if strings.HasSuffix(line, name+"\n") {
			return line
		}
	}
	return ""
}

// Bits that a system call takes away when somebody writes are not stored around: the memory
// of such a file is read-only, and writes are system calls.
func TestViewOfSetuidFile(t *testing.T) {
	for _, bit := range []fs.FileMode{fs.ModeSetuid, fs.ModeSetgid} {
		name := newFilled(t, 100_000, 1)
		if err := os.Chmod(name, 0o755|bit); err != nil {
			t.Fatal(err)
		}
		f := openFor(t, name, os.O_RDWR, mmapio.WithMapping(mmapio.MapAlways))
		v := viewOf(t, f, 0, 10_000)
		if _, err := v.WriteAt([]byte("view"), 100); v.Writable() || !isPathError(err, "write", mmapio.ErrReadOnly) {
			t.Errorf("%v: writable: %v, %v", bit, v.Writable(), err)
		}
		err := f.UpdateChunks(4096, func(int64, []byte) error { return errors.New("a chunk") })
		if !isPathError(err, "write", mmapio.ErrReadOnly) {
			t.Errorf("%v: UpdateChunks: %v", bit, err)
		}
		for range 3 {
			if err := all(4)(f.WriteAt([]byte("file"), 100)); err != nil {
				t.Fatal(err)
			}
		}
		if !mmapio.IsMapped(f) || !mmapio.IsKnown(f, 100, 4) || string(v.Bytes()[100:104]) != "file" {
			t.Errorf("%v: mapped: %v, shows %q", bit, mmapio.IsMapped(f), v.Bytes()[100:104])
		}
	}
}

// Files of /proc say that they are empty, and cannot be mapped.
func TestViewOfProc(t *testing.T) {
	f := openFor(t, "/proc/self/status", os.O_RDONLY)
	if _, err := f.View(0, 1); !errors.Is(err, mmapio.ErrOutOfRange) {
		t.Errorf("View: %v", err)
	}
	chunks := f.Chunks(100)
	for range chunks.All() {
		t.Error("a chunk")
	}
	if chunks.Err() != nil {
		t.Error(chunks.Err())
	}
}

// A hundred thousand Views, some of them alone: what the process holds is what it held
// before.
func TestViewsLeakNothing(t *testing.T) {
	count := 100_000
	if raceEnabled {
		count = 10_000
	}
	name := newFilled(t, 3<<20, 1)
	mapped, alone := openFor(t, name, os.O_RDWR), openFor(t, name, os.O_RDWR, mmapio.WithMapping(mmapio.MapNever))
	turn := func(i int) {
		f := mapped
		if i%4 == 0 {
			f = alone
		}
		v, err := f.View(int64(i%1000)*1000, 5000)
		if err != nil {
			t.Fatal(err)
		}
		sink += int(v.Bytes()[7])
		v.Release()
		if i%1000 == 0 {
			mmapio.Unmap(mapped)
		}
	}
	for i := range 2000 {
		turn(i)
	}
	mmapio.Unmap(mapped)
	settled(t)
	before := currentUsage(t)
	for i := range count {
		turn(i)
	}
	during := currentUsage(t)
	t.Logf("before %+v, right after %+v", before, during)
	if limit, _ := mmapio.Budget(); during.descriptors > before.descriptors || during.mappings > before.mappings+2*limit {
		t.Errorf("right after %+v, were %+v", during, before)
	}
	eventually(t, "in the end", func() error {
		if now := currentUsage(t); now.descriptors > before.descriptors || now.mappings > before.mappings+20 || now.goroutines > before.goroutines || now.address > before.address+threadSpace {
			return fmt.Errorf("%+v, were %+v", now, before)
		}
		return nil
	})
}

// What is not in memory is read by system calls ahead of the loop, and not by faults,
// which would hold up other goroutines.
func TestColdChunksDoNotFault(t *testing.T) {
	const size = 64 << 20
	for _, update := range []bool{false, true} {
		name, body := coldFile(t, size)
		f := openFor(t, name, os.O_RDWR)
		look := func(off int64, chunk []byte) error {
			if at := off % int64(len(body)); !bytes.Equal(chunk, body[at:at+int64(len(chunk))]) {
				return fmt.Errorf("other bytes at %d", off)
			}
			return nil
		}
		before := majorFaults(t)
		if update {
			if err := f.UpdateChunks(4096, look); err != nil {
				t.Error(err)
			}
		} else {
			chunks := f.Chunks(4096)
			for off, chunk := range chunks.All() {
				if err := look(off, chunk); err != nil {
					t.Fatal(err)
				}
			}
			if err := chunks.Err(); err != nil {
				t.Error(err)
			}
		}
		faults := majorFaults(t) - before
		t.Logf("update %v: %d major faults for %d MiB, %d bytes in memory afterwards", update, faults, size>>20, inMemory(t, name))
		// The program itself may be read in meanwhile.
		if faults > size>>20 {
			t.Errorf("update %v: %d major faults", update, faults)
		}
		if n := inMemory(t, name); n < size*9/10 {
			t.Errorf("update %v: %d bytes are in memory", update, n)
		}
		f.Close()
	}
}

// The same for View.ReadAt.
func TestColdViewDoesNotFault(t *testing.T) {
	const size = 16 << 20
	name, body := coldFile(t, size)
	f := openFor(t, name, os.O_RDONLY)
	v := viewOf(t, f, 0, size)
	if n := inMemory(t, name); n > size/10 {
		t.Errorf("a View alone has read %d bytes", n)
	}
	before := majorFaults(t)
	readScattered(t, v, body, size, 2000, 1)
	if faults := majorFaults(t) - before; faults > 20 {
		t.Errorf("%d major faults", faults)
	}
}

// Prefault of a View brings in what it is asked for.
func TestViewPrefault(t *testing.T) {
	needKernel(t, "advice has no effect")
	const size, part = 16 << 20, 4 << 20
	name, body := coldFile(t, size)
	f := openFor(t, name, os.O_RDONLY)
	v := viewOf(t, f, 1<<20, 8<<20)
	resident := func() int64 {
		t.Helper()
		r, err := v.Resident(1<<20, part)
		if err != nil {
			t.Fatal(err)
		}
		return r.Bytes()
	}
	if n := resident(); n > part/10 {
		t.Skipf("%d bytes are in memory before", n)
	}
	if err := v.Prefault(1<<20, part); err != nil {
		t.Fatal(err)
	}
	if n := resident(); n < part*9/10 {
		t.Errorf("%d bytes of %d are in memory", n, part)
	}
	if !bytes.Equal(v.Bytes()[1<<20:2<<20], body) {
		t.Error("other bytes")
	}
}

// On a full disk, a store into a hole is a fault that names the file and the place.
func TestViewOnFullDisk(t *testing.T) {
	needKernel(t, "bringing in what is not there is no error")
	for kind, makeDisk := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			const size = 64<<10 - 1
			dir := makeDisk(t)
			name := filepath.Join(dir, "file")
			f := openFor(t, name, os.O_RDWR|os.O_CREATE, mmapio.WithSize(size))
			if _, err := f.WriteAt(patterned(5000, 1), 20_000); err != nil { // pages 4 to 6
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			v := viewOf(t, f, 0, size)
			fillDisk(t, dir)
			var full error
			for off := int64(44 << 10); off < 60<<10; off += 4 << 10 {
				_, full = f.WriteAt(make([]byte, 1), off)
			}
			if !errors.Is(full, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", full)
			}
			n, err := v.WriteAt([]byte("into a hole"), 32<<10)
			if fault := faultOf(t, err, name); n != 0 || fault.Offset != 32<<10 {
				t.Errorf("WriteAt: %d, a fault at %d", n, fault.Offset)
			}
			if fault := faultOf(t, v.Do(func(b []byte) error { b[36<<10] = 1; return nil }), name); fault.Offset != 36<<10 {
				t.Errorf("Do: a fault at %d", fault.Offset)
			}
			word, err := v.Uint64(36<<10 + 8)
			if err != nil {
				t.Fatal(err)
			}
			if !raceEnabled { // see TestWordOfCutFile
				if fault := faultOf(t, mmapio.Guard(func() error { word.Add(1); return nil }), name); fault.Offset/4096 != 9 {
					t.Errorf("Guard: a fault at %d", fault.Offset)
				}
			}
			if _, err := v.WriteAt([]byte("where there is room"), 20_100); err != nil {
				t.Error(err)
			}
			err = f.UpdateChunks(4096, func(_ int64, chunk []byte) error { chunk[0] = 1; return nil })
			if fault := faultOf(t, err, name); fault.Offset >= size || fault.Offset%4096 != 0 {
				t.Errorf("UpdateChunks: a fault at %d", fault.Offset)
			}
			// Reading holes takes up memory on tmpfs, so there may be none: then the loop
			// ends before it comes to what would fault.
			chunks := f.Chunks(4096)
			for _, chunk := range chunks.All() {
				sink += int(chunk[5])
			}
			if err := chunks.Err(); kind == "tmpfs" {
				faultOf(t, err, name)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// A guard lets faults in other memory through, as panics.
func TestGuardLetsForeignFaultsThrough(t *testing.T) {
	memory, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	f := openFor(t, newFilled(t, 10_000, 1), os.O_RDWR)
	v := viewOf(t, f, 0, 10_000)
	for what, touch := range map[string]func(){
		"Guard":        func() { _ = mmapio.Guard(func() error { sink += int(memory[1000]); return nil }) },
		"Do":           func() { _ = v.Do(func([]byte) error { sink += int(memory[1000]); return nil }) },
		"View.ReadAt":  func() { _, _ = v.ReadAt(memory[1000:2000], 0) },
		"View.WriteAt": func() { _, _ = v.WriteAt(memory[1000:2000], 0) },
	} {
		fault, ok := recovered(touch).(interface {
			runtime.Error
			Addr() uintptr
		})
		if base := uintptr(unsafe.Pointer(unsafe.SliceData(memory))); !ok || fault.Addr()-base >= 1<<16 {
			t.Errorf("%s: recovered %v", what, fault)
		}
	}
}

// On a file system that keeps mappings and system calls apart, or is not known to keep
// them together, a View is a mapping of its own, and the File stays without one.
func TestViewOfUntrustedFileSystem(t *testing.T) {
	dir, lower := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(lower, "file"), patterned(100_000, 1), 0o666); err != nil {
		t.Fatal(err)
	}
	upper, work := t.TempDir(), t.TempDir()
	if err := unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		t.Skipf("cannot mount an overlay: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	f := openFor(t, filepath.Join(dir, "file"), os.O_RDONLY)
	for range 2 {
		v := viewOf(t, f, 5000, 10_000)
		if !bytes.Equal(v.Bytes(), patterned(100_000, 1)[5000:15_000]) {
			t.Error("other bytes")
		}
		if mmapio.IsMapped(f) {
			t.Error("the File is mapped")
		}
	}
	b := make([]byte, 1000)
	for i := range 50 {
		if _, err := f.Read(b); err != nil || !bytes.Equal(b, patterned(100_000, 1)[i*1000:][:1000]) {
			t.Fatalf("Read: %v", err)
		}
	}
	if at, err := f.Seek(0, 1); at != 50_000 || err != nil {
		t.Errorf("at %d, %v", at, err)
	}
}

// More Views than the kernel allows mappings: an error with its errno, and Views again
// after some were released.
func TestViewsUntilNoMore(t *testing.T) {
	runChild(t, "views until no more", newFilled(t, 100_000, 1))
}

func init() {
	aloneRuns["views until no more"] = func(arguments []string) error {
		statm, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			return errSkip(err.Error())
		}
		pages, err := strconv.ParseUint(strings.Fields(string(statm))[0], 10, 64)
		if err != nil {
			return err
		}
		// Room for some Views, and for the runtime, which ends the program when it has none.
		views := uint64(20)
		if !mmapio.Is64Bit {
			views = 4
		}
		room := pages*uint64(os.Getpagesize()) + views*(256<<20) + 220<<20
		if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: room, Max: room}); err != nil {
			return errSkip(fmt.Sprint("cannot limit the address space: ", err))
		}
		if err := os.Truncate(arguments[0], 256<<20); err != nil {
			return err
		}
		f, err := mmapio.OpenFile(arguments[0], os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapNever))
		if err != nil {
			return err
		}
		defer f.Close()
		var held []*mmapio.View
		for {
			v, err := f.View(0, 256<<20)
			if err != nil {
				if !errors.Is(err, unix.ENOMEM) || !errors.As(err, new(*fs.PathError)) {
					return err
				}
				break
			}
			held = append(held, v)
			if len(held) > 1000 {
				return errors.New("there is no limit")
			}
		}
		for _, v := range held {
			v.Release()
		}
		for range 3 * len(held) {
			v, err := f.View(0, 256<<20)
			if err != nil {
				return fmt.Errorf("after %d were released: %w", len(held), err)
			}
			v.Release()
		}
		return nil
	}
}
