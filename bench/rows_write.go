package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/edsrzf/mmap-go"
	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"
)

const (
	appended      = 1 << 16 // how many appends make a file of P9: 8 MiB
	preallocation = 4 * miB // the step in which it grows where it is preallocated
)

// P9 has no Rust sides: a mapping of either crate is as long as its file, and there is no call
// that appends. They grow by a resize: P16 compares that.
func writeRows() []row {
	return []row{
		overwriteRow(4 * kiB),
		overwriteRow(miB),
		overwriteRustRow(4 * kiB),
		overwriteRustRow(miB),
		{
			id: "P6", variant: "op=write", what: "Write 64 B in sequence", bytes: 64,
			sides: sequentialWrites(64*miB, 64),
			pairs: append([]pair{
				{sideMmapio, sideOS, faster(12)},
			}, versus(sideBufio, sideAferoOS, sideCrate, sideMemmap2)...),
		},
		{
			id: "P9", variant: "mode=default", what: "append 128 B, up to 8 MiB", bytes: 128, ops: appended,
			sides: appends(128),
			pairs: append([]pair{
				{sideMmapio, sideOS, faster(0.95)},
			}, versus(sideBufio, sideAferoOS, sideAferoMem)...),
		},
		{
			id: "P9", variant: "mode=preallocated", what: "append 128 B, up to 8 MiB, preallocated", bytes: 128, ops: appended,
			sides: appends(128, mmapio.WithPreallocate(preallocation)),
			pairs: append([]pair{
				{sideMmapio, sideOS, faster(10)},
				{sideMmapio, sideBufio, faster(3)},
			}, versus(sideBufio64)...),
		},
	}
}

// overwriteRow writes to files that were written in pieces of some size.
func overwriteRow(piece int) row {
	return row{
		id: "P5", variant: "written=" + strings.ReplaceAll(size(int64(piece)), " ", ""), bytes: 64,
		what:  "WriteAt 64 B, random over 512 MiB that were written " + size(int64(piece)) + " at a time, warm",
		sides: randomWrites(512*miB, piece, 64)[:3],
		pairs: append([]pair{
			{sideMmapio, sideOS, faster(20)},
		}, versus(sideMmapGo)...),
	}
}

// overwriteRustRow is overwriteRow with the crates instead of the other sides. In one row there
// would be five files of 512 MiB, each dirty all over: more than Linux leaves in memory without
// writing it to the disk, which then is what takes the time.
func overwriteRustRow(piece int) row {
	r := overwriteRow(piece)
	r.variant, r.full = r.variant+besideRust, true
	crate := rustWrites(sideCrate, 512*miB, piece, 64)
	crate.optional = false // the row is about it
	r.sides = []side{r.sides[0], crate, rustWrites(sideMemmap2, 512*miB, piece, 64)}
	r.pairs = versus(sideCrate, sideMemmap2)
	return r
}

// besideRust ends the variants of rows that repeat a row with the Rust sides, where these would be
// in the way of its other sides.
const besideRust = "/beside=rust"

// randomWrites is the workload of writing n bytes at random offsets of a file that
// is in memory. Every side has a file of its own, written in pieces of some size.
// A MemMapFs of afero takes no part: its WriteAt moves all that is behind, which takes some 10 ms
// in a file of 128 MiB.
func randomWrites(size int64, piece, n int) []side {
	return []side{
		{name: sideMmapio, open: onWritten("write-"+sideMmapio, size, piece, func(path string, size int64) (*session, error) {
			f, err := mmapio.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			p, way := start(size, n, seed)
			return &session{file: path, close: f.Close, run: func(n int) (uint64, error) {
				return 0, writeMmapio(f, p, way, n)
			}}, nil
		})},
		{name: sideOS, open: onWritten("write-"+sideOS, size, piece, func(path string, size int64) (*session, error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			p, way := start(size, n, seed)
			return &session{file: path, close: f.Close, run: func(n int) (uint64, error) {
				return 0, writeOS(f, p, way, n)
			}}, nil
		})},
		{name: sideMmapGo, open: onWritten("write-"+sideMmapGo, size, piece, func(path string, size int64) (*session, error) {
			m, unmap, err := mapFile(path, os.O_RDWR, mmap.RDWR)
			if err != nil {
				return nil, err
			}
			if err := rewrite(memory(m), size); err != nil {
				return nil, errors.Join(err, unmap())
			}
			p, way := start(size, n, seed)
			return &session{file: path, close: unmap, run: func(n int) (uint64, error) {
				return 0, writeMmapGo(m, p, way, n)
			}}, nil
		})},
		{name: sideAferoOS, open: onWritten("write-"+sideAferoOS, size, piece, func(path string, size int64) (*session, error) {
			f, err := afero.NewOsFs().OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			p, way := start(size, n, seed)
			return &session{file: path, close: f.Close, run: func(n int) (uint64, error) {
				return 0, writeAfero(f, p, way, n)
			}}, nil
		})},
		rustWrites(sideCrate, size, piece, n),
		rustWrites(sideMemmap2, size, piece, n),
	}
}

