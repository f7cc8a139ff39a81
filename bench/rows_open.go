package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"

	"github.com/edsrzf/mmap-go"
	"github.com/mmapio/mmapio"
	xexp "golang.org/x/exp/mmap"
)

func openRows() []row {
	return []row{
		{
			id: "P10", what: "open, read 4 KiB, close a file of 1 MiB", bytes: 4 * kiB,
			sides: opens(miB, 4*kiB),
			pairs: append([]pair{
				{sideMmapio, sideOS, faster(0.95)},
				{sideMmapio, sideExp, faster(1)},
			}, versus(sideMmapGo, sideCrate, sideMemmap2)...),
		},
		{
			id: "P18", variant: "state=idle", what: "1,000 open idle files",
			sides:   holders(),
			figures: func(w *workspace, open opener) ([]figure, error) { return holdFiles(w, open, 0) },
			counts:  heldCounts(),
		},
		{
			id: "P18", variant: "state=read", what: "1,000 open files, 4 KiB read of each",
			sides:   holders(),
			figures: func(w *workspace, open opener) ([]figure, error) { return holdFiles(w, open, 4*kiB) },
			counts:  heldCounts(),
		},
	}
}

// opens is the workload of opening a file of some size for n bytes at its begin.
func opens(size int64, n int) []side {
	return []side{
		{name: sideMmapio, open: onFile("open", size, func(path string, size int64) (*session, error) {
			p := make([]byte, n)
			return &session{run: func(n int) (sum uint64, err error) {
				for range n {
					f, err := mmapio.Open(path)
					if err != nil {
						return 0, err
					}
					_, err = f.ReadAt(p, 0)
					if err := errors.Join(err, f.Close()); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return whole(sum, p), nil
			}}, nil
		})},
		{name: sideOS, open: onFile("open", size, func(path string, size int64) (*session, error) {
			p := make([]byte, n)
			return &session{run: func(n int) (sum uint64, err error) {
				for range n {
					f, err := os.Open(path)
					if err != nil {
						return 0, err
					}
					_, err = f.ReadAt(p, 0)
					if err := errors.Join(err, f.Close()); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return whole(sum, p), nil
			}}, nil
		})},
		{name: sideExp, open: onFile("open", size, func(path string, size int64) (*session, error) {
			p := make([]byte, n)
			return &session{run: func(n int) (sum uint64, err error) {
				for range n {
					f, err := xexp.Open(path)
					if err != nil {
						return 0, err
					}
					_, err = f.ReadAt(p, 0)
					if err := errors.Join(err, f.Close()); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return whole(sum, p), nil
			}}, nil
		})},
		{name: sideMmapGo, open: onFile("open", size, func(path string, size int64) (*session, error) {
			p := make([]byte, n)
			return &session{run: func(n int) (sum uint64, err error) {
				for range n {
					m, unmap, err := mapFile(path, os.O_RDONLY, mmap.RDONLY)
					if err != nil {
						return 0, err
					}
					copy(p, m)
					if err := unmap(); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return whole(sum, p), nil
			}}, nil
		})},
		rustOpens(sideCrate, size, n),
		rustOpens(sideMemmap2, size, n),
	}
}

func rustOpens(crate string, size int64, n int) side {
	return rustReading(crate, "open", size, rustWork{name: "reopen", parameters: map[string]any{"n": n}})
}

// A holder is a file that is held open.
type holder interface {
	io.ReaderAt
	io.Closer
}

type opener func(path string) (holder, error)

func holders() []side {
	return []side{
		{name: sideMmapio, hold: func(path string) (holder, error) { return mmapio.Open(path) }},
		{name: sideOS, hold: func(path string) (holder, error) { return os.Open(path) }},
		{name: sideExp, hold: func(path string) (holder, error) { return xexp.Open(path) }},
		{name: sideMmapGo, hold: func(path string) (holder, error) {
			m, unmap, err := mapFile(path, os.O_RDONLY, mmap.RDONLY)
			if err != nil {
				return nil, err
			}
			return mapped{bytes.NewReader(m), unmap}, nil
		}},
	}
}

type mapped struct {
	*bytes.Reader
	unmap func() error
}

func (m mapped) Close() error { return m.unmap() }

// The figures of open files.
const (
	heapEach   = "heap-B/file"
	goroutines = "goroutines"
	mappings   = "mappings"
)

func heldCounts() []count {
	most := func(n float64) *float64 { return &n }
	return []count{
		{heapEach, sideMmapio, sideOS, most(512)},
		{goroutines, sideMmapio, sideOS, most(0)},
		{mappings, sideMmapio, sideOS, most(0)},
		{heapEach, sideMmapio, sideExp, nil},
		{mappings, sideMmapio, sideExp, nil},
		{heapEach, sideMmapio, sideMmapGo, nil},
		{mappings, sideMmapio, sideMmapGo, nil},
	}
}

// holdFiles opens many files, reads n bytes of each, and counts what that costs
// while they are open.
func holdFiles(w *workspace, open opener, n int) (_ []figure, err error) {
	const files, size = 1000, 16 * kiB
	p := make([]byte, n)
	held := make([]holder, 0, files)
	closeAll := func() error {
		var err error
		for _, h := range held {
			err = errors.Join(err, h.Close())
		}
		clear(held) // or they would count as held
		held = held[:0]
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()

	hold := func(count int) error {
		for i := range count {
			path, _, err := w.filled(fmt.Sprintf("held-%d", i), size)
			if err != nil {
				return err
			}
			h, err := open(path)
			if err != nil {
				return err
			}
			held = append(held, h)
			if n == 0 {
				continue
			}
			if _, err := h.ReadAt(p, 0); err != nil {
				return err
			}
		}
		return nil
	}
	count := min(files, w.files)
	// Once for all that is made at the first use, and for the files.
	if err := errors.Join(hold(count), closeAll()); err != nil {
		return nil, err
	}
	// The runtime takes memory and starts goroutines of its own now and then, so the
	// least of some tries counts.
	least := stock{math.MaxInt, math.MaxInt, math.MaxInt}
	for range 3 {
		before, err := takeStock()
		if err != nil {
			return nil, err
		}
		if err := hold(count); err != nil {
			return nil, err
		}
		after, err := takeStock()
		if err != nil {
			return nil, err
		}
		if err := closeAll(); err != nil {
			return nil, err
		}
		least.heap = min(least.heap, after.heap-before.heap)
		least.goroutines = min(least.goroutines, after.goroutines-before.goroutines)
		least.mappings = min(least.mappings, after.mappings-before.mappings)
	}
	figures := []figure{
		{heapEach, float64(least.heap) / float64(count)},
		{goroutines, float64(least.goroutines)},
	}
	if _, err := os.Stat(mapsFile); err == nil {
		figures = append(figures, figure{mappings, float64(least.mappings)})
	}
	return figures, nil
}

// mapsFile lists the mappings of the process, a line each, where there is one.
const mapsFile = "/proc/self/maps"

// stock is what a process has.
type stock struct {
	heap       int
	goroutines int
	mappings   int
}

func takeStock() (stock, error) {
	maps, err := os.ReadFile(mapsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return stock{}, err
	}
	s := stock{mappings: bytes.Count(maps, []byte("\n"))}
	maps = nil
	// Twice: finalizers and cleanups that the first collection sets off free more.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.heap = int(m.HeapAlloc)
	s.goroutines = runtime.NumGoroutine()
	return s, nil
}
