package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/edsrzf/mmap-go"
	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"
	xexp "golang.org/x/exp/mmap"
)

func readRows() []row {
	return []row{
		{
			id: "P1", what: "ReadAt 64 B, hot page", bytes: 64,
			sides: randomReads{size: pageSize, n: 64}.sides(),
			pairs: append([]pair{
				{sideMmapio, sideOS, faster(25)},
				{sideMmapio, sideExp, within(1.7)},
			}, versus(sideMmapGo, sideCrate, sideMemmap2, sideAferoOS, sideAferoMem)...),
		},
		{
			id: "P2", what: "ReadAt 64 B, random over 64 MiB", bytes: 64,
			sides: randomReads{size: 64 * miB, n: 64}.sides(),
			pairs: append([]pair{
				{sideMmapio, sideOS, faster(6.5)},
				{sideMmapio, sideExp, within(1.3)},
			}, versus(sideMmapGo, sideCrate, sideMemmap2, sideAferoOS, sideAferoMem)...),
		},
		parallelRow(),
		randomReadRow(4),
		randomReadRow(64),
		{
			id: "P6", variant: "op=read", what: "Read 64 B in sequence", bytes: 64,
			sides: sequentialReads(64*miB, 64),
			pairs: append([]pair{
				{sideMmapio, sideOS, faster(12)},
			}, versus(sideBufio, sideExp, sideMmapGo, sideAferoOS, sideAferoMem, sideCrate, sideMemmap2)...),
		},
	}
}

// parallelRow compares two goroutines with one that does the work of both.
func parallelRow() row {
	r := row{id: "P3", what: "ReadAt 64 B, random over 64 MiB, 2 goroutines", bytes: 64, cpus: 2}
	for goroutines := 1; goroutines <= 2; goroutines++ {
		reads := randomReads{size: 64 * miB, n: 64, walks: 2, goroutines: goroutines}
		for _, s := range append(reads.sides()[:4], reads.rust(sideCrate), reads.rust(sideMemmap2)) { // a file of afero's memory is not for two goroutines
			s.name += fmt.Sprintf("(%d)", goroutines)
			r.sides = append(r.sides, s)
		}
	}
	r.pairs = []pair{
		{sideMmapio + "(2)", sideMmapio + "(1)", faster(1.9)},
		// What this machine gives to code that shares nothing.
		{sideMmapGo + "(2)", sideMmapGo + "(1)", nil},
		{sideExp + "(2)", sideExp + "(1)", nil},
		{sideOS + "(2)", sideOS + "(1)", nil},
		{sideMmapio + "(2)", sideOS + "(2)", nil},
		{sideMmapio + "(2)", sideExp + "(2)", nil},
		{sideCrate + "(2)", sideCrate + "(1)", nil},
		{sideMmapio + "(2)", sideCrate + "(2)", nil},
		{sideMmapio + "(2)", sideMemmap2 + "(2)", nil},
	}
	return r
}

func randomReadRow(kibibytes int) row {
	n := kibibytes * kiB
	return row{
		id: "P4", variant: fmt.Sprintf("size=%dKiB", kibibytes), bytes: n,
		what:  fmt.Sprintf("ReadAt %d KiB, random over 64 MiB", kibibytes),
		sides: randomReads{size: 64 * miB, n: n}.sides(),
		pairs: append([]pair{
			{sideMmapio, sideOS, within(1.03)},
			{sideMmapio, sideExp, within(1.03)},
		}, versus(sideMmapGo, sideCrate, sideMemmap2, sideAferoOS, sideAferoMem)...),
	}
}

// randomReads is the workload of reading n bytes at random offsets of a file.
type randomReads struct {
	size       int64
	n          int
	walks      int // how many ways through the file, 0 for one
	goroutines int // how many goroutines they are shared among, 0 for one
}

func (r randomReads) sides() []side {
	return []side{
		{name: sideMmapio, open: onFile("read", r.size, func(path string, size int64) (*session, error) {
			f, err := mmapio.Open(path)
			if err != nil {
				return nil, err
			}
			return r.session(f, size, f.Close, func(p []byte, way *walk, n int) (uint64, error) {
				return readMmapio(f, p, way, n)
			})
		})},
		{name: sideOS, open: onFile("read", r.size, func(path string, size int64) (*session, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			return r.session(f, size, f.Close, func(p []byte, way *walk, n int) (uint64, error) {
				return readOS(f, p, way, n)
			})
		})},
		{name: sideExp, open: onFile("read", r.size, func(path string, size int64) (*session, error) {
			f, err := xexp.Open(path)
			if err != nil {
				return nil, err
			}
			return r.session(f, size, f.Close, func(p []byte, way *walk, n int) (uint64, error) {
				return readExp(f, p, way, n)
			})
		})},
		{name: sideMmapGo, open: onFile("read", r.size, func(path string, size int64) (*session, error) {
			m, unmap, err := mapFile(path, os.O_RDONLY, mmap.RDONLY)
			if err != nil {
				return nil, err
			}
			return r.session(bytes.NewReader(m), size, unmap, func(p []byte, way *walk, n int) (uint64, error) {
				return readSlice(m, p, way, n)
			})
		})},
		{name: sideAferoOS, open: onFile("read", r.size, func(path string, size int64) (*session, error) {
			f, err := afero.NewOsFs().Open(path)
			if err != nil {
				return nil, err
			}
			return r.session(f, size, f.Close, func(p []byte, way *walk, n int) (uint64, error) {
				return readAfero(f, p, way, n)
			})
		})},
		{name: sideAferoMem, open: onFile("read", r.size, func(path string, size int64) (*session, error) {
			f, err := inMemory(path)
			if err != nil {
				return nil, err
			}
			return r.session(f, size, f.Close, func(p []byte, way *walk, n int) (uint64, error) {
				return readAfero(f, p, way, n)
			})
		})},
		r.rust(sideCrate),
		r.rust(sideMemmap2),
	}
}

