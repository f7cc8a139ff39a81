package mmapio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mmapio/mmapio"
)

// newAnonymous returns anonymous memory and closes it at the end of the test.
func newAnonymous(t testing.TB, size int64, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.Anonymous(size, options...)
	if errors.Is(err, errors.ErrUnsupported) && !mmapio.SupportsMapping {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	})
	return f
}

// Random operations on anonymous memory and on a file have the same results.
func TestAnonymousIsAFile(t *testing.T) {
	for i, options := range [][]mmapio.Option{
		{}, {mmapio.WithMapping(mmapio.MapAlways)}, {mmapio.WithMapping(mmapio.MapNever)}, {mmapio.WithPreallocate(1 << 16)},
	} {
		random := rand.New(rand.NewPCG(uint64(i), 1))
		f := newAnonymous(t, 10_000, options...)
		twin, err := os.CreateTemp(memoryDir(t), "")
		if err != nil {
			t.Fatal(err)
		}
		defer twin.Close()
		if err := twin.Truncate(10_000); err != nil {
			t.Fatal(err)
		}
		steps := 3000
		if testing.Short() {
			steps = 500
		}
		for step := range steps {
			kind, off, body := random.IntN(12), random.Int64N(60_000), patterned(1+random.IntN(6000), step)
			do := func(f file) string {
				switch kind {
				case 0:
					n, err := f.WriteAt(body, off)
					return fmt.Sprint("WriteAt ", n, err)
				case 1:
					n, err := f.Write(body)
					return fmt.Sprint("Write ", n, err)
				case 2:
					at, err := f.Seek(off, io.SeekStart)
					return fmt.Sprint("Seek ", at, err)
				case 3:
					at, err := f.Seek(0, io.SeekEnd)
					return fmt.Sprint("Seek to the end ", at, err)
				case 4:
					return fmt.Sprint("Truncate ", f.Truncate(off))
				case 5:
					info, err := f.Stat()
					return fmt.Sprint("Stat ", info.Size(), info.Mode().IsRegular(), err)
				case 6:
					n, err := f.Read(body)
					return fmt.Sprint("Read ", n, err, bytesOf(body[:n]))
				case 7:
					return fmt.Sprint("Sync ", f.Sync())
				}
				n, err := f.ReadAt(body, off)
				return fmt.Sprint("ReadAt ", n, err, bytesOf(body[:n]))
			}
			if want, got := do(twin), do(f); got != want {
				t.Fatalf("options %d, step %d: got %s, a file %s", i, step, got, want)
			}
		}
	}
}

// Views show memory that grows and shrinks elsewhere, and words are shared.
func TestAnonymousViews(t *testing.T) {
	f := newAnonymous(t, 1<<20)
	if f.Mode() != mmapio.ReadWrite {
		t.Errorf("Mode is %v", f.Mode())
	}
	v, err := f.View(0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	word, err := v.Uint64(64)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		word.Add(1)
		if err := f.Truncate(int64(1+i) << 20); err != nil {
			t.Fatal(err)
		}
	}
	if mmapio.MustUnmapToResize {
		return // and cannot be cut while there is a View
	}
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	word.Add(1)
	var b [8]byte
	if _, err := f.ReadAt(b[:], 64); err != nil || binary.NativeEndian.Uint64(b[:]) != 21 {
		t.Errorf("the word reads as %v, %v", b, err)
	}
}

// No name appears in the file system, neither while there is anonymous memory nor after.
func TestAnonymousLeavesNoName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	if os.TempDir() != dir {
		t.Skip("the place of temporary files cannot be set here")
	}
	f := newAnonymous(t, 1<<20)
	if _, err := f.WriteAt(patterned(1<<20, 1), 0); err != nil {
		t.Fatal(err)
	}
	names := func() []string {
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if found := names(); len(found) > 0 && !mmapio.MustUnmapToResize {
		t.Errorf("while it is open: %v", found)
	}
	if name := f.Name(); filepath.IsAbs(name) || name != newAnonymous(t, 0).Name() {
		t.Errorf("the name is %q", name)
	}
	if _, err := os.Lstat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file of the name %q: %v", f.Name(), err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if mmapio.MustUnmapToResize {
		return // the second one is still open
	}
	if found := names(); len(found) > 0 {
		t.Errorf("afterwards: %v", found)
	}
}

func TestAnonymousSizes(t *testing.T) {
	for _, size := range []int64{-1, math.MinInt64} {
		if f, err := mmapio.Anonymous(size); f != nil || !isAnyPathError(err) || !errors.Is(err, os.ErrInvalid) {
			t.Errorf("size %d: %v, %v", size, f, err)
		}
	}
	if f, err := mmapio.Anonymous(math.MaxInt64); err == nil { // Linux allows it
		if size, err := f.Size(); size != math.MaxInt64 || err != nil {
			t.Errorf("Size is %d, %v", size, err)
		}
		if _, err := f.View(0, math.MaxInt64); !isAnyPathError(err) {
			t.Errorf("a View of everything: %v", err)
		}
		if n, err := f.WriteAt([]byte("ab"), math.MaxInt64-1); n > 1 || !isAnyPathError(err) {
			t.Errorf("writing past the end: %d, %v", n, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	} else if f != nil || !isAnyPathError(err) {
		t.Errorf("the largest size: %v, %v", f, err)
	}
	if f, err := mmapio.Anonymous(10, mmapio.WithSize(20)); f != nil || err == nil {
		t.Errorf("two sizes: %v, %v", f, err)
	}
	empty := newAnonymous(t, 0)
	if n, err := empty.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("empty: %d, %v", n, err)
	}
}

// Far more than there is memory is no error as long as nobody stores that much.
func TestAnonymousSparse(t *testing.T) {
	const size = 1 << 40
	if mmapio.MustUnmapToResize {
		t.Skip("the file takes up its size on the disk")
	}
	f := newAnonymous(t, size)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		off, want := random.Int64N(size-100), patterned(100, i)
		if _, err := f.WriteAt(want, off); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("at %d: %v", off, err)
		}
	}
	if size, err := f.Size(); size != 1<<40 || err != nil {
		t.Errorf("Size is %d, %v", size, err)
	}
}

func isAnyPathError(err error) bool {
	var failed *fs.PathError
	return errors.As(err, &failed)
}
