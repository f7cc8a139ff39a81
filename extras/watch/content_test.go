package watch_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mmapio/mmapio/extras/watch"
)

// contentOptions compare at every change that is seen, and nearly never otherwise.
func contentOptions(blockSize int) []watch.Option {
	return []watch.Option{watch.WithContent(blockSize, time.Hour), watch.WithQuiet(50 * time.Millisecond)}
}

// TestWatchExtents compares the extents that are told with exact ones.
func TestWatchExtents(t *testing.T) {
	const blockSize = 4096
	text := strings.Repeat("0123456789abcdef", 8*blockSize/16) + "the end"
	size := int64(len(text))
	set := func(b []byte, off int) { b[off]++ }
	for _, test := range []struct {
		name   string
		change func(b []byte) []byte
		want   []string
	}{
		{"first byte", func(b []byte) []byte { set(b, 0); return b }, []string{"modified 0+4096"}},
		{"last byte of a block", func(b []byte) []byte { set(b, 2*blockSize-1); return b }, []string{"modified 4096+4096"}},
		{"last byte", func(b []byte) []byte { set(b, len(b)-1); return b }, []string{"modified 32768+7"}},
		{"neighbours", func(b []byte) []byte { set(b, blockSize-1); set(b, blockSize); return b }, []string{"modified 0+8192"}},
		{"apart", func(b []byte) []byte { set(b, 0); set(b, 2*blockSize); return b }, []string{"modified 0+4096", "modified 8192+4096"}},
		{"all", func(b []byte) []byte { return bytes.ToUpper(b) }, []string{fmt.Sprintf("modified 0+%d", size)}},
		{"append", func(b []byte) []byte { return append(b, "more"...) }, []string{"resized 32775+4", "modified 32775+4"}},
		{"append blocks", func(b []byte) []byte { return append(b, make([]byte, 3*blockSize)...) }, []string{"resized 32775+12288", "modified 32775+12288"}},
		{"append and change", func(b []byte) []byte { set(b, len(b)-1); return append(b, "more"...) }, []string{"resized 32775+4", "modified 32768+11"}},
		{"cut at a border", func(b []byte) []byte { return b[:blockSize] }, []string{"resized 4096+0"}},
		{"cut inside a block", func(b []byte) []byte { return b[:blockSize+10] }, []string{"resized 4106+0", "modified 4096+10"}},
		{"empty", func(b []byte) []byte { return nil }, []string{"resized 0+0"}},
		{"cut and change", func(b []byte) []byte { set(b, 5); return b[:blockSize] }, []string{"resized 4096+0", "modified 0+4096"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(folder(t), "file")
			write(t, name, text)
			w := begin(t, name, contentOptions(blockSize)...)
			changed := test.change([]byte(text))
			store(t, name, changed)
			for _, want := range test.want {
				event := nextChange(t, w)
				want += fmt.Sprintf(" size %d %s", len(changed), name)
				if event.String() != want {
					t.Errorf("%v, want %s", event, want)
				}
			}
			remove(t, name)
			if event := nextChange(t, w); event.Kind != watch.Removed || event.Size != -1 {
				t.Errorf("another event: %v", event)
			}
		})
	}
}

// store makes the file contain b without making it empty meanwhile.
func store(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	must(t, f.Truncate(int64(len(b))))
	_, err = f.WriteAt(b, 0)
	must(t, err)
	must(t, f.Close())
}

// TestWatchRandomExtents compares extents with those of a model that keeps a copy.
func TestWatchRandomExtents(t *testing.T) {
	for _, blockSize := range []int{64, 100, 4096, 1 << 20} {
		t.Run(fmt.Sprint(blockSize), func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			name := filepath.Join(folder(t), "file")
			old := make([]byte, random.IntN(5*blockSize))
			must(t, os.WriteFile(name, old, 0o600))
			w := begin(t, name, contentOptions(blockSize)...)
			for step := range 15 {
				b := bytes.Clone(old)
				if random.IntN(3) == 0 {
					b = append(b, make([]byte, 5*blockSize)...)[:random.IntN(len(b)+5*blockSize)]
				}
				for range random.IntN(4) + 1 {
					if len(b) > 0 {
						off := random.IntN(len(b))
						n := min(random.IntN(2*blockSize), len(b)-off)
						for i := range b[off : off+n] {
							b[off+i] = byte(random.Uint32())
						}
					}
				}
				if bytes.Equal(b, old) {
					continue
				}
				store(t, name, b)
				want := extentsOf(old, b, blockSize)
				if len(b) != len(old) {
					least := min(len(b), len(old))
					want = append([]string{fmt.Sprintf("resized %d+%d", least, len(b)-least)}, want...)
				}
				for _, want := range want {
					event := nextChange(t, w)
					if !strings.HasPrefix(event.String(), want+" ") {
						t.Fatalf("step %d: %v, want %s", step, event, want)
					}
				}
				old = b
			}
			remove(t, name)
			if event := nextChange(t, w); event.Kind != watch.Removed {
				t.Errorf("another event: %v", event)
			}
		})
	}
}

