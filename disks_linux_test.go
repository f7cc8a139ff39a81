package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// Disks that become full, longer, shorter, read-only, or go down while files on them are
// mapped and in use.

// disk is a file system of its own.
type disk struct {
	dir    string
	grow   func() error // it has more room then
	shrink func() error // it has less; nil where that cannot be done while it is in use
	down   uint         // the ioctl that takes it down, or 0
}

const shutdownIoctl = 0x8004587d // EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, of a uint32

var disks = map[string]func(t testing.TB) disk{
	"tmpfs": func(t testing.TB) disk {
		dir := smallTmpfs(t, 4<<20)
		resize := func(size int) func() error {
			return func() error {
				return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprint("size=", size))
			}
		}
		return disk{dir: dir, grow: resize(32 << 20), shrink: resize(16 << 20)}
	},
	"ext4": func(t testing.TB) disk {
		return loopDisk(t, 16<<20, 48<<20, "mkfs.ext4 -q -F -m 0 -b 4096", "resize2fs {device}", "", shutdownIoctl)
	},
	"xfs": func(t testing.TB) disk {
		return loopDisk(t, 320<<20, 400<<20, "mkfs.xfs -q", "xfs_growfs {dir}", "", shutdownIoctl)
	},
	"btrfs": func(t testing.TB) disk {
		return loopDisk(t, 160<<20, 400<<20, "mkfs.btrfs -q", "btrfs -q filesystem resize max {dir}", "btrfs -q filesystem resize 300M {dir}", 0)
	},
}

// loopDisk makes a file system in a file. Words in braces stand for where it is.
func loopDisk(t testing.TB, size, larger int64, mkfs, grow, shrink string, down uint) disk {
	t.Helper()
	image, dir := filepath.Join(memoryDir(t), "image"), t.TempDir()
	mustWrite(t, image, nil)
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	run := func(command string) error {
		words := strings.Fields(command)
		output, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w %s", command, err, output)
		}
		return nil
	}
	if err := run(mkfs + " " + image); err != nil {
		t.Skipf("cannot make a file system: %v", err)
	}
	if err := run("mount -o loop " + image + " " + dir); err != nil {
		t.Skipf("cannot mount it: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	device := ""
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); words[1] == dir {
			device = words[0]
		}
	}
	if !strings.HasPrefix(device, "/dev/loop") {
		t.Fatalf("mounted is %q", device)
	}
	fill := strings.NewReplacer("{device}", device, "{dir}", dir)
	d := disk{dir: dir, down: down}
	d.grow = func() error {
		if err := os.Truncate(image, larger); err != nil {
			return err
		}
		if err := run("losetup -c " + device); err != nil {
			return err
		}
		return run(fill.Replace(grow))
	}
	if shrink != "" {
		d.shrink = func() error { return run(fill.Replace(shrink)) }
	}
	return d
}

// takeUp leaves little of the room on a disk, at no cost, so that filling it takes little.
func takeUp(t testing.TB, dir string) {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "taken"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	off := int64(0)
	for n := int64(64 << 20); n >= 1<<20; {
		if unix.Fallocate(int(file.Fd()), 0, off, n) != nil {
			n /= 2
		} else {
			off += n
		}
	}
}

func onDisks(t *testing.T, test func(t *testing.T, kind string, d disk)) {
	for kind, makeDisk := range disks {
		t.Run(kind, func(t *testing.T) { test(t, kind, makeDisk(t)) })
	}
}

// useWhile reads and writes the first half of a mapped file until the returned function is
// called, which tells how often that was done.
func useWhile(t *testing.T, f *mmapio.File, half int) (end func() int64) {
	var stop atomic.Bool
	var rounds atomic.Int64
	begun, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		want := patterned(half, 1)
		b := make([]byte, 64)
		for off := 0; !stop.Load(); off = (off + 64) % (half - 64) {
			if n, err := f.WriteAt(want[off:off+64], int64(off)); n != 64 || err != nil {
				t.Errorf("WriteAt: %d, %v", n, err)
				return
			}
			if n, err := f.ReadAt(b, int64(off)); n != 64 || err != nil || !bytes.Equal(b, want[off:off+64]) {
				t.Errorf("ReadAt: %d, %v", n, err)
				return
			}
			if rounds.Add(1) == 1 {
				close(begun)
			}
		}
	}()
	end = func() int64 {
		stop.Store(true)
		<-done
		return rounds.Load()
	}
	t.Cleanup(func() { end() })
	select {
	case <-begun:
	case <-done:
	}
	return end
}

const diskHalf = 256 << 10

