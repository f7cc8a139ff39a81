package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mmapio/mmapio"
)

// The rows of P17 are those of the benchmark file of the Rust crate mmap-io 1.1,
// benches/mmap_bench.rs, each named as there. What is written differs from one operation
// to the next, here and there.
//
// Until version 1.1 the crate's flush did nothing in these rows: 1.0 returned at once under
// the default policy, and had msync(MS_ASYNC) for the others, which Linux ignores. In 1.1 it
// is msync(MS_SYNC), which makes durable what Flush does, and its schedule_flush_range is
// sync_file_range, as FlushAsync is. So like stands beside like.
//
// The crate's as_slice checks bounds and no more: the borrow checker sees to it that its bytes
// are not used once the mapping is gone. What equals it in Go is a View of the whole file that
// is held, and plain slices of its Bytes: the side mmapio-slice, which has the goal in these
// rows. A View of each piece, and its Release, is more than that: no Close takes the bytes away
// meanwhile. It is the side mmapio there, compared without a goal. Advice of the crate is for
// memory, as that of a View is (mmapio-view); a File tells the descriptor too, which its system
// calls read through.
//
// The chunks of owned_chunks may be kept, so the goal is for bytes.Clone, which makes new memory
// each time, and work for the garbage collector. The crate's are freed at once, and its allocator
// hands the same memory out again: mmapio-reused does so, and is compared without a goal.
//
// ReadAt and the crate's read_into are the calls that users make for a copy, so the goal is for
// ReadAt. It guards the copy against other processes that cut the file, and against Close, while
// read_into does not guard it against the former, and the borrow checker is there for the latter:
// mmapio-slice is a plain copy from a View that is held, which is what that costs.
func crateRows() []row {
	var rows []row
	add := func(c crateRow) { rows = append(rows, c.row()) }
	const readOnly, readWrite = false, true

	for _, length := range []int64{4 * kiB, 64 * kiB, miB} {
		add(crateRow{
			group: "create_rw", variant: sized(length), what: "create a file of " + size(length) + ", close and remove it",
			work: createWork(length),
		})
	}
	for _, length := range []int64{4 * kiB, 64 * kiB, miB} {
		n := int(length)
		all := "WriteAt of all " + size(length)
		add(crateRow{
			group: "update_region_flush", variant: "call=update_only/" + sized(length), what: all, bytes: n,
			work: updateWork(length, update{n: n, span: length}),
		})
		add(crateRow{
			group: "update_region_flush", variant: "call=update_plus_flush/" + sized(length), what: all + ", Flush", bytes: n, check: 32,
			work: updateWork(length, update{n: n, span: length, flush: "all"}),
		})
		add(crateRow{
			group: "update_region_flush", variant: "call=update_threshold/" + sized(length), bytes: n, check: 32, only: sideCrate,
			what: all + ", flushed by a policy each time",
			work: updateWork(length, update{n: n, span: length, policy: mmapio.EveryBytes(length), named: fmt.Sprintf("bytes:%d", length)}),
		})
	}
	for _, length := range []int64{4 * kiB, 64 * kiB, miB} {
		add(crateRow{
			group: "read_into_rw", variant: sized(length), what: "ReadAt of all " + size(length) + ", read-write" + readOrSlice, bytes: int(length),
			work: copyWork(length, readWrite),
		})
	}
	for _, length := range []int64{4 * kiB, 64 * kiB, miB} {
		add(crateRow{
			group: "as_slice_ro", variant: sized(length), what: "all " + size(length) + " without a copy, a byte of it" + sliceOrView, bytes: int(length),
			work: sliceWork(length, length),
		})
	}
	add(crateRow{
		group: "resize", variant: "call=grow_1MB_to_8MB", what: "Truncate of 1 MiB to 8 MiB and back, mapped",
		work: resizeWork(miB, 8),
	})
	for _, length := range []int64{miB, 16 * miB, 256 * miB} {
		add(crateRow{
			group: "sequential_read", variant: "call=as_slice/" + sized(length), bytes: int(length),
			what: "all " + size(length) + " without a copy, a byte of each 4 KiB" + sliceOrView,
			work: sliceWork(length, 4*kiB),
		})
		add(crateRow{
			group: "sequential_read", variant: "call=read_into/" + sized(length), bytes: int(length),
			what: "ReadAt of all " + size(length) + ", read-only" + readOrSlice,
			work: copyWork(length, readOnly),
		})
	}
	for _, n := range []int{64, 256, 4 * kiB, 64 * kiB} {
		add(crateRow{
			group: "random_read", variant: "call=read_into/" + sized(int64(n)), bytes: n,
			what: "ReadAt " + size(int64(n)) + ", at any byte of 16 MiB" + readOrSlice,
			work: randomCopyWork(16*miB, n, readOnly),
		})
		add(crateRow{
			group: "random_read", variant: "call=as_slice/" + sized(int64(n)), bytes: n,
			what: size(int64(n)) + " at any byte of 16 MiB without a copy" + sliceOrView,
			work: randomViewWork(16*miB, n, readOnly),
		})
	}
	for _, p := range []struct {
		policy      mmapio.FlushPolicy
		label, name string
	}{
		{mmapio.Manual(), "manual", "manual"},
		{mmapio.EveryBytes(64 * kiB), "every_bytes_64k", "bytes:65536"},
		{mmapio.Every(10 * time.Millisecond), "every_millis_10", "millis:10"},
	} {
		r := crateRow{
			group: "sequential_write", variant: "policy=" + p.label, bytes: 4 * miB, check: 8,
			what: "WriteAt 64 KiB over 4 MiB, policy " + p.policy.String(),
			work: updateWork(4*miB, update{n: 64 * kiB, span: 4 * miB, policy: p.policy, named: p.name}),
		}
		if p.policy != mmapio.Manual() {
			r.only = sideCrate
		}
		add(r)
	}
	for _, n := range []int{4 * kiB, 64 * kiB} {
		add(crateRow{
			group: "iterator_throughput", variant: "call=zero_copy_chunks/" + sized(int64(n)), bytes: 16 * miB,
			what: "Chunks of " + size(int64(n)) + " of 16 MiB",
			work: chunkWork(16*miB, n, "borrowed", readOnly),
		})
		add(crateRow{
			group: "iterator_throughput", variant: "call=owned_chunks/" + sized(int64(n)), bytes: 16 * miB,
			what: "Chunks of " + size(int64(n)) + " of 16 MiB, each copied (mmapio-reused: to the same memory; mmapio: to new memory)",
			work: chunkWork(16*miB, n, "owned", readOnly),
		})
	}
	add(crateRow{
		group: "iterator_throughput", variant: "call=zero_copy_pages", what: "Pages of 16 MiB", bytes: 16 * miB,
		work: chunkWork(16*miB, os.Getpagesize(), "pages", readOnly),
	})
	add(crateRow{
		group: "touch_pages_large", variant: "call=touch_pages_1gb_rw", what: "Prefault of 1 GiB that is in memory", bytes: 1 << 30,
		work: touchWork(1 << 30),
	})
	for _, threads := range []int{1, 2, 4, 8} {
		add(crateRow{
			group: "atomic_contention", variant: fmt.Sprintf("threads=%d", threads), check: 64,
			what: fmt.Sprintf("10,000 atomic adds to one word by each of %d new threads", threads),
			work: countWork(threads, 10_000),
		})
	}
	for _, length := range []int64{miB, 8 * miB, 32 * miB} {
		add(crateRow{
			group: "touch_pages", variant: sized(length), what: "Prefault of " + size(length) + " that is in memory", bytes: int(length),
			work: touchWork(length),
		})
	}
	for _, n := range []int{64, 256, 512, 1024, 2048, 4096, 8192} {
		add(crateRow{
			group: "microflush_overhead", variant: sized(int64(n)), bytes: n, check: 32,
			what: "WriteAt " + size(int64(n)) + " of 64 KiB, FlushRange",
			work: updateWork(64*kiB, update{n: n, span: int64(n), flush: "range"}),
		})
	}
	add(crateRow{
		group: "advise", variant: "call=sequential_willneed", what: "Advise sequential for 4 MiB (mmapio-view: its memory; mmapio: the descriptor too)",
		work: adviseWork(4 * miB),
	})
	add(crateRow{
		group: "cow_open", variant: "call=open_cow_4MB", what: "open 4 MiB copy-on-write, and Close",
		work: privateWork(4*miB, false),
	})
	add(crateRow{
		group: "cow_open", variant: "call=open_cow_writable_4MB", what: "open 4 MiB copy-on-write to store to, and Close",
		work: privateWork(4*miB, true),
	})
	for _, length := range []int64{4 * kiB, miB} {
		n := int(length)
		add(crateRow{
			group: "schedule_vs_flush", variant: "call=flush_range/" + sized(length), bytes: n, check: 32,
			what: "WriteAt of all " + size(length) + ", FlushRange",
			work: updateWork(length, update{n: n, span: length, flush: "range"}),
		})
		add(crateRow{
			group: "schedule_vs_flush", variant: "call=schedule_flush_range/" + sized(length), bytes: n, only: sideCrate,
			what: "WriteAt of all " + size(length) + ", FlushAsync beside schedule_flush_range",
			work: updateWork(length, update{n: n, span: length, flush: "schedule"}),
		})
		add(crateRow{
			group: "schedule_vs_flush", variant: "call=write_only/" + sized(length), bytes: n,
			what: "WriteAt of all " + size(length) + ", again",
			work: updateWork(length, update{n: n, span: length}),
		})
	}
	add(crateRow{
		group: "rw_views", variant: "call=as_slice_64", what: "64 B at any byte of 16 MiB without a copy, read-write" + sliceOrView, bytes: 64,
		work: randomViewWork(16*miB, 64, readWrite),
	})
	add(crateRow{
		group: "rw_views", variant: "call=read_into_64", what: "ReadAt 64 B, at any byte of 16 MiB, read-write" + readOrSlice, bytes: 64,
		work: randomCopyWork(16*miB, 64, readWrite),
	})
	add(crateRow{
		group: "rw_views", variant: "call=chunks_4096", what: "Chunks of 4 KiB of 16 MiB, read-write", bytes: 16 * miB,
		work: chunkWork(16*miB, 4*kiB, "borrowed", readWrite),
	})
	return rows
}

