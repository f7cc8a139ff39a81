// Command regression compares the speed of two builds of the package. It is built once
// with each of them; one of the programs is told to start both, which then take turns
// of a few milliseconds at the same piece of work. What counts is the median over the
// rounds of how much longer the new one took in the same round, so whatever else the
// machine does meanwhile slows both.
//
// Work that has lost more than a quarter of its speed is repeated by new processes, with
// more rounds, and is a failure if it has lost that each time: the same program can be
// faster or slower from one start to the next, because of where its memory lies.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mmapio/mmapio"
)

const (
	turn       = 5 * time.Millisecond
	rounds     = 31
	allowed    = 0.75 // of the speed of before
	repeats    = 3
	moreRounds = 2 * rounds
)

func main() {
	old := flag.String("old", "", "`program` built with the commit before")
	new := flag.String("new", "", "`program` built with the change")
	worker := flag.String("work", "", "take turns, on files in this `folder`")
	flag.Parse()
	var err error
	if *worker != "" {
		err = work(*worker, os.Stdin, os.Stdout)
	} else {
		err = compare([2]string{*old, *new})
	}
	if err != nil {
		fmt.Println("regression:", err)
		os.Exit(1)
	}
}

// row is a piece of work.
type row struct {
	name    string
	size    int64 // of the file it works on
	options []mmapio.Option
	times   int // as many rounds, where the disk makes them uneven
	// start prepares the work and returns what does it n times. The error is a skipped
	// where the work cannot be done on this machine.
	start func(f *mmapio.File) (func(n int) error, error)
}

// skipped is why a row is left out.
type skipped string

func (reason skipped) Error() string { return string(reason) }

const (
	small = 1 << 20
	large = 16 << 20
)

var rows = []row{
	{name: "ReadAt 64 B, one page", size: small, start: readAt(64, 4096)},
	{name: "ReadAt 64 B, random", size: large, start: readAt(64, large-64)},
	{name: "ReadAt 64 B, two goroutines", size: large, start: together(readAt(64, large-64))},
	{name: "ReadAt 4 KiB, random", size: large, start: readAt(4096, large-4096)},
	{name: "ReadAt 64 KiB, random", size: large, start: readAt(64<<10, large-64<<10)},
	{name: "ReadAt 64 B, not mapped", size: small, options: []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}, start: readAt(64, small-64)},
	{name: "WriteAt 64 B, random", size: large, start: writeAt(64, large-64)},
	{name: "WriteAt 4 KiB, random", size: large, start: writeAt(4096, large-4096)},
	{name: "Read 64 B in sequence", size: small, start: sequence((*mmapio.File).Read)},
	{name: "Write 64 B in sequence", size: small, start: sequence((*mmapio.File).Write)},
	{name: "io.Copy of 1 MiB to a CRC-32C", size: small, start: copied},
	{name: "append 128 B", start: appended},
	{name: "append 128 B, preallocated", options: []mmapio.Option{mmapio.WithPreallocate(1 << 20)}, start: appended},
	{name: "open, read 4 KiB, close", size: small, start: opened},
	{name: "grow by 1 MiB, write and read there", start: grown},
	{name: "View of 64 B, Release", size: small, start: viewed},
	{name: "View mapped alone, Release", size: small, options: []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}, start: viewed},
	{name: "Chunks of 4 KiB", size: large, start: chunked},
	{name: "private WriteAt 64 B", size: small, options: []mmapio.Option{mmapio.WithCopyOnWrite()}, start: writeAt(64, small-64)},
	{name: "open copy-on-write, write 64 B, close", size: small, start: openedPrivate},
	{name: "Advise 4 KiB", size: small, start: advised},
	{name: "Advise 4 KiB of a View", size: small, start: advisedView},
	{name: "WriteAt 64 B, Flush", size: small, times: 4, start: flushed},
	{name: "ReadAt 4 KiB, cold, 8 goroutines", size: large, times: 2, start: cold},
}

// readAt and writeAt work at offsets up to most, the same on both sides.
func readAt(length int, most int64) func(*mmapio.File) (func(int) error, error) {
	return at((*mmapio.File).ReadAt, length, most)
}

