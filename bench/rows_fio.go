package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// fio is a program that measures storage. It does the same work without Go, so its figures
// are what the machine can do: by system calls (psync), and through a mapping (mmap).
const (
	sideFioCalls = "fio-psync"
	sideFioMap   = "fio-mmap"
)

// fioOps keep fio busy for longer than the milliseconds it counts in.
const fioOps = 1 << 18

func fioRows() []row {
	fio := func(r row) row {
		r.id, r.rounds = "fio", leastRounds
		r.pairs = versus(sideFioCalls, sideFioMap, sideOS)
		return r
	}
	hot, cold := randomReads{size: 64 * miB, n: 4 * kiB}, coldReads{size: 512 * miB, cold: true}
	return []row{
		fio(row{
			variant: "size=4KiB", what: "ReadAt 4 KiB, random over 64 MiB", bytes: 4 * kiB, ops: fioOps,
			sides: append(hot.sides()[:2],
				fioSide{name: sideFioCalls, engine: "psync", file: "read", size: hot.size, bytes: hot.n, jobs: 1}.side(),
				fioSide{name: sideFioMap, engine: "mmap", file: "read", size: hot.size, bytes: hot.n, jobs: 1}.side()),
		}),
		fio(row{
			variant: "size=64", what: "ReadAt 64 B, random over 64 MiB", bytes: 64, ops: fioOps, full: true,
			sides: append(randomReads{size: 64 * miB, n: 64}.sides()[:2],
				fioSide{name: sideFioCalls, engine: "psync", file: "read", size: 64 * miB, bytes: 64, jobs: 1}.side(),
				fioSide{name: sideFioMap, engine: "mmap", file: "read", size: 64 * miB, bytes: 64, jobs: 1}.side()),
		}),
		fio(row{
			variant: "op=write", what: "WriteAt 4 KiB, random over 64 MiB", bytes: 4 * kiB, ops: fioOps / 4, full: true,
			sides: append(randomWrites(64*miB, usualPiece, 4*kiB)[:2],
				fioSide{name: sideFioCalls, engine: "psync", file: "write-fio-calls", size: 64 * miB, bytes: 4 * kiB, jobs: 1, write: true}.side(),
				fioSide{name: sideFioMap, engine: "mmap", file: "write-fio-map", size: 64 * miB, bytes: 4 * kiB, jobs: 1, write: true}.side()),
		}),
		fio(row{
			variant: "state=cold", what: "cold ReadAt 4 KiB, random over 512 MiB, 64 at a time", bytes: 4 * kiB, ops: 8 * coldOps, full: true,
			sides: append(cold.sides()[:2],
				fioSide{name: sideFioCalls, engine: "psync", file: "cold-fio-calls", size: cold.size, bytes: 4 * kiB, jobs: coldReaders, cold: true}.side(),
				fioSide{name: sideFioMap, engine: "mmap", file: "cold-fio-map", size: cold.size, bytes: 4 * kiB, jobs: coldReaders, cold: true}.side()),
		}),
	}
}

// fioSide is the workload of reading or writing at random offsets, by fio.
type fioSide struct {
	name   string
	engine string
	file   string
	size   int64
	bytes  int
	jobs   int // how many threads
	write  bool
	cold   bool // nothing is in memory when a run begins
}

func (f fioSide) side() side {
	return side{name: f.name, optional: true, open: func(w *workspace) (*session, error) {
		program, err := exec.LookPath("fio")
		if err != nil {
			return nil, fmt.Errorf("fio is not installed: %w", err)
		}
		path, size, err := w.filled(f.file, f.size)
		if err != nil {
			return nil, err
		}
		var each time.Duration
		s := &session{
			unseen: true,
			run: func(n int) (uint64, error) {
				report, err := runFio(w.ctx, program, f.arguments(path, size, n)...)
				if err != nil {
					return 0, err
				}
				each, err = report.each(f.write)
				return 0, err
			},
			took: func(n int) time.Duration { return each * time.Duration(n) },
		}
		if f.cold {
			s.prepare = func() error { return evict(path) }
		}
		return s, nil
	}}
}

// arguments are those for n operations, shared among the threads.
func (f fioSide) arguments(path string, size int64, n int) []string {
	what := "randread"
	if f.write {
		what = "randwrite"
	}
	option := func(name string, value any) string { return fmt.Sprintf("--%s=%v", name, value) }
	return []string{
		option("name", "bench"), option("filename", path), option("ioengine", f.engine), option("rw", what),
		option("bs", f.bytes), option("size", size), option("io_size", int64(max(1, n/f.jobs))*int64(f.bytes)),
		option("numjobs", f.jobs), "--thread", "--group_reporting",
		"--norandommap",                                    // as a walk: an offset may come twice
		option("invalidate", 0), option("fadvise_hint", 0), // what is in memory is the row's business, and nobody gives advice
		option("fallocate", "none"), option("gtod_reduce", 1), // no clock around each operation
		option("output-format", "json"), option("eta", "never"),
	}
}

// A fioReport is what is of interest in the JSON that fio prints.
type fioReport struct {
	Jobs []struct {
		Error int     `json:"error"`
		Read  fioDone `json:"read"`
		Write fioDone `json:"write"`
	} `json:"jobs"`
}

// fioDone is what was done in a direction.
type fioDone struct {
	Operations int64 `json:"total_ios"`
	Runtime    int64 `json:"runtime"` // in milliseconds
}

func runFio(ctx context.Context, program string, arguments ...string) (fioReport, error) {
	text, err := command(ctx, program, arguments...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return fioReport{}, fmt.Errorf("fio: %w", err)
	}
	return parseFio(text)
}

func parseFio(text []byte) (report fioReport, err error) {
	if err := json.Unmarshal(text, &report); err != nil {
		return report, fmt.Errorf("what fio printed: %w", err)
	}
	if len(report.Jobs) != 1 {
		return report, errors.New("what fio printed has " + strconv.Itoa(len(report.Jobs)) + " jobs, want 1")
	}
	if code := report.Jobs[0].Error; code != 0 {
		return report, fmt.Errorf("fio: error %d", code)
	}
	return report, nil
}

// each returns how long an operation took, where all threads together do them one by one.
func (r fioReport) each(write bool) (time.Duration, error) {
	done := r.Jobs[0].Read
	if write {
		done = r.Jobs[0].Write
	}
	if done.Operations == 0 || done.Runtime == 0 {
		return 0, fmt.Errorf("fio did %d operations in %d ms", done.Operations, done.Runtime)
	}
	return time.Duration(done.Runtime) * time.Millisecond / time.Duration(done.Operations), nil
}
