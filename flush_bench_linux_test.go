package mmapio_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// BenchmarkFlushOnePage stores to one page of 1 GiB and makes it durable: Flush and
// FlushRange, and WriteAt of an os.File with fdatasync, in turns. It reports the medians
// and how many times as long as the os.File each of the others took.
//
// A file that was written in large pieces lies in large folios: a store through a mapping
// makes the kernel write out all of one.
func BenchmarkFlushOnePage(b *testing.B) {
	for _, row := range []struct {
		name  string
		piece int
	}{{"small folios", 4 << 10}, {"large folios", 1 << 20}} {
		b.Run(row.name, func(b *testing.B) { benchmarkFlushOnePage(b, row.piece) })
	}
}

func benchmarkFlushOnePage(b *testing.B, length int) {
	const size = 1 << 30
	name := filepath.Join(b.TempDir(), "file")
	file, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	piece := patterned(length, 1)
	for off := int64(0); off < size; off += int64(len(piece)) {
		if _, err := file.WriteAt(piece, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := file.Sync(); err != nil {
		b.Fatal(err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		for off := int64(0); off < size; off += int64(len(piece)) {
			if _, err := f.ReadAt(piece, off); err != nil {
				b.Fatal(err)
			}
		}
	}
	if !mmapio.IsKnown(f, 0, size) {
		b.Skip("the file is not in memory")
	}
	always, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithFlushPolicy(mmapio.Always()))
	if err != nil {
		b.Fatal(err)
	}
	defer always.Close()
	record := patterned(64, 2)
	sides := []struct {
		name string
		do   func(off int64) error
		took []float64
	}{
		{name: "os", do: func(off int64) error {
			if _, err := file.WriteAt(record, off); err != nil {
				return err
			}
			return unix.Fdatasync(int(file.Fd()))
		}},
		{name: "Flush", do: func(off int64) error {
			if _, err := f.WriteAt(record, off); err != nil {
				return err
			}
			return f.Flush()
		}},
		{name: "FlushRange", do: func(off int64) error {
			if _, err := f.WriteAt(record, off); err != nil {
				return err
			}
			return f.FlushRange(off, int64(len(record)))
		}},
		{name: "Always", do: func(off int64) error {
			_, err := always.WriteAt(record, off)
			return err
		}},
	}
	way := int64(0)
	for b.Loop() {
		for i := range sides {
			way = (way + 7919) % (size >> 12) // a page that is clean
			side := &sides[i]
			start := time.Now()
			if err := side.do(way<<12 + 100); err != nil {
				b.Fatal(err)
			}
			side.took = append(side.took, float64(time.Since(start)))
		}
	}
	median := func(took []float64) float64 {
		slices.Sort(took)
		return took[len(took)/2]
	}
	theirs := median(sides[0].took)
	b.ReportMetric(theirs, "os-ns")
	for _, side := range sides[1:] {
		b.ReportMetric(median(side.took), side.name+"-ns")
		b.ReportMetric(median(side.took)/theirs, side.name+"/os")
	}
}
