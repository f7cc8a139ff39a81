package mmapio_test

import (
	"sync/atomic"
	"testing"

	"github.com/mmapio/mmapio"
)

func BenchmarkView(b *testing.B) {
	f := temporary(b, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		v, err := f.View(4096, 100)
		if err != nil {
			b.Fatal(err)
		}
		v.Release()
	}
}

func BenchmarkChunk(b *testing.B) {
	f := temporary(b, 64<<20)
	chunks := f.Chunks(4096)
	for range chunks.All() {
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		for range chunks.All() {
			if n++; n >= b.N {
				break
			}
		}
		if err := chunks.Err(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAtomicAdd(b *testing.B) {
	f := temporary(b, 1<<20)
	v, err := f.View(0, 4096)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Release()
	inView, err := v.Uint64(64)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("heap", func(b *testing.B) {
		word := new(atomic.Uint64)
		for b.Loop() {
			word.Add(1)
		}
	})
	b.Run("view", func(b *testing.B) {
		for b.Loop() {
			inView.Add(1)
		}
	})
}

// temporary returns a File of that size, opened for reading and writing.
func temporary(t testing.TB, size int64) *mmapio.File {
	t.Helper()
	f, err := mmapio.CreateTemp(t.TempDir(), "", mmapio.WithSize(size))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