// What tells the sides of mmapio apart where there are two of them.
const (
	sliceOrView = " (mmapio-slice: of a held View; mmapio: View and Release each time)"
	readOrSlice = " (mmapio-slice: copy of a held View)"
)

func sized(n int64) string { return fmt.Sprintf("size=%d", n) }

// A crateRow is a row of the crate's benchmark file.
type crateRow struct {
	group, variant string // as in that file
	what           string
	bytes          int
	check          int    // see row
	only           string // the one Rust side that can do it, or nothing
	work           crateWork
}

// A crateWork is a workload of such a row.
type crateWork struct {
	size   int64 // of the file
	file   crateFile
	rust   rustWork
	mmapio func(path string, size int64) (*session, error)
	other  otherSide // the zero value where there is none
}

// An otherSide is one of mmapio that does the same work in another way.
type otherSide struct {
	name string
	like bool // it has the goal, being what the crate does
	open func(path string, size int64) (*session, error)
}

// The names of other sides of mmapio.
const (
	sideSlice  = "mmapio-slice"  // slices of one View that is held
	sideReused = "mmapio-reused" // copies to memory that is used again
)

// crateFile is what file a side works on.
type crateFile int

const (
	sharedFile crateFile = iota // one that all sides read
	ownFile                     // one of its own, that it writes
	newFile                     // one of its own, that it makes
	sparseFile                  // one that has nothing but holes, read by all sides
)

