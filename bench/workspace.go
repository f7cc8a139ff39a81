package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/spf13/afero"
)

const (
	kiB = 1 << 10
	miB = 1 << 20
)

// pageSize is the step at which files are touched; larger pages are touched more
// than once.
const pageSize = 4 * kiB

// usualPiece is how much at a time files are written, as copying programs do. It matters: Linux
// keeps a file in memory in pieces about as large as those it was written in, and a write by a
// system call to a large one takes several times as long as to a small one.
const usualPiece = 64 * kiB

// A workspace is where the sides have their files.
type workspace struct {
	ctx     context.Context // of the comparison: it ends what takes long
	dir     string
	largest int64 // no file is longer
	files   int   // how many files are held open at most
	ops     int   // how many operations a run has at most, where a row says how many
}

// newWorkspace makes a workspace in a new folder inside parent.
func newWorkspace(ctx context.Context, parent string) (*workspace, error) {
	dir, err := os.MkdirTemp(parent, "mmapio-bench-")
	if err != nil {
		return nil, err
	}
	return &workspace{ctx: ctx, dir: dir, largest: math.MaxInt64, files: math.MaxInt, ops: math.MaxInt}, nil
}

func (w *workspace) close() error { return os.RemoveAll(w.dir) }

func (w *workspace) path(name string) string { return filepath.Join(w.dir, name) }

// clear removes all files, so that a row's do not take memory from the next one's.
func (w *workspace) clear() error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err = errors.Join(err, os.Remove(w.path(e.Name())))
	}
	return err
}

// filled returns the path and the size of a file of size bytes that no two of its
// pages have in common. It makes the file if it is not there, so sides that only
// read share it.
func (w *workspace) filled(name string, size int64) (string, int64, error) {
	return w.written(name, size, usualPiece)
}

// written is filled with a file that is written in pieces of some size.
func (w *workspace) written(name string, size int64, piece int) (string, int64, error) {
	size = min(size, w.largest)
	path, err := w.made(name, piece, func(f io.Writer) error { return fill(f, size) })
	return path, size, err
}

// made returns the path of a file that write writes, in pieces of some size. It makes the
// file if it is not there.
func (w *workspace) made(name string, piece int, write func(f io.Writer) error) (string, error) {
	path := w.path(name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	out := bufio.NewWriterSize(interruptible{w.ctx, f}, piece)
	if err := errors.Join(write(out), out.Flush(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path)) // half of it is not what others want
	}
	return path, nil
}

// interruptible writes until a context ends.
type interruptible struct {
	ctx context.Context
	to  io.Writer
}

func (i interruptible) Write(p []byte) (int, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, err
	}
	return i.to.Write(p)
}

// onFile returns the opening of a side that works on a file that is filled.
func onFile(name string, size int64, open func(path string, size int64) (*session, error)) func(w *workspace) (*session, error) {
	return onWritten(name, size, usualPiece, open)
}

// onWritten is onFile with a file that is written in pieces of some size.
func onWritten(name string, size int64, piece int, open func(path string, size int64) (*session, error)) func(w *workspace) (*session, error) {
	return func(w *workspace) (*session, error) {
		path, size, err := w.written(name, size, piece)
		if err != nil {
			return nil, err
		}
		return open(path, size)
	}
}

// text returns the path of a file of about size bytes, in lines of up to 120 characters.
func (w *workspace) text(name string, size int64) (string, error) {
	size = min(size, w.largest)
	return w.made(name, usualPiece, func(f io.Writer) error {
		letters := bytes.Repeat([]byte("a line of text "), 8)
		for x, left := uint64(seed), size; left > 0; {
			x = next(x)
			line := letters[:offset(x, 1, uint64(len(letters)+1))]
			if _, err := f.Write(append(line[:len(line):len(line)], '\n')); err != nil {
				return err
			}
			left -= int64(len(line)) + 1
		}
		return nil
	})
}

func fill(f io.Writer, size int64) error {
	var word [8]byte
	x := uint64(seed)
	for range size / 8 {
		x = next(x)
		// The low bits of x repeat soon; the high ones do not.
		binary.LittleEndian.PutUint64(word[:], x^x>>32)
		if _, err := f.Write(word[:]); err != nil {
			return err
		}
	}
	return nil
}

// seed is where every walk begins, so that all sides take the same way.
const seed = 0x9e3779b97f4a7c15

// next returns the random number after x. It is one multiplication and one
// addition, so it can stay in the timed loops, the same for all sides.
func next(x uint64) uint64 { return x*6364136223846793005 + 1442695040888963407 }

// A walk visits a file in random order.
type walk struct {
	x     uint64
	unit  uint64 // visited offsets are multiples of it
	units uint64 // how many there are
}

// newWalk returns the walk that visits n bytes at a time in the first size bytes.
func newWalk(size int64, n int, seed uint64) *walk {
	unit := min(n, pageSize)
	return &walk{x: seed, unit: uint64(unit), units: uint64((size-int64(n))/int64(unit)) + 1}
}

// start returns the walk that visits n bytes at a time, or all of a shorter file, and a
// buffer for them. It has a page of its own, so that no two goroutines share a cache line.
func start(size int64, n int, seed uint64) ([]byte, *walk) {
	n = min(n, int(size))
	return make([]byte, max(n, pageSize))[:n], newWalk(size, n, seed)
}

// offset returns where x leads to, in a file with that many units.
func offset(x, unit, units uint64) int64 {
	high, _ := bits.Mul64(x, units)
	return int64(high * unit)
}

// mix adds what was read into p to a checksum: its ends, which is cheap enough for
// a timed loop, the same for all sides.
func mix(sum uint64, p []byte) uint64 {
	return bits.RotateLeft64(sum, 5) ^ binary.LittleEndian.Uint64(p) ^ binary.LittleEndian.Uint64(p[len(p)-8:])
}

// whole adds all of p to a checksum. A run does it once, at its end.
func whole(sum uint64, p []byte) uint64 {
	return sum ^ uint64(crc32.Checksum(p, castagnoli))<<16
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumFile returns the checksum of the file at path from an offset on. The files may be nil
// for those of the machine.
func sumFile(files afero.Fs, path string, from int64) (uint64, error) {
	if files == nil {
		files = afero.NewOsFs()
	}
	f, err := files.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, err
	}
	h := crc32.New(castagnoli)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, miB))
	return uint64(n)<<32 | uint64(h.Sum32()), err
}

// touch reads something of every page, twice: what a package learns about a page
// at the first time it may use at the second.
func touch(r io.ReaderAt, size int64) error {
	var b [8]byte
	for range 2 {
		for off := int64(0); off+int64(len(b)) <= size; off += pageSize {
			if _, err := r.ReadAt(b[:], off); err != nil {
				return fmt.Errorf("warming up: %w", err)
			}
		}
	}
	return nil
}

// rewrite reads something of every page and then writes it back: what a package
// learns about a page when it reads it may serve it when it writes.
func rewrite(f interface {
	io.ReaderAt
	io.WriterAt
}, size int64) error {
	if err := touch(f, size); err != nil {
		return err
	}
	var b [8]byte
	for off := int64(0); off+int64(len(b)) <= size; off += pageSize {
		if _, err := f.ReadAt(b[:], off); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
		if _, err := f.WriteAt(b[:], off); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
	}
	return nil
}
