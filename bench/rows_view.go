package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/edsrzf/mmap-go"
	"github.com/mmapio/mmapio"
)

func viewRows() []row {
	return []row{
		{
			id: "P13", variant: "of=view", what: "View of 64 B, random over 1 MiB, and Release", bytes: 64,
			sides:  views(miB, 64),
			limits: []limit{{sideMmapio, 20}},
			pairs:  versus(sideOS, sideMmapGo, sideCrate, sideMemmap2),
		},
		{
			id: "P13", variant: "of=chunk", what: "a chunk of 4 KiB of a loop over 64 MiB", bytes: 4 * kiB,
			sides:  chunks(64*miB, 4*kiB),
			limits: []limit{{sideMmapio, 3}},
			pairs:  versus(sideOS, sideMmapGo, sideCrate, sideMemmap2),
		},
		{
			id: "P14", what: "atomic add to a word", bytes: 8,
			sides: counters(),
			pairs: append([]pair{
				{sideMmapio, sideHeap, within(1.03)},
			}, versus(sideCrate, sideMemmap2)...),
		},
		{
			id: "P16", what: growthWhat, ops: growthSteps, check: 2,
			sides: growths(),
			pairs: []pair{
				{sideMmapio + lastSteps, sideMmapio + firstSteps, within(1.1)},
				{sideOS + lastSteps, sideOS + firstSteps, nil},
				{sideMmapio + lastSteps, sideOS + lastSteps, nil},
			},
		},
		growthRustRow(),
	}
}

const growthWhat = "1 MiB of growth, a write and a read there, up to 4 GiB"

// growthRustRow is P16 with the crates instead of os.File. It is a row of its own because it takes
// long: all steps up to the last ones are done before every run, and mmap-io maps the whole file
// anew in each.
func growthRustRow() row {
	crate := rustGrowth(sideCrate, lastSteps)
	crate.optional = false // the row is about it
	return row{
		id: "P16", variant: strings.TrimPrefix(besideRust, "/"), what: growthWhat, ops: growthSteps, check: 2, rounds: 20, full: true,
		sides: append(growths()[2:3:3], crate, rustGrowth(sideCrate, firstSteps),
			rustGrowth(sideMemmap2, lastSteps), rustGrowth(sideMemmap2, firstSteps)),
		pairs: []pair{
			{sideMmapio + lastSteps, sideCrate + lastSteps, nil},
			{sideMmapio + lastSteps, sideMemmap2 + lastSteps, nil},
			{sideCrate + lastSteps, sideCrate + firstSteps, nil},
			{sideMemmap2 + lastSteps, sideMemmap2 + firstSteps, nil},
		},
	}
}

// views is the workload of getting at n bytes at random offsets of a file, without a
// copy where a side can do that.
func views(size int64, n int) []side {
	return []side{
		{name: sideMmapio, open: onFile("view", size, func(path string, size int64) (*session, error) {
			f, err := mmapio.Open(path)
			if err != nil {
				return nil, err
			}
			way := newWalk(size, n, seed)
			return &session{close: f.Close, run: func(ops int) (sum uint64, err error) {
				for range ops {
					way.x = next(way.x)
					v, err := f.View(offset(way.x, way.unit, way.units), int64(n))
					if err != nil {
						return 0, err
					}
					sum += uint64(len(v.Bytes()))
					v.Release()
				}
				return sum, nil
			}}, nil
		})},
		{name: sideOS, open: onFile("view", size, func(path string, size int64) (*session, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			way, p := newWalk(size, n, seed), make([]byte, n)
			return &session{close: f.Close, run: func(ops int) (sum uint64, err error) {
				for range ops {
					way.x = next(way.x)
					if _, err := f.ReadAt(p, offset(way.x, way.unit, way.units)); err != nil {
						return 0, err
					}
					sum += uint64(len(p))
				}
				return sum, nil
			}}, nil
		})},
		{name: sideMmapGo, open: onFile("view", size, func(path string, size int64) (*session, error) {
			m, unmap, err := mapFile(path, os.O_RDONLY, mmap.RDONLY)
			if err != nil {
				return nil, err
			}
			way := newWalk(size, n, seed)
			return &session{close: unmap, run: func(ops int) (sum uint64, err error) {
				for range ops {
					way.x = next(way.x)
					off := offset(way.x, way.unit, way.units)
					sum += uint64(len(m[off : off+int64(n)]))
				}
				return sum, nil
			}}, nil
		})},
		rustViews(sideCrate, size, n),
		rustViews(sideMemmap2, size, n),
	}
}