func (c crateRow) row() row {
	r := row{
		id: "P17", variant: "bench=" + c.group + "/" + c.variant, what: c.what, bytes: c.bytes, check: c.check, rounds: 20, full: true,
	}
	own := func(name string, open func(path string, size int64) (*session, error)) {
		r.sides = append(r.sides, side{name: name, open: func(w *workspace) (*session, error) {
			path, size, err := c.work.place(w, name)
			if err != nil {
				return nil, err
			}
			s, err := open(path, size)
			if err == nil && c.work.writes() {
				s.file = path
			}
			return s, err
		}})
	}
	own(sideMmapio, c.work.mmapio)
	like, names := sideMmapio, []string{sideMmapio}
	if other := c.work.other; other.open != nil {
		own(other.name, other.open)
		names = append(names, other.name)
		if other.like {
			like = other.name
			slices.Reverse(names) // what has the goal comes first
		}
	}
	rust := func(name string) side {
		return c.work.rust.side(name, c.work.writes(), func(w *workspace) (string, int64, error) {
			return c.work.place(w, name)
		})
	}
	crate := rust(sideCrate)
	crate.optional = false // the row is about it
	r.sides = append(r.sides, crate)
	for _, name := range names {
		p := pair{of: name, against: sideCrate}
		if name == like {
			p.goal = faster(1)
		}
		r.pairs = append(r.pairs, p)
	}
	if c.only == "" {
		r.sides = append(r.sides, rust(sideMemmap2))
		for _, name := range names {
			r.pairs = append(r.pairs, pair{of: name, against: sideMemmap2})
		}
	}
	return r
}

