package mmapio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

const (
	grownFrom = 300 << 20 // is mapped in a window that leaves room
	grownTo   = 520 << 20
	grownBy   = 20 << 20
	aheadMost = mmapio.MapAhead + 2<<20 // rounded to huge pages
)

func needReserve(t *testing.T) {
	t.Helper()
	if !mmapio.Is64Bit {
		t.Skip("no addresses are reserved here")
	}
	needKernel(t, "there is not room for many large windows")
}

// openSparse opens a mapped file of grownFrom bytes, almost all of them a hole.
func openSparse(t *testing.T, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	needReserve(t)
	name := filepath.Join(memoryDir(t), "file")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, grownFrom); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, append(options, mmapio.WithMapping(mmapio.MapAlways))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if !mmapio.MapNow(f) {
		t.Fatal("not mapped")
	}
	return f
}

// growths are the ways in which a file grows to a size.
var growths = []struct {
	name string
	to   func(f *mmapio.File, size int64) error
}{
	{"Truncate", func(f *mmapio.File, size int64) error {
		if err := f.Truncate(size); err != nil {
			return err
		}
		_, err := f.WriteAt([]byte("at the end"), size-10)
		return err
	}},
	{"WriteAt", func(f *mmapio.File, size int64) error {
		_, err := f.WriteAt([]byte("at the end"), size-10)
		return err
	}},
	{"another", func(f *mmapio.File, size int64) error {
		other, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		// More than a page, however long that is.
		_, err = other.WriteAt(append(make([]byte, 128<<10), "at the end"...), size-10-128<<10)
		return errors.Join(err, other.Close())
	}},
	{"View", func(f *mmapio.File, size int64) error {
		if err := f.Truncate(size); err != nil {
			return err
		}
		v, err := f.View(size-10, 10)
		if err != nil {
			return err
		}
		defer v.Release()
		_, err = v.WriteAt([]byte("at the end"), 0)
		return err
	}},
}

// grow grows f step by step as far as grownTo, and looks at what is there.
func grow(t *testing.T, f *mmapio.File, to func(f *mmapio.File, size int64) error, look func(size int64)) {
	t.Helper()
	for size := int64(grownFrom + grownBy); size <= grownTo; size += grownBy {
		if err := to(f, size); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Size(); got != size || err != nil {
			t.Fatalf("%d bytes, %v, want %d", got, err, size)
		}
		b := make([]byte, 20)
		if n, err := f.ReadAt(b, size-20); n != 20 || err != nil || !bytes.Equal(b, append(make([]byte, 10), "at the end"...)) {
			t.Fatalf("read %q, %v, at the end of %d bytes", b[:n], err, size)
		}
		look(size)
	}
	content, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	b := make([]byte, 10)
	for end := int64(grownFrom + grownBy); end <= grownTo; end += grownBy {
		if _, err := content.ReadAt(b, end-10); err != nil || string(b) != "at the end" {
			t.Errorf("%q, %v, before %d", b, err, end)
		}
	}
}

// A file grows in its window, where the kernel finds it mapped not much further than it
// goes, in one area of memory.
func TestGrowsInPlace(t *testing.T) {
	for _, growth := range growths {
		t.Run(growth.name, func(t *testing.T) {
			f := openSparse(t)
			address, length := mmapio.MemoryOf(f)
			grow(t, f, growth.to, func(size int64) {
				t.Helper()
				if now, _ := mmapio.MemoryOf(f); now != address {
					t.Fatalf("mapped anew at %d bytes", size)
				}
				if !mmapio.IsKnown(f, size-10, 10) {
					t.Errorf("the last bytes of %d are not served from memory", size)
				}
				areas := areasOf(t, address, length)
				if len(areas) != 2 || !areas[0].has("sh") || areas[1].has("sh") || areas[1].has("rd") || areas[1].has("wr") {
					t.Fatalf("%d areas at %d bytes: %v", len(areas), size, areas)
				}
				if reach := int64(areas[0].to - address); reach < size || reach > size+aheadMost {
					t.Errorf("%d bytes are mapped of %d", reach, size)
				}
			})
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if inMaps(t, f.Name()) {
				t.Error("still mapped after Close")
			}
		})
	}
}

