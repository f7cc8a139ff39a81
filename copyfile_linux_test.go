package mmapio_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// madeDisk returns a folder on a file system of its own in a file of size bytes.
func madeDisk(t testing.TB, size int64, mkfs ...string) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	mustWrite(t, image, nil)
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
		t.Skipf("cannot make a file system: %v %s", err, output)
	}
	if output, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount it: %v %s", err, output)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// copyDisks are file systems that differ in how they copy and what they tell of holes.
var copyDisks = []struct {
	name   string
	shares bool // blocks
	make   func(t testing.TB) string
}{
	{"btrfs", true, func(t testing.TB) string { return madeDisk(t, 256<<20, "mkfs.btrfs", "-q") }},
	{"xfs", true, func(t testing.TB) string { return madeDisk(t, 320<<20, "mkfs.xfs", "-q", "-m", "reflink=1") }},
	{"ext4", false, func(t testing.TB) string { return smallExt4(t, 128<<20) }},
	{"tmpfs", false, func(t testing.TB) string { return smallTmpfs(t, 128<<20) }},
}

// sharedExtents returns how many extents the file has, and how many it shares with
// others: FIEMAP, see the kernel's Documentation/filesystems/fiemap.rst.
func sharedExtents(t testing.TB, path string) (all, shared int) {
	t.Helper()
	const (
		fsIocFiemap = 0xC020660B
		flagSync    = 1
		flagShared  = 0x2000
	)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	request := struct {
		start, length                  uint64
		flags, mapped, count, reserved uint32
		extents                        [64]struct {
			logical, physical, length uint64
			reserved64                [2]uint64
			flags                     uint32
			reserved                  [3]uint32
		}
	}{length: 1 << 62, flags: flagSync, count: 64}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&request))); errno != 0 {
		t.Fatal("FIEMAP: ", errno)
	}
	for _, extent := range request.extents[:request.mapped] {
		if extent.flags&flagShared != 0 {
			shared++
		}
	}
	return int(request.mapped), shared
}

// On a file system that can, the copy shares all its blocks with the source.
func TestCopyFileShares(t *testing.T) {
	for _, disk := range copyDisks {
		if !disk.shares {
			continue
		}
		t.Run(disk.name, func(t *testing.T) {
			dir := disk.make(t)
			src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
			content := patterned(20<<20, 1)
			mustWrite(t, src, content)
			f, err := mmapio.OpenFile(src, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			copy(content[5000:], "stored")
			for range 2 {
				if _, err := f.WriteAt([]byte("stored"), 5000); err != nil {
					t.Fatal(err)
				}
			}
			r := &reports{t: t}
			if err := mmapio.CopyFile(t.Context(), dst, src, r.note); err != nil {
				t.Fatal(err)
			}
			r.check(int64(len(content)))
			if all, shared := sharedExtents(t, dst); all == 0 || shared != all {
				t.Errorf("%d of %d extents are shared", shared, all)
			}
			// The two are different files nevertheless.
			if _, err := f.WriteAt([]byte("later"), 5000); err != nil {
				t.Fatal(err)
			}
			mustHave(t, dst, content)
			mustHold(t, dir, "src", "dst")

			// Refused, the kernel copies; on these file systems that is sharing again.
			refuse(t, []string{"clone", "copyRange"})
			if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
				t.Fatal(err)
			}
			if all, shared := sharedExtents(t, dst); all == 0 || shared != 0 {
				t.Errorf("read and written, %d of %d extents are shared", shared, all)
			}
		})
	}
}

// extents returns where the file has data.
func extents(t testing.TB, path string) (list [][2]int64) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for off := int64(0); ; {
		from, err := file.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if off, err = file.Seek(from, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		list = append(list, [2]int64{from, off})
	}
}

func blocksOf(t testing.TB, path string) int64 {
	t.Helper()
	unix.Sync() // what is not written yet has no place yet
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks
}

