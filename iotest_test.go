package mmapio_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/mmapio/mmapio"
)

// A File is a sound Reader, Seeker and ReaderAt, however it is opened and mapped.
func TestReader(t *testing.T) {
	sizes := []int{0, 1, 4095, 4096, 4097, 100 << 10, 3<<20 + 1}
	for _, mapping := range []struct {
		name  string
		value mmapio.Mapping
	}{
		{"MapAuto", mmapio.MapAuto},
		{"MapAlways", mmapio.MapAlways},
		{"MapNever", mmapio.MapNever},
	} {
		for _, mode := range []struct {
			name string
			flag int
		}{
			{"read-only", os.O_RDONLY},
			{"read-write", os.O_RDWR},
		} {
			for _, size := range sizes {
				// The kit reads each byte by itself.
				if size > 1<<20 && mapping.value != mmapio.MapAlways {
					continue
				}
				once := size > 1<<20 || size > 1<<16 && mapping.value == mmapio.MapNever
				t.Run(fmt.Sprintf("%s/%s/%d", mapping.name, mode.name, size), func(t *testing.T) {
					content := patterned(size, size)
					name := filepath.Join(t.TempDir(), "file")
					if err := os.WriteFile(name, content, 0o666); err != nil {
						t.Fatal(err)
					}
					f, err := mmapio.OpenFile(name, mode.flag, 0, mmapio.WithMapping(mapping.value))
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						if err := f.Close(); err != nil {
							t.Error(err)
						}
					}()
					// Once when nothing is known to be in memory, and again when all of it is.
					for _, state := range []string{"cold", "warm"} {
						if err := iotest.TestReader(f, content); err != nil {
							t.Errorf("%s: %v", state, err)
						}
						if once {
							break
						}
						warmUp(t, f)
						if _, err := f.Seek(0, io.SeekStart); err != nil {
							t.Fatal(err)
						}
					}
				})
			}
		}
	}
}
