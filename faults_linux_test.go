package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// smallTmpfs returns a folder on a file system of its own in memory, of size bytes.
func smallTmpfs(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func unmount(t testing.TB, dir string) {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
}

// smallExt4 returns a folder on an ext4 of its own in a file, of size bytes.
func smallExt4(t testing.TB, size int64) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-O", "^has_journal", image).CombinedOutput(); err != nil {
		t.Skipf("cannot make an ext4: %v %s", err, output)
	}
	if output, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount an ext4: %v %s", err, output)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// fillDisk fills the file system of dir to the brim. What it sets aside for later
// may come free when it syncs, so that takes several rounds.
func fillDisk(t testing.TB, dir string) {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for futile := 0; futile < 3; {
		futile++
		for n := 1 << 20; n > 0; n /= 2 {
			for {
				m, err := file.Write(make([]byte, n))
				if m > 0 {
					futile = 0
				}
				if errors.Is(err, syscall.ENOSPC) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := file.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

var smallDisks = map[string]func(t testing.TB) string{
	"tmpfs": func(t testing.TB) string { return smallTmpfs(t, 1<<20) },
	"ext4":  func(t testing.TB) string { return smallExt4(t, 8<<20) },
}

// Stores into the holes of a file on a full disk are ENOSPC, as with os, however
// well the file is mapped; what has its place on the disk can be written.
func TestFullDiskHoles(t *testing.T) {
	for kind, makeDisk := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			var results [2]string
			for i, make := range []func(dir string) *side{osSide, func(dir string) *side {
				return mmapioSide(dir, mmapio.WithMapping(mmapio.MapAlways))
			}} {
				s := make(makeDisk(t))
				results[i] = storeIntoHoles(t, s)
			}
			if results[0] != results[1] {
				t.Errorf("got\n%swant\n%s", results[1], results[0])
			}
			if !strings.Contains(results[0], fmt.Sprintf("Errno(%d)", syscall.ENOSPC)) {
				t.Errorf("the disk was not full:\n%s", results[0])
			}
		})
	}
}

func storeIntoHoles(t *testing.T, s *side) string {
	const size = 64 << 10
	var notes strings.Builder
	f, err := s.open(s.path("file"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(patterned(5000, 1), 20_000); err != nil { // pages 4 to 6
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, s.dir)
	// A page in a hole may find room where a longer file does not.
	other, err := os.OpenFile(s.path("file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for off := int64(44 << 10); off < 60<<10; off += 4 << 10 {
		_, err = other.WriteAt(make([]byte, 1), off)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	b := make([]byte, size)
	for range 3 {
		n, err := f.ReadAt(b, 0)
		fmt.Fprintln(&notes, "ReadAt", n, s.describe(err), bytesOf(b[:n]))
	}
	for _, off := range []int64{0, 4090, 20_000, 24_000, 40_000, 65_530, 23_990} {
		n, err := f.WriteAt([]byte("0123456789"), off)
		fmt.Fprintln(&notes, "WriteAt", off, n, s.describe(err))
	}
	for _, off := range []int64{100, 20_100} {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		n, err := f.Write([]byte("0123456789"))
		at, seekErr := f.Seek(0, io.SeekCurrent)
		fmt.Fprintln(&notes, "Write", off, n, s.describe(err), at, s.describe(seekErr))
	}
	// From what has its place into a hole.
	n, err := f.WriteAt(patterned(16<<10, 2), 5<<12)
	fmt.Fprintln(&notes, "WriteAt across", n, s.describe(err))
	if _, err := f.Seek(5<<12, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	n, err = f.Write(patterned(16<<10, 3))
	at, seekErr := f.Seek(0, io.SeekCurrent)
	fmt.Fprintln(&notes, "Write across", n, s.describe(err), at, s.describe(seekErr))
	fmt.Fprintln(&notes, "Sync", s.describe(f.Sync()))
	n, err = f.ReadAt(b, 0)
	fmt.Fprintln(&notes, "ReadAt", n, s.describe(err), bytesOf(b[:n]), "close", s.describe(f.Close()), s.contentOf("file"))
	return notes.String()
}

// Appending until the disk is full ends at the same byte with the same error,
// also with preallocation, and what was acknowledged is there.
func TestFullDiskAppends(t *testing.T) {
	ways := map[string][]mmapio.Option{
		"always":                {mmapio.WithMapping(mmapio.MapAlways)},
		"auto":                  nil,
		"preallocating a bit":   {mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(10_000)},
		"preallocating a lot":   {mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(300_000)},
		"preallocating too far": {mmapio.WithPreallocate(1 << 30)},
	}
	dir := smallTmpfs(t, 1<<20)
	append1000 := func(s *side) (string, []byte) {
		f, err := s.open(s.path("file"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(s.path("file"))
		defer f.Close()
		var notes strings.Builder
		total := 0
		for i := 0; ; i++ {
			n, err := f.Write(patterned(1000, i))
			total += n
			if n != 1000 || err != nil {
				fmt.Fprintln(&notes, "Write", i, n, s.describe(err))
				break
			}
			if total > 2<<20 {
				t.Fatal("the disk does not fill")
			}
		}
		for range 2 {
			n, err := f.Write(patterned(1000, 1))
			fmt.Fprintln(&notes, "again", n, s.describe(err))
		}
		info, err := f.Stat()
		fmt.Fprintln(&notes, "Stat", infoOf(info), s.describe(err), "close", s.describe(f.Close()))
		content, err := os.ReadFile(s.path("file"))
		if err != nil {
			t.Fatal(err)
		}
		return notes.String(), content
	}
	want, content := append1000(osSide(dir))
	if !strings.Contains(want, fmt.Sprintf("Errno(%d)", syscall.ENOSPC)) {
		t.Fatalf("the disk was not full:\n%s", want)
	}
	for name, options := range ways {
		got, gotContent := append1000(mmapioSide(dir, options...))
		if got != want || !bytes.Equal(content, gotContent) {
			t.Errorf("%s: got\n%s%s\nwant\n%s%s", name, got, bytesOf(gotContent), want, bytesOf(content))
		}
	}
}

// The limit on the size of files ends in the same error at the same byte.
func TestFileSizeLimit(t *testing.T) {
	for _, way := range []string{"always", "preallocating"} {
		t.Run(way, func(t *testing.T) { runChild(t, "file size limit", memoryDir(t), way) })
	}
}

func init() {
	aloneRuns["file size limit"] = func(arguments []string) error {
		dir, way := arguments[0], arguments[1]
		options := []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}
		if way == "preallocating" {
			options = append(options, mmapio.WithPreallocate(50_000))
		}
		const limit = 1<<20 + 100
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return errSkip(fmt.Sprint("cannot limit the size of files: ", err))
		}
		var results [2]string
		for i, s := range []*side{osSide(dir), mmapioSide(dir, options...)} {
			f, err := s.open(s.path("file"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
			if err != nil {
				return err
			}
			defer f.Close()
			total := 0
			for {
				n, err := f.Write(patterned(1000, total))
				total += n
				if n != 1000 || err != nil {
					results[i] = fmt.Sprint(total, s.describe(err))
					break
				}
				if total > 2*limit {
					return errors.New("there is no limit")
				}
			}
			n, err := f.WriteAt([]byte("abc"), limit-1)
			results[i] += fmt.Sprint(" then ", n, s.describe(err))
			n, err = f.WriteAt([]byte("abc"), limit+1)
			results[i] += fmt.Sprint(" then ", n, s.describe(err), s.describe(f.Truncate(limit+1)), s.describe(f.Close()), s.contentOf("file"))
		}
		if results[0] != results[1] {
			return fmt.Errorf("got %s\nwant %s", results[1], results[0])
		}
		return nil
	}
}