func TestCopyFileKeepsHoles(t *testing.T) {
	for _, disk := range copyDisks {
		t.Run(disk.name, func(t *testing.T) {
			dir := disk.make(t)
			src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
			const size = 1 << 40
			file, err := os.Create(src)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for _, off := range []int64{128 << 10, 1 << 20, 3<<30 + 4096, 1 << 39} {
				if _, err := file.WriteAt(patterned(200_000, 1), off); err != nil {
					t.Fatal(err)
				}
			}
			if err := file.Truncate(size - 5); err != nil {
				t.Fatal(err)
			}
			for _, way := range copyWays[:3] { // the last one would read a tebibyte
				t.Run(way.name, func(t *testing.T) {
					refuse(t, way.refused)
					r := &reports{t: t}
					if err := mmapio.CopyFile(t.Context(), dst, src, r.note); err != nil {
						t.Fatal(err)
					}
					r.check(size - 5)
					want, got := extents(t, src), extents(t, dst)
					if !slices.Equal(want, got) {
						t.Errorf("data at %v, want %v", got, want)
					}
					if want, got := blocksOf(t, src), blocksOf(t, dst); got > want || got == 0 {
						t.Errorf("%d blocks, the source has %d", got, want)
					}
					a, b := make([]byte, 4096), make([]byte, 4096)
					copied, err := os.Open(dst)
					if err != nil {
						t.Fatal(err)
					}
					defer copied.Close()
					for _, extent := range want {
						for off := extent[0]; off < extent[1]; off += int64(len(a)) {
							n, _ := file.ReadAt(a, off)
							m, _ := copied.ReadAt(b, off)
							if n != m || string(a) != string(b) {
								t.Fatalf("different at %d", off)
							}
						}
					}
				})
			}
		})
	}
}

// Where nobody tells of holes, runs of zeros become some.
func TestCopyFileMakesHoles(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	content := make([]byte, 20<<20)
	copy(content[9<<20:], "in the middle")
	mustWrite(t, src, content)
	refuse(t, []string{"clone", "nextData"})
	if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
		t.Fatal(err)
	}
	mustHave(t, dst, content)
	if blocks := blocksOf(t, dst); blocks > 1<<20/512 {
		t.Errorf("%d blocks for a few bytes", blocks)
	}
}

// From one file system to another.
func TestCopyFileAcross(t *testing.T) {
	for _, from := range copyDisks {
		for _, to := range []string{t.TempDir(), smallTmpfs(t, 64<<20)} {
			t.Run(from.name, func(t *testing.T) {
				src, dst := filepath.Join(from.make(t), "src"), filepath.Join(to, "dst")
				content := patterned(10<<20, 1)
				clear(content[3<<20 : 8<<20])
				mustWrite(t, src, content)
				if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
					t.Fatal(err)
				}
				mustHave(t, dst, content)
			})
		}
	}
}

func TestCopyFileFullDisk(t *testing.T) {
	for kind, makeDisk := range smallDisks {
		for _, way := range copyWays {
			t.Run(kind+"/"+way.name, func(t *testing.T) {
				dir := makeDisk(t)
				src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(dir, "dst")
				mustWrite(t, src, patterned(12<<20, 1))
				mustWrite(t, dst, []byte("old"))
				before, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				refuse(t, way.refused)
				err = mmapio.CopyFile(t.Context(), dst, src, nil)
				pathErr, ok := errors.AsType[*fs.PathError](err)
				if !ok || pathErr.Path != dst || !errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), ".tmp") {
					t.Errorf("%v, want ENOSPC for %s", err, dst)
				}
				mustHave(t, dst, []byte("old"))
				if after, err := os.ReadDir(dir); len(after) != len(before) {
					t.Errorf("left behind: %v, %v", after, err)
				}
			})
		}
	}
}

func TestCopyFileReadOnlyFolder(t *testing.T) {
	dir := smallTmpfs(t, 1<<20)
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(dir, "dst")
	mustWrite(t, src, []byte("text"))
	mustWrite(t, dst, []byte("old"))
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot mount for reading only: %v", err)
	}
	for _, path := range []string{dst, filepath.Join(dir, "new")} {
		err := mmapio.CopyFile(t.Context(), path, src, nil)
		if pathErr, ok := errors.AsType[*fs.PathError](err); !ok || pathErr.Path != path || !errors.Is(err, syscall.EROFS) {
			t.Errorf("%v, want EROFS for %s", err, path)
		}
	}
	mustHave(t, dst, []byte("old"))
	mustHold(t, dir, "dst")
}

