package watch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/watch"
)

// BenchmarkLatency measures from a write to its event at the receiver: the median, and what
// one in a hundred exceeds; of a store through a mapping, until its extent is told. Run it with
// -benchtime 200x.
func BenchmarkLatency(b *testing.B) {
	for _, mode := range []struct {
		name    string
		store   bool // through a mapping, which makes no event
		options []watch.Option
	}{
		{"events/quiet=0", false, []watch.Option{watch.WithQuiet(0)}},
		{"events/quiet=default", false, nil},
		{"polling=100ms/quiet=0", false, []watch.Option{watch.WithPolling(), watch.WithInterval(100 * time.Millisecond), watch.WithQuiet(0)}},
		{"polling=100ms/quiet=default", false, []watch.Option{watch.WithPolling(), watch.WithInterval(100 * time.Millisecond)}},
		{"content=100ms/write", false, []watch.Option{watch.WithContent(4096, 100*time.Millisecond)}},
		{"content=100ms/store", true, []watch.Option{watch.WithContent(4096, 100*time.Millisecond)}},
	} {
		b.Run(mode.name, func(b *testing.B) {
			name := filepath.Join(folder(b), "file")
			write(b, name, strings.Repeat("x", 1<<20))
			f, err := mmapio.OpenFile(name, os.O_RDWR, 0)
			must(b, err)
			defer f.Close()
			unmapped, err := os.OpenFile(name, os.O_WRONLY, 0)
			must(b, err)
			defer unmapped.Close()
			v, err := f.View(0, 1<<20)
			must(b, err)
			defer v.Release()
			w, err := watch.Path(context.Background(), name, mode.options...)
			must(b, err)
			defer w.Close()
			var times []time.Duration
			pause := time.NewTimer(0)
			for i := range b.N {
				pause.Reset(time.Duration(i%10) * 11 * time.Millisecond) // not in step with the polling
				<-pause.C
				start := time.Now()
				if mode.store {
					v.Bytes()[0] = byte(i)
				} else {
					_, err := unmapped.WriteAt([]byte{byte(i)}, 0)
					must(b, err)
				}
				for (<-w.Events).Kind != watch.Modified {
				}
				times = append(times, time.Since(start))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e6, "median-ms")
			b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1e6, "99th-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkCompare reads 64 MiB in memory and compares it with what it was.
func BenchmarkCompare(b *testing.B) {
	for _, blockSize := range []int{4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("block=%d", blockSize), func(b *testing.B) {
			const size = 64 << 20
			name := filepath.Join(folder(b), "file")
			write(b, name, strings.Repeat("0123456789abcdef", size/16))
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			must(b, err)
			defer f.Close()
			w, err := watch.Path(context.Background(), name, watch.WithContent(blockSize, time.Hour), watch.WithQuiet(0))
			must(b, err)
			defer w.Close()
			b.SetBytes(size)
			before := processorTime()
			for i := range b.N {
				_, err := f.WriteAt([]byte{byte(i)}, size-1) // the last block: all is read before
				must(b, err)
				for event := range w.Events {
					if event.Kind == watch.Modified {
						break
					}
				}
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}