// rust returns the side of a crate.
func (r randomReads) rust(crate string) side {
	return rustReading(crate, "read", r.size, rustReads(r.n, min(r.n, pageSize), max(r.walks, 1), max(r.goroutines, 1), "ro"))
}

// inMemory returns an open file of an afero.MemMapFs with the content of the one at path.
func inMemory(path string) (afero.File, error) {
	content, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	f, err := afero.NewMemMapFs().Create(path)
	if err != nil {
		return nil, err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{content}, make([]byte, miB))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// session warms file up and returns the session of a side that reads by loop.
func (r randomReads) session(file io.ReaderAt, size int64, close func() error, loop func(p []byte, way *walk, n int) (uint64, error)) (*session, error) {
	if err := touch(file, size); err != nil {
		return nil, errors.Join(err, close())
	}
	type walker struct {
		way *walk
		p   []byte
	}
	walkers := make([]walker, max(r.walks, 1))
	for i := range walkers {
		p, way := start(size, r.n, seed+uint64(i))
		walkers[i] = walker{way, p}
	}
	share := func(i, n int) int { return n*(i+1)/len(walkers) - n*i/len(walkers) }

	if r.goroutines <= 1 {
		return &session{close: close, run: func(n int) (sum uint64, err error) {
			for i, walker := range walkers {
				s, err := loop(walker.p, walker.way, share(i, n))
				if err != nil {
					return 0, err
				}
				sum ^= s
			}
			return sum, nil
		}}, nil
	}
	sums, errs := make([]uint64, len(walkers)), make([]error, len(walkers))
	return &session{close: close, run: func(n int) (sum uint64, err error) {
		var group sync.WaitGroup
		for i, walker := range walkers {
			group.Go(func() {
				sums[i], errs[i] = loop(walker.p, walker.way, share(i, n))
			})
		}
		group.Wait()
		for _, s := range sums {
			sum ^= s
		}
		return sum, errors.Join(errs...)
	}}, nil
}

// The loops below are the same but for the type they read from: every side is
// called as a user would call it, not through an interface.

func readMmapio(f *mmapio.File, p []byte, way *walk, n int) (sum uint64, err error) {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		if _, err := f.ReadAt(p, offset(x, unit, units)); err != nil {
			return 0, err
		}
		sum = mix(sum, p)
	}
	way.x = x
	return whole(sum, p), nil
}

func readOS(f *os.File, p []byte, way *walk, n int) (sum uint64, err error) {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		if _, err := f.ReadAt(p, offset(x, unit, units)); err != nil {
			return 0, err
		}
		sum = mix(sum, p)
	}
	way.x = x
	return whole(sum, p), nil
}

func readExp(f *xexp.ReaderAt, p []byte, way *walk, n int) (sum uint64, err error) {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		if _, err := f.ReadAt(p, offset(x, unit, units)); err != nil {
			return 0, err
		}
		sum = mix(sum, p)
	}
	way.x = x
	return whole(sum, p), nil
}

// readSlice reads from memory that is mapped.
func readSlice(m []byte, p []byte, way *walk, n int) (sum uint64, err error) {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		if copy(p, m[offset(x, unit, units):]) < len(p) {
			return 0, io.ErrUnexpectedEOF
		}
		sum = mix(sum, p)
	}
	way.x = x
	return whole(sum, p), nil
}

func readAfero(f afero.File, p []byte, way *walk, n int) (sum uint64, err error) {
	x, unit, units := way.x, way.unit, way.units
	for range n {
		x = next(x)
		if _, err := f.ReadAt(p, offset(x, unit, units)); err != nil {
			return 0, err
		}
		sum = mix(sum, p)
	}
	way.x = x
	return whole(sum, p), nil
}

// mapFile maps the file at path with mmap-go, for whom it need not stay open.
func mapFile(path string, flag, prot int) (mmap.MMap, func() error, error) {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, nil, err
	}
	m, err := mmap.Map(f, prot, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, nil, err
	}
	return m, m.Unmap, nil
}

