package mmapio_test

import (
	"io"
	"testing"

	"github.com/mmapio/mmapio"
)

// The fast path allocates nothing.
func TestFastPathAllocatesNothing(t *testing.T) {
	const size = 1 << 20
	for what, options := range map[string][]mmapio.Option{
		"plain":         nil,
		"preallocating": {mmapio.WithPreallocate(1 << 20)},
	} {
		f := openWarm(t, newFilled(t, size, 1), options...)
		small, large := make([]byte, 64), make([]byte, 20_000)
		text := string(small)
		rewind := func() {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
		}
		calls := map[string]func(i int64) (int, error){
			"ReadAt":             func(i int64) (int, error) { return f.ReadAt(small, i*64) },
			"ReadAt, many pages": func(i int64) (int, error) { return f.ReadAt(large, i*64) },
			"WriteAt":            func(i int64) (int, error) { return f.WriteAt(small, i*64) },
			"Read":               func(int64) (int, error) { return f.Read(small) },
			"Write":              func(int64) (int, error) { return f.Write(small) },
			"WriteString":        func(int64) (int, error) { return f.WriteString(text) },
			"Seek": func(i int64) (int, error) {
				at, err := f.Seek(i, io.SeekStart)
				return int(at), err
			},
			"Seek from here": func(int64) (int, error) {
				at, err := f.Seek(1, io.SeekCurrent)
				return int(at), err
			},
		}
		for name, call := range calls {
			rewind()
			if _, err := f.WriteAt(small, 0); err != nil { // starts the timer for the modification time
				t.Fatal(err)
			}
			var i int64
			n := testing.AllocsPerRun(500, func() {
				if _, err := call(i); err != nil {
					t.Fatal(err)
				}
				i++
			})
			if n != 0 {
				t.Errorf("%s, %s: %v allocations", what, name, n)
			}
		}
	}
}

// An append into the preallocated tail allocates nothing either.
func TestPreallocatedAppendAllocatesNothing(t *testing.T) {
	if !mmapio.SupportsMapping || mmapio.MustUnmapToResize {
		t.Skip("appends are system calls here")
	}
	f := openWarm(t, newFilled(t, 100_000, 1), mmapio.WithPreallocate(8<<20))
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	appendOne := func() {
		if n, err := f.Write(b); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
	}
	for range 5000 {
		appendOne()
	}
	if n := testing.AllocsPerRun(2000, appendOne); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