func rustWrites(crate string, size int64, piece, n int) side {
	work := rustWork{name: "write", parameters: map[string]any{"n": n, "unit": min(n, pageSize)}}
	return work.side(crate, true, func(w *workspace) (string, int64, error) {
		return w.written("write-"+crate, size, piece)
	})
}

// memory lets mapped memory be warmed up as files are.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// The loops below are the same but for the type they write to, as in rows_read.go.
// What is written differs from one operation to the next.

func writeMmapio(f *mmapio.File, p []byte, way *walk, n int) error {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		binary.LittleEndian.PutUint64(p, x)
		if _, err := f.WriteAt(p, offset(x, unit, units)); err != nil {
			return err
		}
	}
	way.x = x
	return nil
}

func writeOS(f *os.File, p []byte, way *walk, n int) error {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		binary.LittleEndian.PutUint64(p, x)
		if _, err := f.WriteAt(p, offset(x, unit, units)); err != nil {
			return err
		}
	}
	way.x = x
	return nil
}

func writeAfero(f afero.File, p []byte, way *walk, n int) error {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		binary.LittleEndian.PutUint64(p, x)
		if _, err := f.WriteAt(p, offset(x, unit, units)); err != nil {
			return err
		}
	}
	way.x = x
	return nil
}

func writeMmapGo(m mmap.MMap, p []byte, way *walk, n int) error {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		binary.LittleEndian.PutUint64(p, x)
		if copy(m[offset(x, unit, units):], p) < len(p) {
			return io.ErrShortWrite
		}
	}
	way.x = x
	return nil
}