func (c crateWork) writes() bool { return c.file == ownFile || c.file == newFile }

// place returns where the file of a side is, or is to be, and its size.
func (c crateWork) place(w *workspace, name string) (path string, size int64, err error) {
	switch size = min(c.size, w.largest); c.file {
	case ownFile:
		return w.filled("crate-"+name, size)
	case newFile:
		return w.path("crate-" + name), size, nil
	case sparseFile:
		path = w.path("crate-sparse")
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return "", 0, err
		}
		return path, size, errors.Join(f.Truncate(size), f.Close())
	}
	return w.filled("crate", size)
}

// openMode opens a file for the workloads that read, and tells the Rust sides how to.
func openMode(write bool) (flag int, mode string) {
	if write {
		return os.O_RDWR, "rw"
	}
	return os.O_RDONLY, "ro"
}

// onWarm returns the opening of a side of mmapio on a file that is there, warmed up.
func onWarm(flag int, open func(f *mmapio.File, size int64) func(n int) (uint64, error)) func(path string, size int64) (*session, error) {
	return func(path string, size int64) (*session, error) {
		f, err := mmapio.OpenFile(path, flag, 0)
		if err != nil {
			return nil, err
		}
		if err := touch(f, size); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &session{run: open(f, size), close: f.Close}, nil
	}
}

// onHeld is onView for sides that use the bytes alone.
func onHeld(flag int, open func(b []byte) func(n int) (uint64, error)) func(path string, size int64) (*session, error) {
	return onView(flag, func(v *mmapio.View) func(n int) (uint64, error) { return open(v.Bytes()) })
}

// onView returns the opening of a side of mmapio that has a View of all of a file that is
// there, warmed up.
func onView(flag int, open func(v *mmapio.View) func(n int) (uint64, error)) func(path string, size int64) (*session, error) {
	return func(path string, size int64) (*session, error) {
		f, err := mmapio.OpenFile(path, flag, 0)
		if err != nil {
			return nil, err
		}
		v, err := f.View(0, size)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		shut := func() error {
			v.Release()
			return f.Close()
		}
		if err := touch(memory(v.Bytes()), size); err != nil {
			return nil, errors.Join(err, shut())
		}
		return &session{run: open(v), close: shut}, nil
	}
}

// Those of the following functions that have the calls that are timed are not to be inlined:
// crateRows is so large that the compiler would not inline these calls there, as it does in
// a user's code, and a View that is not is allocated.

