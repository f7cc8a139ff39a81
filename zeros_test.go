package mmapio_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/mmapio/mmapio"
)

// zeroWays are files of which only the bytes differ, and how they came to be.
var zeroWays = map[string]func(t *testing.T, name string, content []byte, size int64){
	"written": func(t *testing.T, name string, content []byte, size int64) {
		if err := os.WriteFile(name, append(bytes.Clone(content), make([]byte, size-int64(len(content)))...), 0o666); err != nil {
			t.Fatal(err)
		}
	},
	"a hole": func(t *testing.T, name string, content []byte, size int64) {
		if err := os.WriteFile(name, content, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
	},
	"stored": func(t *testing.T, name string, content []byte, size int64) {
		f, err := mmapio.Create(name, mmapio.WithSize(size), mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !mmapio.SupportsMapping {
			t.Skip("no mappings here")
		}
		if len(content) == 0 {
			return
		}
		v, err := f.View(0, int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Release()
		if _, err := v.WriteAt(content, 0); err != nil {
			t.Fatal(err)
		}
	},
}

func TestTrailingZeros(t *testing.T) {
	lengths := []int64{0, 1, 100, 4095, 4096, 4097, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, 3<<20 + 5}
	for way, make := range zeroWays {
		t.Run(way, func(t *testing.T) {
			name := memoryDir(t) + "/file"
			for _, written := range lengths {
				for _, zeros := range lengths {
					if written+zeros == 0 {
						continue
					}
					content := patterned(int(written), 1)
					if written > 10 {
						content[written/2] = 0 // not at the end
					}
					make(t, name, content, written+zeros)
					for kind, options := range map[string][]mmapio.Option{
						"":        nil,
						"private": {mmapio.WithCopyOnWrite()},
					} {
						f, err := mmapio.OpenFile(name, os.O_RDWR, 0, options...)
						if err != nil {
							t.Fatal(err)
						}
						if got, err := f.TrailingZeros(); got != zeros || err != nil {
							t.Errorf("%d bytes and %d zeros, %s: %d, %v", written, zeros, kind, got, err)
						}
						if at, err := f.Seek(0, io.SeekCurrent); at != 0 || err != nil {
							t.Errorf("position %d, %v", at, err)
						}
						f.Close()
					}
				}
			}
		})
	}
}

// A private copy has zeros where they were written, and its own bytes where the file has zeros.
func TestTrailingZerosOfPrivateCopy(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings here")
	}
	name := newFilled(t, 10_000, 1)
	if err := os.Truncate(name, 1<<20); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithCopyOnWrite())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := all(1)(f.WriteAt([]byte("x"), 500_000)); err != nil {
		t.Fatal(err)
	}
	if got, err := f.TrailingZeros(); got != 1<<20-500_001 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}

// The tail of the File itself does not count; for others it does.
func TestTrailingZerosOfTail(t *testing.T) {
	name := t.TempDir() + "/file"
	f, err := mmapio.Create(name, mmapio.WithPreallocate(1<<20), mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := all(1000)(f.Write(patterned(1000, 1))); err != nil {
		t.Fatal(err)
	}
	if got, err := f.TrailingZeros(); got != 0 || err != nil {
		t.Errorf("the File itself: %d, %v", got, err)
	}
	other, err := mmapio.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	size, err := other.Size()
	if err != nil {
		t.Fatal(err)
	}
	if size == 1000 {
		t.Skip("this file system does not allocate")
	}
	if got, err := other.TrailingZeros(); got != size-1000 || err != nil {
		t.Errorf("another one: %d, %v, want %d", got, err, size-1000)
	}
}

func TestTrailingZerosFails(t *testing.T) {
	name := newFilled(t, 1000, 1)
	f, err := mmapio.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var failed *fs.PathError
	if _, err := f.TrailingZeros(); !errors.As(err, &failed) {
		t.Errorf("opened for writing only: %v", err)
	}
	f.Close()
	if _, err := f.TrailingZeros(); !isStatOfClosed(err) && !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := (*mmapio.File)(nil).TrailingZeros(); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("nil: %v", err)
	}
	if _, err := new(mmapio.File).TrailingZeros(); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("zero File: %v", err)
	}
}