// sequentialReads is the workload of reading a file from its begin to its end, n
// bytes at a time, over and over.
func sequentialReads(size int64, n int) []side {
	return []side{
		{name: sideMmapio, open: onFile("read", size, func(path string, size int64) (*session, error) {
			f, err := mmapio.Open(path)
			if err != nil {
				return nil, err
			}
			p := make([]byte, n)
			return sequentialReader(f, size, p, f.Close, func(sum uint64, n int) (uint64, error) {
				for range n {
					if _, err := f.Read(p); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return sum, nil
			})
		})},
		{name: sideOS, open: onFile("read", size, func(path string, size int64) (*session, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			p := make([]byte, n)
			return sequentialReader(f, size, p, f.Close, func(sum uint64, n int) (uint64, error) {
				for range n {
					if _, err := f.Read(p); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return sum, nil
			})
		})},
		{name: sideBufio, open: onFile("read", size, func(path string, size int64) (*session, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			b := &bufferedReader{bufio.NewReader(f), f}
			p := make([]byte, n)
			return sequentialReader(b, size, p, f.Close, func(sum uint64, n int) (uint64, error) {
				b := b.Reader
				for range n {
					if _, err := b.Read(p); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return sum, nil
			})
		})},
		{name: sideExp, open: onFile("read", size, func(path string, size int64) (*session, error) {
			f, err := xexp.Open(path)
			if err != nil {
				return nil, err
			}
			s := io.NewSectionReader(f, 0, size)
			p := make([]byte, n)
			return sequentialReader(s, size, p, f.Close, func(sum uint64, n int) (uint64, error) {
				for range n {
					if _, err := s.Read(p); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return sum, nil
			})
		})},
		{name: sideMmapGo, open: onFile("read", size, func(path string, size int64) (*session, error) {
			m, unmap, err := mapFile(path, os.O_RDONLY, mmap.RDONLY)
			if err != nil {
				return nil, err
			}
			r := bytes.NewReader(m)
			p := make([]byte, n)
			return sequentialReader(r, size, p, unmap, func(sum uint64, n int) (uint64, error) {
				for range n {
					if _, err := r.Read(p); err != nil {
						return 0, err
					}
					sum = mix(sum, p)
				}
				return sum, nil
			})
		})},
		sequentialAfero(sideAferoOS, size, n, afero.NewOsFs().Open),
		sequentialAfero(sideAferoMem, size, n, func(path string) (afero.File, error) {
			f, err := inMemory(path)
			return f, err
		}),
		rustSequentialReads(sideCrate, size, n),
		rustSequentialReads(sideMemmap2, size, n),
	}
}

// rustSequentialReads returns the side of a crate, whose workload keeps a cursor: a mapping has none.
func rustSequentialReads(crate string, size int64, n int) side {
	return rustReading(crate, "read", size, rustWork{name: "sequence", parameters: map[string]any{"n": n}})
}

// rustReading returns the side of a crate that works on the file of that name, and leaves no
// result in it.
func rustReading(crate, name string, size int64, work rustWork) side {
	return work.side(crate, false, func(w *workspace) (string, int64, error) { return w.filled(name, size) })
}

func sequentialAfero(name string, size int64, n int, open func(path string) (afero.File, error)) side {
	return side{name: name, open: onFile("read", size, func(path string, size int64) (*session, error) {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		p := make([]byte, n)
		return sequentialReader(f, size, p, f.Close, func(sum uint64, n int) (uint64, error) {
			for range n {
				if _, err := f.Read(p); err != nil {
					return 0, err
				}
				sum = mix(sum, p)
			}
			return sum, nil
		})
	})}
}

// bufferedReader is a file behind a buffer, with just enough to go back to its begin.
type bufferedReader struct {
	*bufio.Reader
	file *os.File
}

func (b *bufferedReader) Seek(offset int64, whence int) (int64, error) {
	n, err := b.file.Seek(offset, whence)
	b.Reset(b.file)
	return n, err
}

// sequentialReader warms file up and returns the session of a side that reads it
// into p by loop, which does n operations without meeting the end of the file.
func sequentialReader(file io.ReadSeeker, size int64, p []byte, close func() error, loop func(sum uint64, n int) (uint64, error)) (*session, error) {
	for range 2 {
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, make([]byte, pageSize)); err != nil {
			return nil, errors.Join(fmt.Errorf("warming up: %w", err), close())
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return nil, errors.Join(fmt.Errorf("warming up: %w", err), close())
		}
	}
	run := inTurns(file, int(size)/len(p), loop)
	return &session{close: close, run: func(n int) (uint64, error) {
		sum, err := run(n)
		return whole(sum, p), err
	}}, nil
}

// inTurns returns a function that does operations by loop and goes back to the
// begin of file after each turn of so many.
func inTurns(file io.Seeker, turn int, loop func(sum uint64, n int) (uint64, error)) func(n int) (uint64, error) {
	left := turn
	return func(n int) (sum uint64, err error) {
		for n > 0 {
			if left == 0 {
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return 0, err
				}
				left = turn
			}
			now := min(n, left)
			if sum, err = loop(sum, now); err != nil {
				return 0, err
			}
			left -= now
			n -= now
		}
		return sum, nil
	}
}
