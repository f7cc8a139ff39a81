package main

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/edsrzf/mmap-go"
	"github.com/mmapio/mmapio"
)

// flushOps are those of one turn: each waits for the disk.
const flushOps = 8

func flushRows(full bool) []row {
	length := int64(256 * miB)
	if full {
		length = 1 << 30
	}
	flush := func(variant, what string, piece int) row {
		return row{
			id: "P15", variant: variant, what: what, bytes: 64, ops: flushOps, check: 2 * flushOps, rounds: 30,
			sides: flushes(length, piece, 64),
			pairs: append([]pair{
				{sideMmapio, sideOS, within(1.1)},
				{sideFlushRange, sideOS, within(1.1)},
			}, versus(sideMmapGo, sideCrate, sideMemmap2)...),
		}
	}
	// The kernel keeps a file in pieces as large as those it was written in, within bounds. A store
	// through a mapping makes a whole piece dirty.
	return []row{
		flush("written=4KiB", "write 64 B into "+size(length)+" and flush", 4*kiB),
		flush("written=1MiB", "write 64 B into "+size(length)+" that was written 1 MiB at a time, and flush", miB),
	}
}

// sideFlushRange is mmapio told what to flush.
const sideFlushRange = "mmapio-range"

// flushes is the workload of writing n bytes at a random offset and making them durable. All
// sides write to one file: the file system keeps its books in the same way for them.
func flushes(size int64, piece, n int) []side {
	open := func(flush func(f *mmapio.File, off int64) error) func(path string, size int64) (*session, error) {
		return func(path string, size int64) (*session, error) {
			f, err := mmapio.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			return flushSession(f, path, size, n, f.Close, func(off int64) error { return flush(f, off) })
		}
	}
	return []side{
		{name: sideMmapio, open: onWritten("flushed", size, piece, open(func(f *mmapio.File, _ int64) error { return f.Flush() }))},
		{name: sideFlushRange, open: onWritten("flushed", size, piece, open(func(f *mmapio.File, off int64) error { return f.FlushRange(off, int64(n)) }))},
		{name: sideOS, open: onWritten("flushed", size, piece, func(path string, size int64) (*session, error) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, err
			}
			return flushSession(f, path, size, n, f.Close, func(int64) error { return syncData(f) })
		})},
		{name: sideMmapGo, open: onWritten("flushed", size, piece, func(path string, size int64) (*session, error) {
			m, unmap, err := mapFile(path, os.O_RDWR, mmap.RDWR)
			if err != nil {
				return nil, err
			}
			return flushSession(memory(m), path, size, n, unmap, func(int64) error { return m.Flush() })
		})},
		rustFlushes(sideCrate, size, piece, n),
		rustFlushes(sideMemmap2, size, piece, n),
	}
}

// rustFlushes returns the side of a crate, which flushes all of its mapping.
func rustFlushes(crate string, size int64, piece, n int) side {
	work := rustWork{name: "flushed", parameters: map[string]any{"n": n, "unit": min(n, pageSize)}}
	return work.side(crate, true, func(w *workspace) (string, int64, error) { return w.written("flushed", size, piece) })
}

// flushSession returns the session of a side that writes to f, after all that was written
// before is on the disk.
func flushSession(f interface {
	io.ReaderAt
	io.WriterAt
}, path string, size int64, n int, close func() error, flush func(off int64) error) (*session, error) {
	if err := errors.Join(touch(f, size), syncFile(path)); err != nil {
		return nil, errors.Join(err, close())
	}
	p, way := make([]byte, n), newWalk(size, n, seed)
	return &session{file: path, close: close, run: func(ops int) (uint64, error) {
		for range ops {
			way.x = next(way.x)
			off := offset(way.x, way.unit, way.units)
			binary.LittleEndian.PutUint64(p, way.x)
			if _, err := f.WriteAt(p, off); err != nil {
				return 0, err
			}
			if err := flush(off); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}}, nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