func rustViews(crate string, size int64, n int) side {
	return rustReading(crate, "view", size, rustWork{name: "view", parameters: map[string]any{
		"n": n, "unit": min(n, pageSize), "look": "length", "mode": "ro",
	}})
}

// chunks is the workload of going through a file n bytes at a time. It does not look at
// them: that takes the same time on all sides.
func chunks(size int64, n int) []side {
	return []side{
		{name: sideMmapio, open: onFile("view", size, func(path string, size int64) (*session, error) {
			f, err := mmapio.Open(path)
			if err != nil {
				return nil, err
			}
			chunks := f.Chunks(n)
			return &session{close: f.Close, run: func(ops int) (sum uint64, err error) {
				for ops > 0 {
					for _, chunk := range chunks.All() {
						sum = sum*31 + uint64(len(chunk))
						if ops--; ops == 0 {
							break
						}
					}
					if err := chunks.Err(); err != nil {
						return 0, err
					}
				}
				return sum, nil
			}}, nil
		})},
		{name: sideOS, open: onFile("view", size, func(path string, size int64) (*session, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			p := make([]byte, n)
			return &session{close: f.Close, run: func(ops int) (sum uint64, err error) {
				for ops > 0 {
					for off := int64(0); off < size && ops > 0; off += int64(n) {
						if _, err := f.ReadAt(p, off); err != nil && err != io.EOF {
							return 0, err
						}
						sum = sum*31 + uint64(len(p))
						ops--
					}
				}
				return sum, nil
			}}, nil
		})},
		{name: sideMmapGo, open: onFile("view", size, func(path string, size int64) (*session, error) {
			m, unmap, err := mapFile(path, os.O_RDONLY, mmap.RDONLY)
			if err != nil {
				return nil, err
			}
			return &session{close: unmap, run: func(ops int) (sum uint64, err error) {
				for ops > 0 {
					for rest := m; len(rest) > 0 && ops > 0; rest = rest[min(n, len(rest)):] {
						chunk := rest[:min(n, len(rest))]
						sum = sum*31 + uint64(len(chunk))
						ops--
					}
				}
				return sum, nil
			}}, nil
		})},
		rustChunks(sideCrate, size, n),
		rustChunks(sideMemmap2, size, n),
	}
}

func rustChunks(crate string, size int64, n int) side {
	return rustReading(crate, "view", size, rustWork{name: "chunks", parameters: map[string]any{"n": n, "kind": "each", "mode": "ro"}})
}