// extentsOf returns what the documentation says is told.
func extentsOf(old, now []byte, blockSize int) []string {
	var extents [][2]int
	for off := 0; off < len(now); off += blockSize {
		end := min(off+blockSize, len(now))
		known := min(max(len(old)-off, 0), blockSize)
		from := off
		switch n := end - off; {
		case known == n && bytes.Equal(old[off:end], now[off:end]):
			continue
		case known < n && bytes.Equal(old[min(off, len(old)):min(off, len(old))+known], now[off:off+known]):
			from = off + known
		}
		if last := len(extents) - 1; last >= 0 && extents[last][1] == from {
			extents[last][1] = end
		} else {
			extents = append(extents, [2]int{from, end})
		}
	}
	var texts []string
	for _, e := range extents {
		texts = append(texts, fmt.Sprintf("modified %d+%d", e[0], e[1]-e[0]))
	}
	return texts
}

// TestWatchManyExtents has more extents than anything could queue: they wait for the
// receiver.
func TestWatchManyExtents(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	const blocks = 20_000
	b := make([]byte, 2*blocks*64)
	must(t, os.WriteFile(name, b, 0o600))
	w := begin(t, name, contentOptions(64)...)
	for i := range blocks {
		b[2*i*64]++
	}
	store(t, name, b)
	for i := range blocks {
		if event := nextChange(t, w); event.Kind != watch.Modified || event.Offset != int64(2*i*64) || event.Len != 64 {
			t.Fatalf("event %d is %v", i, event)
		}
	}
}

// TestWatchReadFails: a block that cannot be read is no reason to keep back what was found
// before it, also when it is known that it cannot be read; what is behind it is told once
// it can be.
func TestWatchReadFails(t *testing.T) {
	const bad = 256 << 10 // what is read at once
	name := filepath.Join(folder(t), "file")
	write(t, name, strings.Repeat("x", 3*bad))
	broken := errors.New("broken")
	var failing atomic.Bool
	defer watch.FailReads(func(off int64) error {
		if failing.Load() && off == bad {
			return broken
		}
		return nil
	})()
	w := begin(t, name, watch.WithPolling(), watch.WithInterval(1000*time.Hour), watch.WithContent(4096, 1000*time.Hour), watch.WithQuiet(0))
	defer w.Close()
	failing.Store(true)
	change := func(text string) { // one change, whatever the machine is busy with
		t.Helper()
		for _, off := range []int64{0, bad - 1, 2*bad - 1, 2 * bad} {
			writeAt(t, name, off, text)
		}
		w.Tell(fsnotify.Write)
	}
	want := func(events ...string) {
		t.Helper()
		for _, want := range events {
			if event := next(t, w); !strings.HasPrefix(event.String(), want) {
				t.Fatalf("%v, want %s", event, want)
			}
		}
	}
	change("1")
	want("modified 0+4096 ", "modified 258048+4096 ", "overflow ")
	change("2")
	want("modified 0+4096 ", "modified 258048+4096 ")
	failing.Store(false)
	change("3")
	want("modified 0+4096 ", "modified 258048+4096 ", "modified 520192+8192 ")
}

// TestWatchReadsAll: each comparison reads the whole file, though nothing says that it has
// changed, and once.
func TestWatchReadsAll(t *testing.T) {
	const piece = 256 << 10 // what is read at once
	name := filepath.Join(folder(t), "file")
	write(t, name, strings.Repeat("x", 3*piece-100))
	read, ended := make(chan int64), make(chan struct{})
	var begun atomic.Bool
	defer watch.FailReads(func(off int64) error {
		if begun.Load() {
			select {
			case read <- off:
			case <-ended:
			}
		}
		return nil
	})()
	w := begin(t, name, watch.WithPolling(), watch.WithInterval(1000*time.Hour), watch.WithContent(4096, time.Millisecond), watch.WithQuiet(0))
	defer w.Close()
	defer close(ended) // first: Close waits for the reading
	begun.Store(true)
	at := int64(-1)
	for range 12 {
		var off int64
		select {
		case off = <-read:
		case <-time.After(time.Minute):
			t.Fatal("nothing is read any more")
		}
		if want := (at + piece) % (3 * piece); at >= 0 && off != want {
			t.Fatalf("read at %d, want %d", off, want)
		}
		at = off
	}
}

// TestWatchManyReceivers: nobody waits for the receivers of others. More files than are
// read at the same time have changed, and the last one is received first.
func TestWatchManyReceivers(t *testing.T) {
	dir := folder(t)
	var watches []*watch.Watch
	for i := range 12 {
		name := filepath.Join(dir, fmt.Sprint(i))
		write(t, name, "text of the file")
		watches = append(watches, begin(t, name, contentOptions(64)...))
	}
	for _, w := range watches {
		writeAt(t, w.Name(), 0, "TEXT")
	}
	for i := len(watches) - 1; i >= 0; i-- {
		if event := nextChange(t, watches[i]); event.Kind != watch.Modified || event.Len != 16 {
			t.Fatalf("file %d: %v", i, event)
		}
		// Nor does who begins to watch.
		begin(t, watches[i].Name(), contentOptions(64)...)
	}
}