func writeAt(length int, most int64) func(*mmapio.File) (func(int) error, error) {
	return at((*mmapio.File).WriteAt, length, most)
}

func at(call func(*mmapio.File, []byte, int64) (int, error), length int, most int64) func(*mmapio.File) (func(int) error, error) {
	return func(f *mmapio.File) (func(int) error, error) {
		b := make([]byte, length)
		random := rand.New(rand.NewPCG(1, 2))
		offsets := make([]int64, 4096)
		for i := range offsets {
			offsets[i] = random.Int64N(most)
		}
		next := 0
		return func(n int) error {
			for range n {
				if _, err := call(f, b, offsets[next]); err != nil {
					return err
				}
				next = (next + 1) % len(offsets)
			}
			return nil
		}, nil
	}
}

// together shares the work between two goroutines, which is no faster where they wait for each
// other.
func together(start func(*mmapio.File) (func(int) error, error)) func(*mmapio.File) (func(int) error, error) {
	return func(f *mmapio.File) (func(int) error, error) {
		var do [2]func(int) error
		for i := range do {
			var err error
			if do[i], err = start(f); err != nil {
				return nil, err
			}
		}
		return func(n int) error {
			other := make(chan error, 1)
			go func() { other <- do[1](n / 2) }()
			return errors.Join(do[0](n-n/2), <-other)
		}, nil
	}
}

