//go:build unix

package mmapio_test

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// brokenMemory returns two pages of which the second cannot be accessed.
func brokenMemory(t testing.TB) []byte {
	t.Helper()
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	if err := unix.Mprotect(b[page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return b
}

// cutMemory returns two pages of a file that has only one by now.
func cutMemory(t testing.TB) []byte {
	t.Helper()
	page := os.Getpagesize()
	file, err := os.Create(t.TempDir() + "/memory")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(int64(2 * page)); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(file.Fd()), 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	if err := file.Truncate(int64(page)); err != nil {
		t.Fatal(err)
	}
	return b
}

// Memory of the caller that cannot be accessed is EFAULT, as with os, after as many
// bytes as the system got across.
func TestCallersBrokenMemory(t *testing.T) {
	needKernel(t, "memory that cannot be read is not always an error")
	page := os.Getpagesize()
	dir := memoryDir(t)
	for kind, b := range map[string][]byte{"protected": brokenMemory(t), "cut": cutMemory(t)} {
		for what, span := range map[string][]byte{
			"behind the border": b[page+10 : page+100],
			"at the border":     b[page : page+1],
			"across":            b[page-50 : page+50],
			"all":               b,
			"before":            b[page-50 : page],
		} {
			for _, call := range []string{"ReadAt", "Read", "WriteAt", "Write"} {
				var results [2]string
				for i, s := range []*side{osSide(dir), mmapioSide(dir, mmapio.WithMapping(mmapio.MapAlways))} {
					if err := os.WriteFile(s.path("file"), patterned(100_000, 1), 0o666); err != nil {
						t.Fatal(err)
					}
					f, err := s.open(s.path("file"), os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					for range 2 {
						if _, err := f.ReadAt(make([]byte, 100_000), 0); err != nil {
							t.Fatal(err)
						}
					}
					if m, ok := f.(*mmapio.File); ok && mmapio.SupportsMapping && !mmapio.IsKnown(m, 5000, len(span)) {
						t.Fatal("not served from memory")
					}
					if _, err := f.Seek(5000, io.SeekStart); err != nil {
						t.Fatal(err)
					}
					for j := range b[:page] {
						b[j] = byte(j)
					}
					var n int
					switch call {
					case "ReadAt":
						n, err = f.ReadAt(span, 5000)
					case "Read":
						n, err = f.Read(span)
					case "WriteAt":
						n, err = f.WriteAt(span, 5000)
					case "Write":
						n, err = f.Write(span)
					}
					at, seekErr := f.Seek(0, io.SeekCurrent)
					results[i] = fmt.Sprint(n, s.describe(err), " at ", at, s.describe(seekErr))
					if call[0] == 'R' && n > 0 {
						results[i] += bytesOf(span[:n])
					}
					if err := f.Close(); err != nil {
						t.Error(err)
					}
					results[i] += s.contentOf("file")
				}
				if results[0] != results[1] {
					t.Errorf("%s, %s memory %s:\n got %s\nwant %s", call, kind, what, results[1], results[0])
				}
			}
		}
	}
}
