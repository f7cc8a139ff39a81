package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"testing"

	"github.com/mmapio/mmapio"
)

// Chunks come in order, cover the file, and the last one is short, whatever their size.
func TestChunks(t *testing.T) {
	needMappings(t)
	const region = 2 << 20 // what is looked at in one piece
	for _, size := range []int{0, 1, 4095, 4096, 4097, 100_000, region - 1, region, region + 1, 2*region + 4097} {
		name, body := newFilled(t, size, 1), patterned(size, 1)
		for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
			f := openFor(t, name, os.O_RDWR, options...)
			for _, piece := range []int{1, 3, 4095, 4096, 4097, region/2 + 1, region, region + 1, size - 1, size, size + 1, math.MaxInt - 1, math.MaxInt} {
				if piece <= 0 || piece < 100 && size > 200_000 {
					continue
				}
				what := fmt.Sprintf("%s, size %d in pieces of %d", way, size, piece)
				check := func(how string, at int64, off int64, chunk []byte) {
					t.Helper()
					want := min(piece, size-int(at))
					if off != at || len(chunk) != want || cap(chunk) != want {
						t.Fatalf("%s, %s: %d bytes, room for %d, at %d; want %d at %d", what, how, len(chunk), cap(chunk), off, want, at)
					}
					if !bytes.Equal(chunk, body[off:off+int64(want)]) {
						t.Fatalf("%s, %s: other bytes at %d", what, how, off)
					}
				}
				at := int64(0)
				chunks := f.Chunks(piece)
				for range 2 {
					at = 0
					for off, chunk := range chunks.All() {
						check("Chunks", at, off, chunk)
						at += int64(len(chunk))
					}
					if err := chunks.Err(); err != nil || at != int64(size) {
						t.Errorf("%s: ended at %d, %v", what, at, err)
					}
				}
				at = 0
				err := f.UpdateChunks(piece, func(off int64, chunk []byte) error {
					check("UpdateChunks", at, off, chunk)
					at += int64(len(chunk))
					return nil
				})
				if mmapio.SupportsStamp && (err != nil || at != int64(size)) {
					t.Errorf("%s: UpdateChunks ended at %d, %v", what, at, err)
				}
			}
			f.Close()
		}
	}
}

func TestPages(t *testing.T) {
	needMappings(t)
	f := openFor(t, newFilled(t, 3*os.Getpagesize()+5, 1), os.O_RDONLY)
	var sizes []int
	for _, page := range f.Pages().All() {
		sizes = append(sizes, len(page))
	}
	if page := os.Getpagesize(); fmt.Sprint(sizes) != fmt.Sprint([]int{page, page, page, 5}) {
		t.Error(sizes)
	}
}

// Sizes that are none, and files that have no chunks.
func TestChunksErrors(t *testing.T) {
	needMappings(t)
	f := openFor(t, newFilled(t, 10_000, 1), os.O_RDWR)
	for _, size := range []int{0, -1, math.MinInt} {
		chunks := f.Chunks(size)
		for range chunks.All() {
			t.Error("a chunk")
		}
		if err := chunks.Err(); !errors.Is(err, mmapio.ErrOutOfRange) || !errors.As(err, new(*fs.PathError)) {
			t.Errorf("Chunks(%d): %v", size, err)
		}
		if err := f.UpdateChunks(size, nil); !errors.Is(err, mmapio.ErrOutOfRange) {
			t.Errorf("UpdateChunks(%d): %v", size, err)
		}
	}
	for what, flag := range map[string]int{"read-only": os.O_RDONLY, "append": os.O_RDWR | os.O_APPEND} {
		err := openFor(t, f.Name(), flag).UpdateChunks(100, func(int64, []byte) error {
			t.Error("called")
			return nil
		})
		if !errors.Is(err, mmapio.ErrReadOnly) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", what, err)
		}
	}
	chunks := f.Chunks(100)
	if err := chunks.Err(); err != nil {
		t.Errorf("before the loop: %v", err)
	}
	f.Close()
	for range chunks.All() {
		t.Error("a chunk of a closed File")
	}
	if !errors.Is(chunks.Err(), fs.ErrClosed) {
		t.Errorf("closed: %v", chunks.Err())
	}
	empty := openFor(t, newFilled(t, 0, 1), os.O_WRONLY)
	if err := empty.UpdateChunks(10, nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("empty and write-only: %v", err)
	}
}