// newOnDisk makes a file of which the first half has its place on the disk, and the second
// is a hole, and opens it, mapped and in memory.
func newOnDisk(t *testing.T, dir string) *mmapio.File {
	t.Helper()
	name := filepath.Join(dir, "file")
	mustWrite(t, name, patterned(diskHalf, 1))
	if err := os.Truncate(name, 2*diskHalf); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	b := make([]byte, diskHalf)
	for range 10 { // faults of other tests may make it forget what is in memory
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if mmapio.IsKnown(f, 0, diskHalf) {
			break
		}
	}
	if !mmapio.IsMapped(f) {
		t.Fatal("not mapped")
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return f
}

// A full disk refuses what goes into a hole, through a mapping as through os.File, and the
// same is taken when the disk has grown, with the file mapped and in use all the time.
func TestDiskFullAndGrown(t *testing.T) {
	onDisks(t, func(t *testing.T, kind string, d disk) {
		f := newOnDisk(t, d.dir)
		truth, err := os.Create(filepath.Join(d.dir, "truth"))
		if err != nil {
			t.Fatal(err)
		}
		defer truth.Close()
		if err := truth.Truncate(2 * diskHalf); err != nil {
			t.Fatal(err)
		}
		if kind != "tmpfs" {
			takeUp(t, d.dir)
		}
		fillDisk(t, d.dir)
		// Btrfs writes nothing in place, so nothing can be written when it is full.
		end := func() int64 { return 1 }
		if kind != "btrfs" {
			end = useWhile(t, f, diskHalf)
		}
		piece := patterned(64<<10, 2)
		refused := func(w interface {
			WriteAt(b []byte, off int64) (int, error)
		}) (total int, last error) {
			for off := int64(diskHalf); off < 2*diskHalf; off += int64(len(piece)) {
				n, err := w.WriteAt(piece, off)
				total += n
				if n < len(piece) != errors.Is(err, syscall.ENOSPC) || err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("WriteAt: %d, %v", n, err)
				}
				if err != nil {
					last = err
				}
			}
			return total, last
		}
		_, osErr := refused(truth)
		_, err = refused(f)
		if osErr == nil || err == nil {
			t.Errorf("the disk was not full: %v, %v", osErr, err)
		}
		if err := d.grow(); err != nil {
			if !strings.Contains(err.Error(), "Permission denied") { // ext4 wants CAP_SYS_RESOURCE
				t.Fatal(err)
			}
			t.Logf("cannot grow, so other files make room: %v", err)
			for _, name := range []string{"taken", "filler"} {
				if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n, err := refused(f); n != diskHalf || err != nil {
			t.Errorf("with more room: %d, %v", n, err)
		}
		if n, err := refused(truth); n != diskHalf || err != nil {
			t.Errorf("os, with more room: %d, %v", n, err)
		}
		if err := f.Flush(); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if rounds := end(); rounds == 0 {
			t.Error("the file was not in use")
		}
		want := patterned(diskHalf, 1)
		for range diskHalf / len(piece) {
			want = append(want, piece...)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(mustRead(t, f.Name()), want) {
			t.Error("other bytes")
		}
	})
}

// A disk that is made smaller moves blocks that are mapped, and nobody notices.
func TestDiskShrinks(t *testing.T) {
	onDisks(t, func(t *testing.T, kind string, d disk) {
		if d.shrink == nil {
			t.Skipf("a %s in use cannot be made smaller", kind)
		}
		if err := d.grow(); err != nil {
			t.Fatal(err)
		}
		f := newOnDisk(t, d.dir)
		end := useWhile(t, f, diskHalf)
		err := d.shrink()
		if rounds := end(); rounds == 0 {
			t.Error("the file was not in use")
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(mustRead(t, f.Name())[:diskHalf], patterned(diskHalf, 1)) {
			t.Error("other bytes")
		}
	})
}

// A disk with a file that is open for writing cannot be made read-only, mapped or not, and
// as soon as it is closed it can: no memory keeps it busy. On a disk that is read-only all
// errors are those of os.
func TestDiskReadOnly(t *testing.T) {
	onDisks(t, func(t *testing.T, kind string, d disk) {
		f := newOnDisk(t, d.dir)
		if err := all(10)(f.WriteAt([]byte("0123456789"), 100)); err != nil {
			t.Fatal(err)
		}
		v, err := f.View(0, 4096)
		if err != nil {
			t.Fatal(err)
		}
		readOnly := func() error { return unix.Mount("", d.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") }
		if err := readOnly(); err != unix.EBUSY {
			t.Fatalf("with a file open for writing: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		v.Release()
		if err := readOnly(); err != nil {
			t.Fatalf("with the file closed: %v", err)
		}
		defer func() {
			if err := unix.Mount("", d.dir, "", unix.MS_REMOUNT, ""); err != nil {
				t.Error(err)
			}
		}()
		var results [2]string
		for i, s := range []*side{osSide(d.dir), mmapioSide(d.dir, mmapio.WithMapping(mmapio.MapAlways))} {
			_, err := s.open(f.Name(), os.O_RDWR, 0)
			results[i] = s.describe(err)
			_, err = s.open(s.path("new"), os.O_RDWR|os.O_CREATE, 0o666)
			results[i] += s.describe(err)
			r, err := s.open(f.Name(), os.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, diskHalf)
			for range 3 {
				n, err := r.ReadAt(b, 0)
				results[i] += fmt.Sprint(n, s.describe(err), bytesOf(b))
			}
			n, err := r.WriteAt(b, 0)
			results[i] += fmt.Sprint(n, s.describe(err), s.describe(r.Truncate(5)), s.describe(r.Chmod(0o600)), s.describe(r.Close()))
		}
		if results[0] != results[1] {
			t.Errorf("got %s\nwant %s", results[1], results[0])
		}
		if !strings.Contains(results[0], fmt.Sprintf("Errno(%d)", syscall.EROFS)) {
			t.Errorf("the disk was not read-only: %s", results[0])
		}
	})
}

// shutDown takes the disk down for good, and skips the test where that cannot be done.
func (d disk) shutDown(t *testing.T) {
	t.Helper()
	folder, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	const withoutLog = 2
	if err := unix.IoctlSetPointerInt(int(folder.Fd()), d.down, withoutLog); err != nil {
		t.Skipf("cannot be taken down: %v", err)
	}
}

// A disk goes down for good while files are mapped: what is in memory may still be read,
// and no flush says that anything is on the disk which is not.
func TestDiskGoesDown(t *testing.T) {
	onDisks(t, func(t *testing.T, kind string, d disk) {
		if d.down == 0 {
			t.Skipf("a %s cannot be taken down", kind)
		}
		cold := filepath.Join(d.dir, "cold")
		mustWrite(t, cold, patterned(diskHalf, 3))
		f := newOnDisk(t, d.dir)
		policed, err := mmapio.OpenFile(filepath.Join(d.dir, "policed"), os.O_RDWR|os.O_CREATE, 0o666,
			mmapio.WithSize(diskHalf), mmapio.WithMapping(mmapio.MapAlways), mmapio.WithFlushPolicy(mmapio.EveryWrites(2)))
		if err != nil {
			t.Fatal(err)
		}
		defer policed.Close()
		truth, err := os.OpenFile(cold, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer truth.Close()
		if err := truth.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fadvise(int(truth.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		same, err := mmapio.OpenFile(cold, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			t.Fatal(err)
		}
		defer same.Close()
		d.shutDown(t)
		b, c := make([]byte, 64), make([]byte, 64)
		for off := int64(0); off < diskHalf; off += 50_000 {
			n, osErr := truth.ReadAt(b, off)
			m, err := same.ReadAt(c, off)
			if n != m || !errors.Is(err, syscall.EIO) || !errors.Is(osErr, syscall.EIO) {
				t.Errorf("cold: %d, %v, want %d, %v", m, err, n, osErr)
			}
		}
		n, osErr := truth.WriteAt(b, 0)
		m, err := same.WriteAt(b, 0)
		if n != m || !errors.Is(err, syscall.EIO) || !errors.Is(osErr, syscall.EIO) {
			t.Errorf("WriteAt: %d, %v, want %d, %v", m, err, n, osErr)
		}
		want := patterned(diskHalf, 1)
		for off := int64(0); off < diskHalf-64; off += 5000 {
			if n, err := f.ReadAt(b, off); err == nil && (n != 64 || !bytes.Equal(b, want[off:][:64])) || err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("in memory: %d, %v", n, err)
			}
			if n, err := f.WriteAt(want[off:][:64], off); (n == 64) != (err == nil) || err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("WriteAt: %d, %v", n, err)
			}
		}
		for range 2 {
			if err := f.Flush(); !errors.Is(err, syscall.EIO) {
				t.Errorf("Flush: %v", err)
			}
			if err := f.FlushRange(0, 100); !errors.Is(err, syscall.EIO) {
				t.Errorf("FlushRange: %v", err)
			}
		}
		var failure error
		for i := 0; i < 4 && failure == nil; i++ {
			_, failure = policed.WriteAt([]byte("x"), int64(i))
		}
		if !errors.Is(failure, syscall.EIO) {
			t.Errorf("under a policy: %v", failure)
		}
		f.Close() // may say so too
	})
}