// What was asked for the memory is done for what is mapped later too.
func TestGrowsWithAdvice(t *testing.T) {
	needKernel(t, "advice has no effect")
	for _, c := range lastingAdvice {
		t.Run(fmt.Sprint(c.advice), func(t *testing.T) {
			skipWithoutAdvice(t, c.advice)
			f := openSparse(t)
			const from = 400 << 20
			if err := f.Advise(from, math.MaxInt64-from, c.advice); err != nil {
				t.Fatal(err)
			}
			address, length := mmapio.MemoryOf(f)
			grow(t, f, growths[0].to, func(size int64) {
				t.Helper()
				mapped := areasOf(t, address, length)
				end := mapped[len(mapped)-1].from - address // where the reserved addresses begin
				if end < from {
					return
				}
				want := [][2]uintptr{{from, end}}
				if got := flaggedBytes(t, address, length, c.flag); !slices.Equal(got, want) {
					t.Errorf("%q at %v of %d bytes, want %v", c.flag, got, size, want)
				}
			})
		})
	}
}

// Where the kernel does not map more of a file in place, the file is mapped anew.
func TestGrowsAnew(t *testing.T) {
	for _, failing := range [][]string{{"mapAt"}, {"mapAt", "seal"}, {"mapAt", "mapFile"}} {
		for _, growth := range growths {
			if growth.name == "View" && len(failing) == 2 && failing[1] == "mapFile" {
				continue // a View needs a mapping
			}
			t.Run(fmt.Sprint(failing, growth.name), func(t *testing.T) {
				f := openSparse(t)
				failed := 0
				restore := mmapio.Intercept(func(name string) error {
					if !slices.Contains(failing, name) {
						return nil
					}
					if name == "mapAt" {
						failed++
					}
					return mmapio.NoAddresses
				})
				defer restore()
				grow(t, f, growth.to, func(int64) {})
				if failed == 0 {
					t.Error("nothing failed")
				}
			})
		}
	}
}

// A File that is closed, or cut, just before more of it is mapped leaves nothing mapped.
func TestGrowsWhileItGoesAway(t *testing.T) {
	for name, goAway := range map[string]func(f *mmapio.File) error{
		"Close":    (*mmapio.File).Close,
		"Truncate": func(f *mmapio.File) error { return f.Truncate(1) },
	} {
		t.Run(name, func(t *testing.T) {
			f := openSparse(t)
			if err := f.Truncate(grownTo); err != nil {
				t.Fatal(err)
			}
			gone := false
			restore := mmapio.Intercept(func(name string) error {
				if name == "mapAt" && !gone {
					gone = true
					if err := goAway(f); err != nil {
						t.Error(err)
					}
				}
				return nil
			})
			defer restore()
			_, _ = f.WriteAt([]byte("x"), grownTo-1)
			if !gone {
				t.Fatal("nothing was mapped")
			}
			if mmapio.IsMapped(f) || inMaps(t, f.Name()) {
				t.Error("still mapped")
			}
		})
	}
}

