package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mmapio/mmapio"
)

// curveRounds are enough for a point: its neighbours tell whether it can be believed.
const curveRounds = 12

// sizes are those of the operations of a curve.
var sizes = []int{16, 64, 256, kiB, 4 * kiB, 16 * kiB, 64 * kiB, 256 * kiB, miB, 4 * miB, 16 * miB, 64 * miB}

func curveRows() []row {
	const file = 128 * miB
	read := &curve{
		Title: "Reads by size", Axis: "bytes of one read", Bytes: true, Y: bytesPerSecond,
		What: "ReadAt at random offsets of a file of 128 MiB that is in memory. Small reads cost a system call with os.File and a copy with mmapio; large ones cost the copy on both sides.",
	}
	write := &curve{
		Title: "Writes by size", Axis: "bytes of one write", Bytes: true, Y: bytesPerSecond,
		What: "WriteAt at random offsets of a file of 128 MiB that is in memory, and was written 64 KiB at a time.",
	}
	goroutines := &curve{
		Title: "Reads by goroutines", Axis: "goroutines", Y: eachSecond,
		What: "ReadAt of 64 B at random offsets of 64 MiB in memory, by several goroutines on one file. More goroutines than processors cannot be faster; they should not be slower.",
	}
	var rows []row
	for _, n := range sizes {
		rows = append(rows, row{
			id: "reads", variant: fmt.Sprintf("size=%d", n), what: "ReadAt " + size(int64(n)), bytes: n,
			curve: read, x: float64(n), rounds: curveRounds,
			sides: randomReads{size: file, n: n}.sides(),
			pairs: versus(sideOS),
		})
	}
	for _, n := range sizes {
		rows = append(rows, row{
			id: "writes", variant: fmt.Sprintf("size=%d", n), what: "WriteAt " + size(int64(n)), bytes: n,
			curve: write, x: float64(n), rounds: curveRounds,
			sides: randomWrites(file, usualPiece, n),
			pairs: versus(sideOS),
		})
	}
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64} {
		rows = append(rows, row{
			id: "goroutines", variant: fmt.Sprintf("goroutines=%d", n), what: fmt.Sprintf("ReadAt 64 B by %d goroutines", n), bytes: 64,
			curve: goroutines, x: float64(n), rounds: curveRounds,
			sides: randomReads{size: 64 * miB, n: 64, walks: n, goroutines: n}.sides()[:4],
			pairs: versus(sideOS),
		})
	}
	return append(rows, growthRows()...)
}

const (
	lateAppends       = 1 << 14
	sidePreallocated  = "mmapio-preallocated"
	appendedEachBytes = 128
)

// growthRows show whether an append costs more the longer a file is.
func growthRows() []row {
	growth := &curve{
		Title: "Appends by the length of the file", Axis: "length of the file", Bytes: true, Y: timeEach,
		What: "Write of 128 B at the end, 16,384 times, and Close, to a file of some length. An append that makes a file longer is a system call; one into preallocated space is not.",
	}
	var rows []row
	for _, length := range []int64{64 * kiB, miB, 16 * miB, 256 * miB, 4 << 30} {
		rows = append(rows, row{
			id: "appends", variant: fmt.Sprintf("length=%d", length), what: "append 128 B to " + size(length), bytes: appendedEachBytes, ops: lateAppends,
			curve: growth, x: float64(length), rounds: curveRounds,
			sides: []side{
				lateAppendSide(sideMmapio, length, func(path string) (appendable, error) { return mmapio.Create(path) }),
				lateAppendSide(sidePreallocated, length, func(path string) (appendable, error) {
					return mmapio.Create(path, mmapio.WithPreallocate(preallocation))
				}),
				lateAppendSide(sideOS, length, func(path string) (appendable, error) { return os.Create(path) }),
				lateAppendSide(sideBufio, length, func(path string) (appendable, error) {
					f, err := os.Create(path)
					return &bufferedFile{f, bufio.NewWriter(f)}, err
				}),
			},
			pairs: versus(sideOS, sideBufio),
		})
	}
	return rows
}

// appendable is what a file needs for appends after some length.
type appendable interface {
	io.WriteSeeker
	io.Closer
	Truncate(size int64) error
}

// bufferedFile is a file that is written through a buffer.
type bufferedFile struct {
	*os.File
	buffer *bufio.Writer
}

func (b *bufferedFile) Write(p []byte) (int, error) { return b.buffer.Write(p) }
func (b *bufferedFile) Close() error                { return errors.Join(b.buffer.Flush(), b.File.Close()) }

func lateAppendSide(name string, length int64, create func(path string) (appendable, error)) side {
	return side{name: name, open: func(w *workspace) (*session, error) {
		length := min(length, w.largest)
		var f appendable
		p := make([]byte, appendedEachBytes)
		s := newFileSession(w, name, func(path string) (err error) {
			if f, err = create(path); err != nil {
				return err
			}
			// What is there already is a hole: appends do not look at it.
			err = f.Truncate(length)
			if err == nil {
				_, err = f.Seek(0, io.SeekEnd)
			}
			if err != nil {
				return errors.Join(err, f.Close())
			}
			return nil
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
		s.from = length
		return s, nil
	}}
}