// Whatever ends a loop early leaves no memory in use.
func TestChunksEndEarly(t *testing.T) {
	needMappings(t)
	const size = 5 << 20
	name := newFilled(t, size, 1)
	mine := errors.New("mine")
	for what, loop := range map[string]func(f *mmapio.File){
		"break": func(f *mmapio.File) {
			chunks := f.Chunks(1000)
			seen := 0
			for range chunks.All() {
				if seen++; seen == 3000 {
					break
				}
			}
			if chunks.Err() != nil || seen != 3000 {
				t.Errorf("%d seen, %v", seen, chunks.Err())
			}
		},
		"panic": func(f *mmapio.File) {
			if got := recovered(func() {
				for off := range f.Chunks(1000).All() {
					if off > 3_000_000 {
						panic(mine)
					}
				}
			}); got != mine {
				t.Errorf("recovered %v", got)
			}
		},
		"error of UpdateChunks": func(f *mmapio.File) {
			last := int64(0)
			err := f.UpdateChunks(1000, func(off int64, chunk []byte) error {
				last = off
				if off >= 3_000_000 {
					return mine
				}
				return nil
			})
			if err != mine || last != 3_000_000 {
				t.Errorf("%v at %d", err, last)
			}
		},
		"panic in UpdateChunks": func(f *mmapio.File) {
			if got := recovered(func() { _ = f.UpdateChunks(1000, func(int64, []byte) error { panic(mine) }) }); got != mine {
				t.Errorf("recovered %v", got)
			}
		},
		"Goexit": func(f *mmapio.File) {
			left := make(chan bool)
			go func() {
				defer close(left)
				for range f.Chunks(1000).All() {
					runtime.Goexit()
				}
			}()
			<-left
		},
	} {
		if what[0] != 'b' && what[0] != 'p' && what[0] != 'G' && !mmapio.SupportsStamp {
			continue
		}
		f := openFor(t, name, os.O_RDWR)
		loop(f)
		// With no View left the file can be cut everywhere.
		if err := f.Truncate(size); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := f.Truncate(1000); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		f.Close()
		if err := os.WriteFile(name, patterned(size, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// What the updating form stores is in the file, and for everybody to see.
func TestUpdateChunks(t *testing.T) {
	needMappings(t)
	if !mmapio.SupportsStamp {
		t.Skip("nothing is stored through mappings on this system")
	}
	const size = 5<<20 + 123
	for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
		f := openFor(t, newFilled(t, size, 1), os.O_RDWR, options...)
		if err := f.UpdateChunks(777, func(off int64, chunk []byte) error {
			for i := range chunk {
				chunk[i] ^= byte(off + int64(i))
			}
			_ = append(chunk, 1, 2, 3) // has no room behind
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := patterned(size, 1)
		for i := range want {
			want[i] ^= byte(i)
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes, %v", way, err)
		}
	}
}

// Somebody cuts the file during the loop: what was cut before its turn is a range that
// is not there any more; in the piece that is looked at it is a fault.
func TestChunksOfCutFile(t *testing.T) {
	needMappings(t)
	if mmapio.MustUnmapToResize {
		t.Skip("files that have Views cannot be cut here")
	}
	const size, end = 9 << 20, 1 << 20
	for by, cut := range map[string]func(f *mmapio.File) error{
		"File":        func(f *mmapio.File) error { return f.Truncate(end) },
		"os.Truncate": func(f *mmapio.File) error { return os.Truncate(f.Name(), end) },
	} {
		for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
			t.Run(by+", "+way, func(t *testing.T) {
				if by == "os.Truncate" && way == "mapped" {
					needKernel(t, "bringing in what is not there is no error")
				}
				f := openFor(t, newFilled(t, size, 1), os.O_RDWR, options...)
				chunks := f.Chunks(512 << 10)
				count := 0
				for range chunks.All() { // no look at the bytes
					if count == 1 {
						if err := cut(f); err != nil {
							t.Fatal(err)
						}
					}
					count++
				}
				wrong, ok := errors.AsType[*mmapio.RangeError](chunks.Err())
				if !ok || wrong.Offset != 2<<20 || wrong.Size != end || count != 4 {
					t.Errorf("%d chunks, then %v", count, chunks.Err())
				}
				if err := os.WriteFile(f.Name(), patterned(size, 1), 0); err != nil {
					t.Fatal(err)
				}
				err := mmapio.Guard(func() error {
					for off, chunk := range chunks.All() {
						if off == 512<<10 {
							if err := cut(f); err != nil {
								t.Fatal(err)
							}
						}
						sink += int(chunk[len(chunk)-1])
					}
					return nil
				})
				if fault := faultOf(t, err, f.Name()); fault.Offset != end+512<<10-1 {
					t.Errorf("a fault at %d", fault.Offset)
				}
				if err := os.WriteFile(f.Name(), patterned(size, 1), 0); err != nil {
					t.Fatal(err)
				}
				err = f.UpdateChunks(512<<10, func(off int64, chunk []byte) error {
					if off == 512<<10 {
						if err := cut(f); err != nil {
							t.Fatal(err)
						}
					}
					chunk[len(chunk)-1] = 1
					return nil
				})
				if fault := faultOf(t, err, f.Name()); fault.Offset != end+512<<10-1 {
					t.Errorf("a fault at %d", fault.Offset)
				}
			})
		}
	}
}

// A loop allocates the same however many chunks it has.
func TestChunksAllocations(t *testing.T) {
	needMappings(t)
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f := openFor(t, newFilled(t, 16<<20, 1), os.O_RDWR)
	allocations := func(piece int) float64 {
		chunks := f.Chunks(piece)
		return testing.AllocsPerRun(10, func() {
			for _, chunk := range chunks.All() {
				sink += int(chunk[0])
			}
		})
	}
	allocations(4096) // maps
	few, many := allocations(16<<20), allocations(512)
	if few != many || allocations(2<<20) != few {
		t.Errorf("%v allocations for one chunk, %v for 8, %v for 32768", few, allocations(2<<20), many)
	}
	t.Logf("%v allocations a loop", few)
}