// counters is the workload of adding to a word that others may add to as well.
func counters() []side {
	run := func(word *atomic.Uint64) func(ops int) (uint64, error) {
		return func(ops int) (uint64, error) {
			before := word.Load()
			for range ops {
				word.Add(1)
			}
			return word.Load() - before, nil
		}
	}
	return []side{
		{name: sideMmapio, open: onFile("counter", pageSize, func(path string, size int64) (*session, error) {
			f, err := mmapio.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			v, err := f.View(0, size)
			if err != nil {
				return nil, errors.Join(err, f.Close())
			}
			word, err := v.Uint64(0)
			if err != nil {
				v.Release()
				return nil, errors.Join(err, f.Close())
			}
			return &session{run: run(word), close: func() error {
				v.Release()
				return f.Close()
			}}, nil
		})},
		{name: sideHeap, open: func(w *workspace) (*session, error) {
			// As far from other words as that of a file is.
			page := make([]byte, 2*pageSize)
			start := -uintptr(unsafe.Pointer(&page[0])) & (pageSize - 1)
			return &session{run: run((*atomic.Uint64)(unsafe.Pointer(&page[start])))}, nil
		}},
		{name: sideMmapGo, open: onFile("counter", pageSize, func(path string, size int64) (*session, error) {
			m, unmap, err := mapFile(path, os.O_RDWR, mmap.RDWR)
			if err != nil {
				return nil, err
			}
			return &session{run: run((*atomic.Uint64)(unsafe.Pointer(&m[0]))), close: unmap}, nil
		})},
		rustReading(sideCrate, "counter", pageSize, rustWork{name: "add", atomic: true}),
		rustReading(sideMemmap2, "counter", pageSize, rustWork{name: "add", atomic: true}),
	}
}

const (
	growthLimit = 4096 // all steps
	growthSteps = 256  // those of a run
	firstSteps  = "(first)"
	lastSteps   = "(last)"
)

// growths is the workload of making a file longer by 1 MiB, writing there and reading
// that back: the first steps, and the last ones.
func growths() []side {
	sides := make([]side, 0, 4)
	for _, when := range []string{firstSteps, lastSteps} {
		sides = append(sides,
			growthSide(sideMmapio, when, func(path string) (growing, error) { return mmapio.Create(path) }),
			growthSide(sideOS, when, func(path string) (growing, error) { return os.Create(path) }))
	}
	return sides
}

// rustGrowth returns the side of a crate. What it writes it reads back, as the other sides do.
func rustGrowth(crate, when string) side {
	return side{name: crate + when, optional: true, open: func(w *workspace) (*session, error) {
		work := rustWork{name: "grow", between: removeIfThere, parameters: map[string]any{"step": miB, "from": stepsBefore(w, when)}}
		return work.side(crate, false, func(w *workspace) (string, int64, error) {
			return w.path("grown-" + crate + when), 0, nil
		}).open(w)
	}}
}

// stepsBefore is after how many steps a side begins, in a workspace whose files may be short.
func stepsBefore(w *workspace, when string) int {
	from := growthSteps // behind those for which the file is not mapped yet
	if when == lastSteps {
		from = growthLimit - growthSteps
	}
	if int64(from+growthSteps)*miB > w.largest {
		return 0
	}
	return from
}

// growing is what both kinds of file do in a step of growth. A step takes microseconds,
// so that calls through an interface do not show.
type growing interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

func growthSide(name, when string, create func(path string) (growing, error)) side {
	return side{name: name + when, open: func(w *workspace) (*session, error) {
		from := stepsBefore(w, when)
		path := w.path("grown-" + name + when)
		var f growing
		at, p := from, make([]byte, 64)
		steps := func(count int) error {
			for range count {
				off := int64(at) * miB
				at++
				binary.LittleEndian.PutUint64(p, uint64(off))
				if err := f.Truncate(off + miB); err != nil {
					return err
				}
				if _, err := f.WriteAt(p, off); err != nil {
					return err
				}
				clear(p)
				if _, err := f.ReadAt(p, off); err != nil {
					return err
				}
				if got := binary.LittleEndian.Uint64(p); got != uint64(off) {
					return fmt.Errorf("read %d at %d, want what was written", got, off)
				}
			}
			return nil
		}
		shut := func() error {
			if f == nil {
				return nil
			}
			err := f.Close()
			f = nil
			return err
		}
		return &session{
			close: shut,
			prepare: func() (err error) {
				if err := errors.Join(shut(), removeIfThere(path)); err != nil {
					return err
				}
				if f, err = create(path); err != nil {
					return err
				}
				at = 0
				return steps(from)
			},
			run: func(n int) (uint64, error) { return uint64(n), steps(n) },
		}, nil
	}}
}