// createWork is making a file of a size, after removing the one before.
func createWork(size int64) crateWork {
	return crateWork{size: size, file: newFile, rust: rustWork{name: "create"}, mmapio: func(path string, size int64) (*session, error) {
		create := func() error {
			f, err := mmapio.Create(path, mmapio.WithSize(size))
			if err != nil {
				return err
			}
			return f.Close()
		}
		if err := create(); err != nil {
			return nil, err
		}
		return &session{run: func(n int) (uint64, error) {
			for range n {
				if err := os.Remove(path); err != nil {
					return 0, err
				}
				if err := create(); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}}, nil
	}}
}

// update is how a file is written: n bytes at a time, from its start up to span.
type update struct {
	n      int
	span   int64
	flush  string // after that: "", "all", "range" or "schedule"
	policy mmapio.FlushPolicy
	named  string // what the Rust sides call the policy
}

// updateWork is writing a file, and flushing it.
//
//go:noinline
func updateWork(size int64, u update) crateWork {
	flush := u.flush
	if flush == "" {
		flush = "none"
	}
	if u.named == "" {
		u.named = "manual"
	}
	return crateWork{
		size: size, file: newFile,
		rust: rustWork{name: "update", parameters: map[string]any{"n": u.n, "span": u.span, "flush": flush, "policy": u.named}},
		mmapio: func(path string, size int64) (*session, error) {
			f, err := mmapio.Create(path, mmapio.WithSize(size), mmapio.WithFlushPolicy(u.policy))
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			p := bytes.Repeat([]byte{0xAB}, u.n)
			for off := int64(0); off < size; off += int64(u.n) {
				if _, err := f.WriteAt(p[:min(int64(u.n), size-off)], off); err != nil {
					return nil, errors.Join(err, f.Close())
				}
			}
			span, x := min(u.span, size), uint64(seed)
			return &session{close: f.Close, run: func(n int) (uint64, error) {
				for range n {
					for off := int64(0); off < span; off += int64(len(p)) {
						x = next(x)
						binary.LittleEndian.PutUint64(p, x)
						if _, err := f.WriteAt(p, off); err != nil {
							return 0, err
						}
					}
					var err error
					switch u.flush {
					case "all":
						err = f.Flush()
					case "range":
						err = f.FlushRange(0, span)
					case "schedule":
						err = f.FlushAsync()
					}
					if err != nil {
						return 0, err
					}
				}
				return 0, nil
			}}, nil
		},
	}
}

// copyWork is reading all of a file at once.
//
//go:noinline
func copyWork(size int64, write bool) crateWork {
	flag, mode := openMode(write)
	return crateWork{
		size: size, rust: rustWork{name: "whole", parameters: map[string]any{"mode": mode, "by": "copy", "step": 1}},
		mmapio: onWarm(flag, func(f *mmapio.File, size int64) func(n int) (uint64, error) {
			p := make([]byte, size)
			return func(n int) (sum uint64, err error) {
				for range n {
					if _, err := f.ReadAt(p, 0); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return sum, nil
			}
		}),
		other: otherSide{name: sideSlice, open: onHeld(flag, func(b []byte) func(n int) (uint64, error) {
			p := make([]byte, len(b))
			return func(n int) (sum uint64, err error) {
				for range n {
					copy(p, b)
					sum = mix(sum, p)
				}
				return sum, nil
			}
		})},
	}
}

// sliceWork is looking at one byte of every step bytes of a file, without a copy.
//
//go:noinline
func sliceWork(size, step int64) crateWork {
	flag, mode := openMode(false)
	return crateWork{
		size: size, rust: rustWork{name: "whole", parameters: map[string]any{"mode": mode, "by": "view", "step": step}},
		mmapio: onWarm(flag, func(f *mmapio.File, size int64) func(n int) (uint64, error) {
			return func(n int) (sum uint64, err error) {
				for range n {
					v, err := f.View(0, size)
					if err != nil {
						return 0, err
					}
					for b, off := v.Bytes(), 0; off < len(b); off += int(step) {
						sum += uint64(b[off])
					}
					v.Release()
				}
				return sum, nil
			}
		}),
		other: otherSide{name: sideSlice, like: true, open: onHeld(flag, func(b []byte) func(n int) (uint64, error) {
			size := int64(len(b))
			return func(n int) (sum uint64, err error) {
				for range n {
					for s, off := b[:size], 0; off < len(s); off += int(step) {
						sum += uint64(s[off])
					}
				}
				return sum, nil
			}
		})},
	}
}

// randomCopyWork is reading n bytes at random offsets.
//
//go:noinline
func randomCopyWork(size int64, n int, write bool) crateWork {
	flag, mode := openMode(write)
	return crateWork{
		size: size, rust: rustReads(n, 1, 1, 1, mode),
		mmapio: onWarm(flag, func(f *mmapio.File, size int64) func(n int) (uint64, error) {
			p, way := make([]byte, n), anyByte(size, n)
			return func(n int) (uint64, error) { return readMmapio(f, p, way, n) }
		}),
		other: otherSide{name: sideSlice, open: onHeld(flag, func(b []byte) func(n int) (uint64, error) {
			p, way := make([]byte, n), anyByte(int64(len(b)), n)
			return func(n int) (uint64, error) { return readSlice(b, p, way, n) }
		})},
	}
}

// rustReads is reading n bytes at random offsets that are multiples of unit.
func rustReads(n, unit, walks, threads int, mode string) rustWork {
	return rustWork{name: "read", parameters: map[string]any{"n": n, "unit": unit, "walks": walks, "threads": threads, "mode": mode}}
}

// anyByte is the walk to all offsets, not multiples of something.
func anyByte(size int64, n int) *walk {
	return &walk{x: seed, unit: 1, units: uint64(size-int64(n)) + 1}
}

// randomViewWork is looking at the first of n bytes at random offsets, without a copy.
//
//go:noinline
func randomViewWork(size int64, n int, write bool) crateWork {
	flag, mode := openMode(write)
	return crateWork{
		size: size, rust: rustWork{name: "view", parameters: map[string]any{"n": n, "unit": 1, "look": "first", "mode": mode}},
		mmapio: onWarm(flag, func(f *mmapio.File, size int64) func(n int) (uint64, error) {
			way := anyByte(size, n)
			return func(ops int) (sum uint64, err error) {
				x, unit, units := way.x, way.unit, way.units
				for range ops {
					x = next(x)
					v, err := f.View(offset(x, unit, units), int64(n))
					if err != nil {
						return 0, err
					}
					sum = sum*31 + uint64(v.Bytes()[0])
					v.Release()
				}
				way.x = x
				return sum, nil
			}
		}),
		other: otherSide{name: sideSlice, like: true, open: onHeld(flag, func(b []byte) func(n int) (uint64, error) {
			way := anyByte(int64(len(b)), n)
			return func(ops int) (sum uint64, err error) {
				x, unit, units := way.x, way.unit, way.units
				for range ops {
					x = next(x)
					off := offset(x, unit, units)
					piece := b[off : off+int64(n)]
					sum = sum*31 + uint64(piece[0])
				}
				way.x = x
				return sum, nil
			}
		})},
	}
}

// resizeWork is making a file so many times as long, and then as long as it was.
func resizeWork(size, times int64) crateWork {
	return crateWork{
		size: size, file: ownFile, rust: rustWork{name: "resize", parameters: map[string]any{"times": times}},
		mmapio: onWarm(os.O_RDWR, func(f *mmapio.File, size int64) func(n int) (uint64, error) {
			return func(n int) (uint64, error) {
				for range n {
					if err := f.Truncate(times * size); err != nil {
						return 0, err
					}
					if err := f.Truncate(size); err != nil {
						return 0, err
					}
				}
				return 0, nil
			}
		}),
	}
}

// chunkWork is going through a file n bytes at a time: by pages or other chunks, borrowed
// or copied to memory that the caller may keep.
//
//go:noinline
func chunkWork(size int64, n int, kind string, write bool) crateWork {
	flag, mode := openMode(write)
	work := crateWork{
		size: size, rust: rustWork{name: "chunks", parameters: map[string]any{"n": n, "kind": kind, "mode": mode}},
		mmapio: onWarm(flag, func(f *mmapio.File, _ int64) func(n int) (uint64, error) {
			chunks := f.Chunks(n)
			if kind == "pages" {
				chunks = f.Pages()
			}
			if kind == "owned" {
				return func(ops int) (sum uint64, err error) {
					for range ops {
						for _, chunk := range chunks.All() {
							kept = bytes.Clone(chunk)
							sum += uint64(kept[0])
						}
						if err := chunks.Err(); err != nil {
							return 0, err
						}
					}
					return sum, nil
				}
			}
			return func(ops int) (sum uint64, err error) {
				for range ops {
					for _, chunk := range chunks.All() {
						sum += uint64(chunk[0])
					}
					if err := chunks.Err(); err != nil {
						return 0, err
					}
				}
				return sum, nil
			}
		}),
	}
	if kind == "owned" {
		work.other = otherSide{name: sideReused, open: onWarm(flag, func(f *mmapio.File, _ int64) func(n int) (uint64, error) {
			chunks, buf := f.Chunks(n), []byte(nil)
			return func(ops int) (sum uint64, err error) {
				for range ops {
					for _, chunk := range chunks.All() {
						buf = append(buf[:0], chunk...)
						sum += uint64(buf[0])
					}
					if err := chunks.Err(); err != nil {
						return 0, err
					}
				}
				return sum, nil
			}
		})}
	}
	return work
}

// kept is the last chunk that was copied, so that it is.
var kept []byte

// touchWork is bringing in a file that is in memory.
func touchWork(size int64) crateWork {
	return crateWork{
		size: size, file: sparseFile, rust: rustWork{name: "touch"},
		mmapio: onWarm(os.O_RDWR, func(f *mmapio.File, size int64) func(n int) (uint64, error) {
			return func(n int) (uint64, error) {
				for range n {
					if err := f.Prefault(0, size); err != nil {
						return 0, err
					}
				}
				return 0, nil
			}
		}),
	}
}

// countWork is adding to one word, many times, by several goroutines or threads that are
// started for it.
//
//go:noinline
func countWork(threads, times int) crateWork {
	return crateWork{
		size: pageSize, file: ownFile,
		rust: rustWork{name: "count", atomic: true, parameters: map[string]any{"threads": threads, "times": times}},
		mmapio: onWarm(os.O_RDWR, func(f *mmapio.File, _ int64) func(n int) (uint64, error) {
			count := func() error {
				v, err := f.View(0, 8)
				if err != nil {
					return err
				}
				defer v.Release()
				word, err := v.Uint64(0)
				if err != nil {
					return err
				}
				for range times {
					word.Add(1)
				}
				return nil
			}
			errs, p := make([]error, threads), make([]byte, 8)
			return func(n int) (uint64, error) {
				for range n {
					var group sync.WaitGroup
					for i := range threads {
						group.Go(func() { errs[i] = count() })
					}
					group.Wait()
					if err := errors.Join(errs...); err != nil {
						return 0, err
					}
				}
				_, err := f.ReadAt(p, 0)
				return binary.LittleEndian.Uint64(p), err
			}
		}),
	}
}

// adviseWork is telling the system again how a file is going to be read.
//
//go:noinline
func adviseWork(size int64) crateWork {
	return crateWork{
		size: size, rust: rustWork{name: "advise"},
		mmapio: onWarm(os.O_RDWR, func(f *mmapio.File, size int64) func(n int) (uint64, error) {
			return func(n int) (uint64, error) {
				for range n {
					if err := f.Advise(0, size, mmapio.AdviceSequential); err != nil {
						return 0, err
					}
				}
				return 0, nil
			}
		}),
		other: otherSide{name: sideView, like: true, open: onView(os.O_RDWR, func(v *mmapio.View) func(n int) (uint64, error) {
			return func(n int) (uint64, error) {
				for range n {
					if err := v.Advise(0, int64(v.Len()), mmapio.AdviceSequential); err != nil {
						return 0, err
					}
				}
				return 0, nil
			}
		})},
	}
}

// privateWork is opening a file copy-on-write and closing it. A File can be stored to then
// either way; the crate has two kinds of it.
func privateWork(size int64, write bool) crateWork {
	writable := 0
	if write {
		writable = 1
	}
	return crateWork{
		size: size, rust: rustWork{name: "private", parameters: map[string]any{"writable": writable}},
		mmapio: func(path string, _ int64) (*session, error) {
			return &session{run: func(n int) (uint64, error) {
				for range n {
					f, err := mmapio.Open(path, mmapio.WithCopyOnWrite())
					if err != nil {
						return 0, err
					}
					if err := f.Close(); err != nil {
						return 0, err
					}
				}
				return 0, nil
			}}, nil
		},
	}
}