func copied(f *mmapio.File) (func(int) error, error) {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	return func(n int) error {
		for range n {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if _, err := io.Copy(sum, f); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func sequence(call func(*mmapio.File, []byte) (int, error)) func(*mmapio.File) (func(int) error, error) {
	return func(f *mmapio.File) (func(int) error, error) {
		b := make([]byte, 64)
		left := 0
		return func(n int) error {
			for range n {
				if left == 0 {
					if _, err := f.Seek(0, io.SeekStart); err != nil {
						return err
					}
					left = small / len(b)
				}
				if _, err := call(f, b); err != nil {
					return err
				}
				left--
			}
			return nil
		}, nil
	}
}

func appended(f *mmapio.File) (func(int) error, error) {
	b := make([]byte, 128)
	size := 0
	return func(n int) error {
		for range n {
			if _, err := f.Write(b); err != nil {
				return err
			}
			if size += len(b); size < 8<<20 {
				continue
			}
			size = 0
			if err := f.Truncate(0); err != nil {
				return err
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func opened(f *mmapio.File) (func(int) error, error) {
	b := make([]byte, 4096)
	return func(n int) error {
		for range n {
			f, err := mmapio.Open(f.Name())
			if err != nil {
				return err
			}
			if _, err := f.ReadAt(b, 0); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func grown(f *mmapio.File) (func(int) error, error) {
	b := make([]byte, 64)
	var size int64
	return func(n int) error {
		for range n {
			if size == 64<<20 {
				size = 0
				if err := f.Truncate(0); err != nil {
					return err
				}
			}
			size += 1 << 20
			if err := f.Truncate(size); err != nil {
				return err
			}
			if _, err := f.WriteAt(b, size-4096); err != nil {
				return err
			}
			if _, err := f.ReadAt(b, size-4096); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func viewed(f *mmapio.File) (func(int) error, error) {
	return func(n int) error {
		for range n {
			v, err := f.View(4096, 64)
			if err != nil {
				return err
			}
			v.Release()
		}
		return nil
	}, nil
}

func chunked(f *mmapio.File) (func(int) error, error) {
	return func(n int) error {
		for n > 0 {
			chunks := f.Chunks(4096)
			for range chunks.All() {
				if n--; n == 0 {
					break
				}
			}
			if err := chunks.Err(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func openedPrivate(f *mmapio.File) (func(int) error, error) {
	b := make([]byte, 64)
	return func(n int) error {
		for range n {
			f, err := mmapio.OpenFile(f.Name(), os.O_RDWR, 0, mmapio.WithCopyOnWrite())
			if err != nil {
				return err
			}
			if _, err := f.WriteAt(b, 4096); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// advised asks for what is in memory already, so nothing is read.
func advised(f *mmapio.File) (func(int) error, error) {
	if err := f.Prefault(0, small); err != nil {
		return nil, err
	}
	return advise(f.Advise), nil
}

func advisedView(f *mmapio.File) (func(int) error, error) {
	v, err := f.View(0, small)
	if err != nil {
		return nil, err
	}
	if err := v.Prefault(0, small); err != nil {
		return nil, err
	}
	return advise(v.Advise), nil
}

func advise(call func(off, n int64, advice mmapio.Advice) error) func(int) error {
	var off int64
	return func(n int) error {
		for range n {
			if err := call(off, 4096, mmapio.AdviceWillNeed); err != nil {
				return err
			}
			off = (off + 4096) % small
		}
		return nil
	}
}

// flushed flushes after each small write, somewhere in the file.
func flushed(f *mmapio.File) (func(int) error, error) {
	write, err := writeAt(64, small-64)(f)
	if err != nil {
		return nil, err
	}
	return func(n int) error {
		for range n {
			if err := write(1); err != nil {
				return err
			}
			if err := f.Flush(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// cold reads pages that are not in memory, each of them once before all are evicted again.
func cold(f *mmapio.File) (func(int) error, error) {
	const readers, page = 8, 4096
	if runtime.GOOS != "linux" {
		return nil, skipped("only Linux takes pages out of memory when it is told to")
	}
	evict := func() error { return f.Advise(0, math.MaxInt64, mmapio.AdviceDontNeed) }
	if err := errors.Join(f.Sync(), f.Advise(0, math.MaxInt64, mmapio.AdviceRandom), evict()); err != nil {
		return nil, err
	}
	left, err := f.Resident(0, large)
	if err != nil {
		return nil, skipped(err.Error())
	}
	if left.Bytes() > large/16 {
		return nil, skipped("the file system keeps files in memory")
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(large / page)
	var buffers [readers][page]byte
	return func(n int) error {
		for n > 0 {
			if err := evict(); err != nil {
				return err
			}
			some := order[:min(n, len(order))]
			n -= len(some)
			done := make(chan error, readers)
			for reader := range readers {
				go func() {
					for i := reader; i < len(some); i += readers {
						if _, err := f.ReadAt(buffers[reader][:], int64(some[i])*page); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			var err error
			for range readers {
				err = errors.Join(err, <-done)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// work does what it is told in lines "row n", and answers with nanoseconds, or why the row is
// left out.
func work(dir string, in io.Reader, out io.Writer) error {
	running := make([]func(int) error, len(rows))
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var index, n int
		if _, err := fmt.Sscan(lines.Text(), &index, &n); err != nil {
			return err
		}
		if running[index] == nil {
			do, err := begin(dir, rows[index])
			if reason, ok := errors.AsType[skipped](err); ok {
				if _, err := fmt.Fprintln(out, skipping+string(reason)); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", rows[index].name, err)
			}
			running[index] = do
		}
		start := time.Now()
		if err := running[index](n); err != nil {
			return fmt.Errorf("%s: %w", rows[index].name, err)
		}
		if _, err := fmt.Fprintln(out, time.Since(start).Nanoseconds()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// skipping is in front of the reason, where a row is left out.
const skipping = "skipped: "

// begin opens a file for the row. It stays open until the process ends.
func begin(dir string, r row) (func(int) error, error) {
	name := filepath.Join(dir, strings.ReplaceAll(r.name, " ", "-"))
	if err := os.WriteFile(name, make([]byte, r.size), 0o666); err != nil {
		return nil, err
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, r.options...)
	if err != nil {
		return nil, err
	}
	return r.start(f)
}

// side is a process that takes turns.
type side struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	dir     string
}

func startSide(program string) (*side, error) {
	dir, err := os.MkdirTemp("", "regression")
	if err != nil {
		return nil, err
	}
	s := &side{process: exec.Command(program, "-work", dir), dir: dir}
	s.process.Stderr = os.Stderr
	in, inErr := s.process.StdinPipe()
	out, outErr := s.process.StdoutPipe()
	if inErr != nil || outErr != nil {
		return nil, fmt.Errorf("no pipes: %v, %v", inErr, outErr)
	}
	s.in, s.out = in, bufio.NewReader(out)
	return s, s.process.Start()
}

// take has the side do work n times.
func (s *side) take(row, n int) (time.Duration, error) {
	if _, err := fmt.Fprintln(s.in, row, n); err != nil {
		return 0, err
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("%s%w", line, err)
	}
	if reason, ok := strings.CutPrefix(line, skipping); ok {
		return 0, skipped(strings.TrimSpace(reason))
	}
	var took time.Duration
	if _, err := fmt.Sscan(line, &took); err != nil {
		rest, _ := io.ReadAll(s.out)
		return 0, fmt.Errorf("%s%s", line, rest)
	}
	return took, nil
}

func (s *side) end() {
	s.in.Close()
	s.process.Wait()
	os.RemoveAll(s.dir)
}

// measured is how the speed of the new side is to that of the old one.
type measured struct {
	median, low, high float64 // the quartiles are low and high
	took              time.Duration
}

// measure has two new processes take turns at the chosen rows. Rows that are left out are
// not in the result.
func measure(programs [2]string, chosen []int, rounds int) (map[int]measured, error) {
	var sides [2]*side
	for i, program := range programs {
		s, err := startSide(program)
		if err != nil {
			return nil, err
		}
		defer s.end()
		sides[i] = s
	}
	results := make(map[int]measured)
	for _, index := range chosen {
		n, err := enough(sides, index)
		if reason, ok := errors.AsType[skipped](err); ok {
			fmt.Printf("%-38s skipped: %s\n", rows[index].name, reason)
			continue
		}
		if err != nil {
			return nil, err
		}
		var speeds []float64
		var total time.Duration
		rounds := rounds * max(rows[index].times, 1)
		for range rounds {
			var took [2]time.Duration
			for _, turn := range [...]int{0, 1, 1, 0} { // what one leaves in the caches helps both
				one, err := sides[turn].take(index, n)
				if err != nil {
					return nil, err
				}
				took[turn] += one
			}
			speeds = append(speeds, float64(took[0])/float64(max(took[1], 1)))
			total += took[1]
		}
		slices.Sort(speeds)
		results[index] = measured{
			speeds[len(speeds)/2], speeds[len(speeds)/4], speeds[3*len(speeds)/4],
			total / time.Duration(2*n*rounds),
		}
	}
	return results, nil
}

// enough returns how often a row is to be done in a turn. The first times are also what makes
// a File mapped.
func enough(sides [2]*side, index int) (n int, err error) {
	for n = 1; n < 1<<24; n *= 2 {
		for _, s := range sides {
			if _, err := s.take(index, max(n, 100)); err != nil {
				return 0, err
			}
		}
		took, err := sides[0].take(index, n)
		if err != nil {
			return 0, err
		}
		if took >= turn/2 {
			break
		}
	}
	return n, nil
}

func compare(programs [2]string) error {
	all := make([]int, len(rows))
	for i := range all {
		all[i] = i
	}
	results, err := measure(programs, all, rounds)
	if err != nil {
		return err
	}
	var slow []int
	compared := len(results)
	fmt.Printf("%-38s speed (middle half of %d rounds)\n", "", rounds)
	for i, r := range rows {
		result, ok := results[i]
		if !ok {
			continue
		}
		fmt.Printf("%-38s %.2f x (%.2f to %.2f), %v\n", r.name, result.median, result.low, result.high, result.took)
		if result.median < allowed {
			slow = append(slow, i)
		}
	}
	for repeat := range repeats {
		if len(slow) == 0 {
			break
		}
		if results, err = measure(programs, slow, moreRounds); err != nil {
			return err
		}
		slow = slices.DeleteFunc(slow, func(i int) bool {
			result, ok := results[i]
			if !ok {
				fmt.Printf("repeated, %d: %-25s skipped: it cannot be measured now\n", repeat+1, rows[i].name)
				return true
			}
			fmt.Printf("repeated, %d: %-25s %.2f x (%.2f to %.2f)\n", repeat+1, rows[i].name, result.median, result.low, result.high)
			return result.median >= allowed
		})
	}
	if len(slow) != 0 {
		var names []string
		for _, i := range slow {
			names = append(names, rows[i].name)
		}
		return fmt.Errorf("more than a quarter of the speed is lost in: %s", strings.Join(names, "; "))
	}
	fmt.Printf("%d rows, none has lost more than a quarter of its speed\n", compared)
	return nil
}