// sequentialWrites is the workload of writing over a file from its begin to its
// end, n bytes at a time, over and over.
func sequentialWrites(size int64, n int) []side {
	return []side{
		{name: sideMmapio, open: onFile("write-"+sideMmapio, size, func(path string, size int64) (*session, error) {
			f, err := mmapio.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			p := make([]byte, n)
			run := inTurns(f, int(size)/n, func(x uint64, n int) (uint64, error) {
				for range n {
					x = next(x)
					binary.LittleEndian.PutUint64(p, x)
					if _, err := f.Write(p); err != nil {
						return 0, err
					}
				}
				return x, nil
			})
			return &session{file: path, close: f.Close, run: run}, nil
		})},
		{name: sideOS, open: onFile("write-"+sideOS, size, func(path string, size int64) (*session, error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			p := make([]byte, n)
			run := inTurns(f, int(size)/n, func(x uint64, n int) (uint64, error) {
				for range n {
					x = next(x)
					binary.LittleEndian.PutUint64(p, x)
					if _, err := f.Write(p); err != nil {
						return 0, err
					}
				}
				return x, nil
			})
			return &session{file: path, close: f.Close, run: run}, nil
		})},
		{name: sideBufio, open: onFile("write-"+sideBufio, size, func(path string, size int64) (*session, error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			b := bufio.NewWriter(f)
			p := make([]byte, n)
			run := inTurns(f, int(size)/n, func(x uint64, n int) (uint64, error) {
				for range n {
					x = next(x)
					binary.LittleEndian.PutUint64(p, x)
					if _, err := b.Write(p); err != nil {
						return 0, err
					}
				}
				return x, b.Flush()
			})
			return &session{file: path, close: f.Close, run: run}, nil
		})},
		{name: sideAferoOS, open: onFile("write-"+sideAferoOS, size, func(path string, size int64) (*session, error) {
			f, err := afero.NewOsFs().OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			if err := rewrite(f, size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			p := make([]byte, n)
			run := inTurns(f, int(size)/n, func(x uint64, n int) (uint64, error) {
				for range n {
					x = next(x)
					binary.LittleEndian.PutUint64(p, x)
					if _, err := f.Write(p); err != nil {
						return 0, err
					}
				}
				return x, nil
			})
			return &session{file: path, close: f.Close, run: run}, nil
		})},
		rustSequentialWrites(sideCrate, size, n),
		rustSequentialWrites(sideMemmap2, size, n),
	}
}

// rustSequentialWrites returns the side of a crate, whose workload keeps a cursor: a mapping has none.
func rustSequentialWrites(crate string, size int64, n int) side {
	work := rustWork{name: "overwrite", parameters: map[string]any{"n": n}}
	return work.side(crate, true, func(w *workspace) (string, int64, error) { return w.filled("write-"+crate, size) })
}

// appends is the workload of writing a new file, n bytes at a time. A run makes the
// file before its time begins, and closes it within: buffers are flushed and what
// was allocated ahead is given back.
func appends(n int, options ...mmapio.Option) []side {
	return []side{
		{name: sideMmapio, open: func(w *workspace) (*session, error) {
			var f *mmapio.File
			p := make([]byte, n)
			return newFileSession(w, sideMmapio, func(path string) (err error) {
				f, err = mmapio.Create(path, options...)
				return err
			}, func(n int) error {
				f := f
				for x := uint64(seed); n > 0; n-- {
					x = next(x)
					binary.LittleEndian.PutUint64(p, x)
					if _, err := f.Write(p); err != nil {
						return errors.Join(err, f.Close())
					}
				}
				return f.Close()
			}), nil
		}},
		{name: sideOS, open: func(w *workspace) (*session, error) {
			var f *os.File
			p := make([]byte, n)
			return newFileSession(w, sideOS, func(path string) (err error) {
				f, err = os.Create(path)
				return err
			}, func(n int) error {
				f := f
				for x := uint64(seed); n > 0; n-- {
					x = next(x)
					binary.LittleEndian.PutUint64(p, x)
					if _, err := f.Write(p); err != nil {
						return errors.Join(err, f.Close())
					}
				}
				return f.Close()
			}), nil
		}},
		aferoAppends(sideAferoOS, n, afero.NewOsFs()),
		aferoAppends(sideAferoMem, n, afero.NewMemMapFs()),
		bufferedAppends(sideBufio, n, 4*kiB),
		bufferedAppends(sideBufio64, n, 64*kiB),
	}
}

func aferoAppends(name string, n int, files afero.Fs) side {
	return side{name: name, open: func(w *workspace) (*session, error) {
		var f afero.File
		p := make([]byte, n)
		s := newFileSession(w, name, func(path string) (err error) {
			f, err = files.Create(path)
			return err
		}, func(n int) error {
			for x := uint64(seed); n > 0; n-- {
				x = next(x)
				binary.LittleEndian.PutUint64(p, x)
				if _, err := f.Write(p); err != nil {
					return errors.Join(err, f.Close())
				}
			}
			return f.Close()
		})
		s.files = files
		return s, nil
	}}
}

func bufferedAppends(name string, n, buffer int) side {
	return side{name: name, open: func(w *workspace) (*session, error) {
		var f *os.File
		b := bufio.NewWriterSize(nil, buffer)
		p := make([]byte, n)
		return newFileSession(w, name, func(path string) (err error) {
			f, err = os.Create(path)
			b.Reset(f)
			return err
		}, func(n int) error {
			for x := uint64(seed); n > 0; n-- {
				x = next(x)
				binary.LittleEndian.PutUint64(p, x)
				if _, err := b.Write(p); err != nil {
					return errors.Join(err, f.Close())
				}
			}
			return errors.Join(b.Flush(), f.Close())
		}), nil
	}}
}

// newFileSession returns the session of a side that writes a new file in every run.
func newFileSession(w *workspace, name string, create func(path string) error, write func(n int) error) *session {
	path := w.path("new-" + name)
	return &session{
		file: path,
		prepare: func() error {
			if err := removeIfThere(path); err != nil {
				return err
			}
			return create(path)
		},
		run: func(n int) (uint64, error) { return 0, write(n) },
	}
}

// removeIfThere removes what the last run left.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the file of the last run: %w", err)
	}
	return nil
}