// FAT keeps no permission bits but whether a file may be written.
func TestCopyFileOntoFAT(t *testing.T) {
	dir := madeDisk(t, 8<<20, "mkfs.vfat")
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(dir, "dst")
	mustWrite(t, src, []byte("text"))
	if err := os.Chmod(src, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
			t.Fatal(err)
		}
		mustHave(t, dst, []byte("text"))
	}
	if err := os.Chmod(dst, 0o600); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("this FAT has permission bits, so the test shows nothing: %v", err)
	}
}

// Files of the kernel that have content and no size, or more size than content.
func TestCopyFileOfKernel(t *testing.T) {
	for _, src := range []string{"/proc/version", "/proc/self/maps", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(src)
		if err != nil || len(want) == 0 {
			t.Logf("no such file: %s: %v", src, err)
			continue
		}
		dst := filepath.Join(t.TempDir(), "dst")
		if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if src == "/proc/self/maps" {
			if got, err := os.ReadFile(dst); !strings.Contains(string(got), "[stack]") {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			continue
		}
		mustHave(t, dst, want)
	}
	const unreadable = "/proc/self/mem" // at offset 0, that is
	dir := t.TempDir()
	err := mmapio.CopyFile(t.Context(), filepath.Join(dir, "dst"), unreadable, nil)
	if pathErr, ok := errors.AsType[*fs.PathError](err); !ok || pathErr.Path != unreadable || !errors.Is(err, syscall.EIO) {
		t.Errorf("%v, want EIO for %s", err, unreadable)
	}
	mustHold(t, dir)
}

// What is no regular file is refused, without being opened.
func TestCopyFileNotRegular(t *testing.T) {
	dir := t.TempDir()
	src, fifo := filepath.Join(dir, "src"), filepath.Join(dir, "fifo")
	mustWrite(t, src, []byte("text"))
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ dst, src, named string }{
		{filepath.Join(dir, "dst"), fifo, fifo},
		{filepath.Join(dir, "dst"), "/dev/zero", "/dev/zero"},
		{fifo, src, fifo},
		{"/dev/null", src, "/dev/null"},
		{"/dev/null", "/dev/null", "/dev/null"},
	} {
		err := mmapio.CopyFile(t.Context(), row.dst, row.src, nil)
		pathErr, ok := errors.AsType[*fs.PathError](err)
		if !ok || pathErr.Path != row.named || !errors.Is(err, os.ErrInvalid) || !strings.Contains(err.Error(), "regular") {
			t.Errorf("%s to %s: %v", row.src, row.dst, err)
		}
	}
	err := mmapio.CopyFile(t.Context(), filepath.Join(dir, "dst"), dir, nil)
	if !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a folder: %v", err)
	}
	mustHold(t, dir, "src", "fifo")
}

// The copy has the owner of what it replaces.
func TestCopyFileKeepsOwner(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	mustWrite(t, src, []byte("text"))
	mustWrite(t, dst, []byte("old"))
	if err := os.Chmod(src, 0o640); err != nil {
		t.Fatal(err)
	}
	const uid, gid = 12345, 54321
	if err := os.Chown(dst, uid, gid); err != nil {
		t.Skipf("this user may not give files away: %v", err)
	}
	for path, want := range map[string][2]int{dst: {uid, gid}, dst + "2": {os.Geteuid(), os.Getegid()}} {
		if err := mmapio.CopyFile(t.Context(), path, src, nil); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if int(stat.Uid) != want[0] || int(stat.Gid) != want[1] || info.Mode() != 0o640 {
			t.Errorf("owner %d, group %d, mode %v; want %v, 0640", stat.Uid, stat.Gid, info.Mode(), want)
		}
	}
}

// Another hard link to what is replaced keeps the old content.
func TestCopyFileLeavesHardLinks(t *testing.T) {
	dir := t.TempDir()
	src, dst, other := filepath.Join(dir, "src"), filepath.Join(dir, "dst"), filepath.Join(dir, "other")
	mustWrite(t, src, []byte("text"))
	mustWrite(t, dst, []byte("old"))
	if err := os.Link(dst, other); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.Open(dst, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
		t.Fatal(err)
	}
	mustHave(t, dst, []byte("text"))
	mustHave(t, other, []byte("old"))
	if b, err := io.ReadAll(f); string(b) != "old" {
		t.Errorf("who had it open reads %q, %v", b, err)
	}
}
