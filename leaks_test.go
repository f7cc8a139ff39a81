package mmapio_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// eventually waits for something that the collector or a timer does in the background.
func eventually(t testing.TB, what string, is func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		runtime.GC()
		if err = is(); err == nil {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}

// useOnce opens the file, has it mapped, uses it and closes it.
func useOnce(name string, b []byte) error {
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		return err
	}
	for range 2 {
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Close()
}

// Opening and closing leaves no goroutine and no mapping behind.
func TestGoroutinesAndMappingsGoAway(t *testing.T) {
	settled(t)
	before := runtime.NumGoroutine()
	name := newFilled(t, 10_000, 1)
	b := make([]byte, 100)
	for range 2000 {
		if err := useOnce(name, b); err != nil {
			t.Fatal(err)
		}
	}
	if inUse, _ := mmapio.Mappings(); inUse != 0 {
		t.Errorf("%d mappings are in use", inUse)
	}
	eventually(t, "in the end", func() error {
		if _, all := mmapio.Mappings(); all != 0 {
			return fmt.Errorf("%d mappings are left", all)
		}
		if now := runtime.NumGoroutine(); now > before {
			return fmt.Errorf("%d goroutines, were %d", now, before)
		}
		return nil
	})
}

// A File that is only open costs next to nothing: no goroutine, no mapping, and no
// more than 512 bytes beyond what the os.File costs.
func TestIdleFilesAreCheap(t *testing.T) {
	const count = 1000
	settled(t)
	name := newFilled(t, 10_000, 1)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	goroutines := runtime.NumGoroutine()
	// measure returns the bytes that each open file takes.
	measure := func(open func() (file, error)) float64 {
		files := make([]file, count)
		before := heap()
		for i := range files {
			f, err := open()
			if err != nil {
				t.Skipf("%d files cannot be open at once: %v", count, err)
			}
			files[i] = f
		}
		after := heap()
		if now := runtime.NumGoroutine(); now > goroutines {
			t.Errorf("%d goroutines, were %d", now, goroutines)
		}
		if _, all := mmapio.Mappings(); all != 0 {
			t.Errorf("%d mappings", all)
		}
		for _, f := range files {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		return (float64(after) - float64(before)) / count
	}
	theirs := measure(func() (file, error) { return os.Open(name) })
	for what, options := range map[string][]mmapio.Option{
		"plain":         nil,
		"always mapped": {mmapio.WithMapping(mmapio.MapAlways)},
		"preallocating": {mmapio.WithPreallocate(1 << 20)},
	} {
		ours := measure(func() (file, error) { return mmapio.OpenFile(name, os.O_RDWR, 0, options...) })
		t.Logf("%s: %.0f bytes, an os.File %.0f, a File itself %d", what, ours, theirs, mmapio.SizeOfFile)
		if ours-theirs > 512 {
			t.Errorf("%s: %.0f bytes beyond the os.File, at most 512 may be", what, ours-theirs)
		}
	}
}

// One read of a small file maps nothing.
// A file that is only appended to is not mapped; one that is used after that is.
func TestAppendedFileIsMappedWhenUsed(t *testing.T) {
	for name, use := range map[string]func(f *mmapio.File, b []byte, off int64) (int, error){
		"ReadAt":  (*mmapio.File).ReadAt,
		"WriteAt": (*mmapio.File).WriteAt,
		"Seek and Write": func(f *mmapio.File, b []byte, off int64) (int, error) {
			if _, err := f.Seek(off, io.SeekStart); err != nil {
				return 0, err
			}
			return f.Write(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := mmapio.Create(filepath.Join(t.TempDir(), "file"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b := patterned(512, 1)
			for range 1000 {
				if _, err := f.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			if mmapio.IsMapped(f) {
				t.Error("mapped although it was only appended to")
			}
			for off := range int64(40) {
				if _, err := use(f, b, off*512); err != nil {
					t.Fatal(err)
				}
			}
			if !mmapio.IsMapped(f) && mmapio.MapNow(f) {
				t.Error("not mapped after 40 calls")
			}
		})
	}
}

func TestReadOnceMapsNothing(t *testing.T) {
	settled(t)
	name := newFilled(t, 4096, 1)
	f, err := mmapio.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
		t.Fatal(err)
	}
	if mmapio.IsMapped(f) {
		t.Error("mapped after one read")
	}
	if _, all := mmapio.Mappings(); all != 0 {
		t.Errorf("%d mappings", all)
	}
}
