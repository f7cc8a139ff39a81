package mmapio_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mmapio/mmapio"
)

// A sparse file that is larger than the address space of a 32-bit program is read
// and written everywhere.
func TestHugeSparseFile(t *testing.T) {
	const size = 8<<30 + 12345
	name := filepath.Join(t.TempDir(), "file")
	if err := makeSparse(name); err != nil {
		t.Skipf("a file with a hole may take all of its space here: %v", err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666, mmapio.WithSize(size), mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Skipf("no file of that size here: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	other, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 300 {
		off := random.Int64N(size - 10_000)
		switch i {
		case 0:
			off = size - 10_000
		case 1:
			off = 1<<32 - 5000
		case 2:
			off = 1<<31 - 5000
		}
		want := patterned(10_000, i)
		if _, err := other.WriteAt(want, off); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			got := make([]byte, len(want))
			if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("at %d: %s, %v", off, bytesOf(got), err)
			}
		}
		want = patterned(500, i+1)
		if _, err := f.WriteAt(want, off+100); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := other.ReadAt(got, off+100); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("others at %d: %s, %v", off, bytesOf(got), err)
		}
	}
	if at, err := f.Seek(-100, io.SeekEnd); at != size-100 || err != nil {
		t.Fatal(at, err)
	}
	if rest, err := io.ReadAll(f); len(rest) != 100 || err != nil {
		t.Error(len(rest), err)
	}
	if n, err := f.ReadAt(make([]byte, 10), size-3); n != 3 || err != io.EOF {
		t.Error(n, err)
	}
}
