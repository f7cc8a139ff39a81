package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mmapio/mmapio"
	xexp "golang.org/x/exp/mmap"
)

const (
	coldReaders = 64
	coldOps     = 2048
	// memoryLimit is what P12 may use; its file is five times as long.
	memoryLimit = 96 * miB
)

// errKept is in errors of files that cannot be made cold.
var errKept = errors.New("the file system keeps files in memory")

// In a full run the crates take part in P11, by 64 threads that read through a mapping, each in
// a file of its own. They do not in the row of the sleeper: what is late there is a goroutine, for
// want of a processor that another one holds while it waits for a page, and the Rust sides are
// other processes, of threads that hold none.
//
// Nor do they in P12, though a process that is started there has the same limit. The kernel reads
// around each page that is missing from a mapping, for 64 threads more than there is room for, so
// that what is brought in may be gone before it is looked at: ten rounds were not done after a
// quarter of an hour.
func coldRows(full bool) []row {
	reads := row{
		id: "P11", variant: "of=reads", what: "cold ReadAt 4 KiB, random over 256 MiB, 64 goroutines", bytes: 4 * kiB, ops: coldOps, rounds: 20,
		sides: coldReads{size: 256 * miB, cold: true}.sides(),
		pairs: []pair{
			{sideMmapio, sideOS, faster(0.95)},
			{sideMmapio, sideExp, faster(1.8)},
		},
	}
	if full {
		for _, crate := range []string{sideCrate, sideMemmap2} {
			reads.sides = append(reads.sides, coldReads{size: 256 * miB, cold: true}.rust(crate))
		}
		reads.pairs = append(reads.pairs, versus(sideCrate, sideMemmap2)...)
	}
	return []row{
		reads,
		{
			id: "P11", variant: "of=sleeper", what: "a sleep of 1 ms beside 64 goroutines that read cold data", ops: coldOps, rounds: 20,
			sides: coldReads{size: 256 * miB, cold: true, sleeper: true}.sides(),
			pairs: append([]pair{
				{sideMmapio, sideOS, within(1.5)},
			}, versus(sideExp)...),
		},
		{
			id: "P12", what: "ReadAt 4 KiB, random over five times the memory limit, 64 goroutines", bytes: 4 * kiB, ops: 2 * coldOps,
			around: func() (func() error, error) { return limitMemory(memoryLimit) },
			// A plain mapping is left out: its faults slow the whole process down.
			sides: coldReads{size: 5 * memoryLimit}.sides()[:2],
			pairs: []pair{{sideMmapio, sideOS, faster(0.9)}},
		},
	}
}

// coldReads is the workload of many goroutines that read 4 KiB each at random offsets.
type coldReads struct {
	size    int64
	cold    bool // nothing is in memory when a run begins
	sleeper bool // what counts is how long a goroutine beside sleeps that wants to sleep for 1 ms
}

func (r coldReads) sides() []side {
	return []side{
		r.side(sideMmapio, func(path string) (holder, error) { return mmapio.Open(path) }),
		r.side(sideOS, func(path string) (holder, error) { return os.Open(path) }),
		r.side(sideExp, func(path string) (holder, error) { return xexp.Open(path) }),
	}
}

func (r coldReads) side(name string, open opener) side {
	// A file for each side: what one has read is in memory for the others.
	onDisk := onFile("cold-"+name, r.size, func(path string, size int64) (*session, error) {
		var f holder
		shut := func() error {
			if f == nil {
				return nil
			}
			err := f.Close()
			f = nil
			return err
		}
		ways, pieces := make([]*walk, coldReaders), make([][]byte, coldReaders)
		for i := range ways {
			ways[i] = newWalk(size, 4*kiB, seed+uint64(i))
			pieces[i] = make([]byte, 4*kiB)
		}
		s := &session{
			close: shut,
			run: func(n int) (uint64, error) {
				sums, errs := make([]uint64, coldReaders), make([]error, coldReaders)
				var readers sync.WaitGroup
				for i := range coldReaders {
					readers.Go(func() {
						sums[i], errs[i] = readCold(f, pieces[i], ways[i], n*(i+1)/coldReaders-n*i/coldReaders)
					})
				}
				readers.Wait()
				sum := uint64(0)
				for _, s := range sums {
					sum ^= s
				}
				return sum, errors.Join(errs...)
			},
		}
		if r.cold {
			s.prepare = func() (err error) {
				if err := errors.Join(shut(), evict(path)); err != nil {
					return err
				}
				f, err = open(path)
				return err
			}
		} else {
			var err error
			if f, err = open(path); err != nil {
				return nil, err
			}
		}
		if r.sleeper {
			beside(s)
		}
		return s, nil
	})
	return side{name: name, open: afterEvicts(onDisk)}
}

// rust returns the side of a crate, for reads of what is cold.
func (r coldReads) rust(crate string) side {
	work := rustWork{name: "cold", between: evict, parameters: map[string]any{"n": 4 * kiB, "unit": 4 * kiB, "walks": coldReaders}}
	s := rustReading(crate, "cold-"+crate, r.size, work)
	s.open = afterEvicts(s.open)
	return s
}

// afterEvicts looks whether files can be made cold before one is made: where memory is limited,
// one that cannot leave it ends the process.
func afterEvicts(open func(w *workspace) (*session, error)) func(w *workspace) (*session, error) {
	return func(w *workspace) (*session, error) {
		if err := evicts(w); err != nil {
			return nil, err
		}
		return open(w)
	}
}

// evicts returns an error where files of the workspace cannot be made cold.
func evicts(w *workspace) error {
	path, _, err := w.filled("probe", 16*pageSize)
	if err != nil {
		return err
	}
	return errors.Join(evictable(path), os.Remove(path))
}

func readCold(f io.ReaderAt, p []byte, way *walk, n int) (sum uint64, err error) {
	for range n {
		way.x = next(way.x)
		if _, err := f.ReadAt(p, offset(way.x, way.unit, way.units)); err != nil {
			return 0, err
		}
		sum = mix(sum, p)
	}
	return whole(sum, p), nil
}

// beside makes the time of a session that of a sleeper: how long a sleep of 1 ms takes
// on average, while the session runs.
func beside(s *session) {
	run := s.run
	var each time.Duration
	var delays []time.Duration
	s.run = func(n int) (uint64, error) {
		stop, slept := make(chan struct{}), make(chan struct{})
		began, sleeps := time.Now(), 0
		delays = delays[:0]
		go func() {
			defer close(slept)
			for {
				before := time.Now()
				time.Sleep(time.Millisecond)
				delays = append(delays, time.Since(before))
				sleeps++
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		sum, err := run(n)
		close(stop)
		<-slept
		each = time.Since(began) / time.Duration(sleeps)
		return sum, err
	}
	s.took = func(n int) time.Duration { return each * time.Duration(n) }
	s.delays = func() []time.Duration { return delays }
}