// What is allocated ahead is mapped as it is needed, in place, and appended to in memory.
func TestGrowsPreallocated(t *testing.T) {
	f := openSparse(t, mmapio.WithPreallocate(8<<20))
	const from = grownFrom + mmapio.MapAhead - 4<<20
	if err := f.Truncate(from); err != nil {
		t.Fatal(err)
	}
	address, _ := mmapio.MemoryOf(f)
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	piece := patterned(100_000, 7)
	const pieces = 120
	for i := range pieces {
		if _, err := f.Write(piece); err != nil {
			t.Fatal(err)
		}
		if now, _ := mmapio.MemoryOf(f); now != address {
			t.Fatalf("mapped anew after %d pieces", i)
		}
		if i > 0 && !mmapio.IsKnown(f, from+int64(i)*int64(len(piece)), len(piece)) {
			t.Fatalf("piece %d is not served from memory", i)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if _, err := content.Seek(from, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	written, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, bytes.Repeat(piece, pieces)) {
		t.Errorf("%d bytes were written, and %d others are in the file", pieces*len(piece), len(written))
	}
}

// An empty write far behind the end has no more of the file mapped.
func TestGrowsNotForNothing(t *testing.T) {
	f := openSparse(t, mmapio.WithPreallocate(1<<20))
	defer mmapio.Intercept(func(name string) error {
		if name == "mapAt" {
			t.Error("more of the file is mapped")
		}
		return nil
	})()
	if n, err := f.WriteAt(nil, grownTo); n != 0 || err != nil {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
}

// What is locked to the end of the file stays so where the file grows, and nothing beyond is.
func TestGrowsLocked(t *testing.T) {
	f := openSparse(t)
	if err := f.LockOnFault(0, math.MaxInt64); err != nil {
		t.Skipf("so much cannot be locked here: %v", err)
	}
	address, length := mmapio.MemoryOf(f)
	grow(t, f, growths[0].to, func(size int64) {
		if got, want := flaggedBytes(t, address, length, "lo"), [][2]uintptr{{0, uintptr(size)}}; !slices.Equal(got, want) {
			t.Errorf("%v is locked of %d bytes", got, size)
		}
	})
	if err := f.UnlockAll(); err != nil {
		t.Fatal(err)
	}
	if got := flaggedBytes(t, address, length, "lo"); len(got) > 0 {
		t.Errorf("%v stays locked", got)
	}
}

// A file system that went away refuses to map more of a file. The addresses that are reserved
// for it stay so: whoever maps memory meanwhile does not get them.
func TestGrowsOnDeadDisk(t *testing.T) {
	needReserve(t)
	d := disks["ext4"](t)
	name := filepath.Join(d.dir, "file")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, grownFrom); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !mmapio.MapNow(f) {
		t.Fatal("not mapped")
	}
	if err := os.Truncate(name, grownTo); err != nil {
		t.Fatal(err)
	}
	d.shutDown(t)
	address, length := mmapio.MemoryOf(f)
	sum := func() (n uintptr) {
		for _, a := range areasOf(t, address, length) {
			n += min(a.to, address+length) - max(a.from, address)
		}
		return n
	}
	tried := 0
	defer mmapio.Intercept(func(name string) error {
		switch name {
		case "mapAt":
			tried++
		case "mapFile":
			if got := sum(); got != length { // the next step after mapAt has failed
				t.Errorf("%d bytes of the window are left, want %d", got, length)
			}
		}
		return nil
	})()
	for range 100 {
		if v, err := f.View(grownTo-100, 100); err == nil {
			v.Release()
			t.Fatal("a View of a file on a dead disk")
		}
	}
	if tried != 1 {
		t.Errorf("tried %d times to map more", tried)
	}
}

// Several at once write and read where the file grows, and advise and flush it.
func TestRaceWithGrowth(t *testing.T) {
	for _, options := range [][]mmapio.Option{nil, {mmapio.WithPreallocate(3 << 20)}} {
		end := time.Now().Add(raceTime(t))
		for rounds := 0; rounds == 0 || time.Now().Before(end); rounds++ {
			f := openSparse(t, options...)
			r := newRace(t, time.Hour)
			var next atomic.Int64
			for range 3 {
				r.run("growth", func(*rand.Rand) error {
					off := grownFrom + next.Add(1<<20) + 100
					if off > grownTo {
						r.over.Store(true)
						return nil
					}
					want := binary.LittleEndian.AppendUint64(nil, uint64(off))
					if n, err := f.WriteAt(want, off); n != 8 || err != nil {
						return fmt.Errorf("wrote %d bytes, %w", n, err)
					}
					got := make([]byte, 8)
					if n, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
						return fmt.Errorf("read %x at %d, %w", got[:n], off, err)
					}
					v, err := f.View(off, 8)
					if err != nil {
						return err
					}
					defer v.Release()
					if !bytes.Equal(v.Bytes(), want) {
						return fmt.Errorf("%x in the View at %d", v.Bytes(), off)
					}
					return nil
				})
			}
			r.run("controls", func(*rand.Rand) error {
				return errors.Join(f.Advise(0, math.MaxInt64, mmapio.AdviceDontDump),
					f.Advise(350<<20, math.MaxInt64-350<<20, mmapio.AdviceDoDump), f.Flush())
			})
			r.wait()
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			file, err := os.Open(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			for off := int64(grownFrom + 1<<20 + 100); off <= grownTo; off += 1 << 20 {
				got := make([]byte, 8)
				if _, err := file.ReadAt(got, off); err != nil || binary.LittleEndian.Uint64(got) != uint64(off) {
					t.Errorf("%x in the end at %d, %v", got, off, err)
				}
			}
			file.Close()
			if err := os.Remove(f.Name()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
