package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/mmapio/mmapio"
)

type tourCmd struct {
	File string `arg:"" optional:"" name:"file" help:"A file to read. Without one, a file of 256 MiB is made and removed again."`
	jsonFlag
}

// tourResult is what a tour has found, as JSON.
type tourResult struct {
	File     string    `json:"file"`
	Size     int64     `json:"size_bytes"`
	OS       string    `json:"os"`
	Arch     string    `json:"arch"`
	CPUs     int       `json:"cpus"`
	Compared int64     `json:"compared_bytes"`
	SHA256   string    `json:"sha256"`
	Rounds   int       `json:"rounds"`
	Rows     []tourRow `json:"rows"`
}

// tourRow is a kind of work: medians of what one operation takes.
type tourRow struct {
	Name   string  `json:"name"`
	Bytes  int64   `json:"operation_bytes,omitempty"` // if it is about throughput
	OS     float64 `json:"os_seconds"`
	Mmapio float64 `json:"mmapio_seconds"`
	Faster float64 `json:"faster_ratio"`
}

// Help is what mmapio tour --help prints below the usage.
func (*tourCmd) Help() string {
	return "Opens the same file through mmapio and through os, side by side, checks that " +
		"both see the same bytes, and measures both. FILE is only read; writes and " +
		"appends are measured on files of the tour's own, in the temporary folder. It " +
		"takes less than 20 seconds."
}

// plan says how much a tour does.
type plan struct {
	size        int64         // of the file that is made when none is given
	scratchSize int64         // of the file for writes when one is given
	lookAt      int64         // at most that many bytes are compared and copied
	positions   int           // random positions that are compared
	rounds      int           // of which the first does not count
	slice       time.Duration // for one measurement
	appends     int           // at most that many in one measurement
}

var tourPlan = plan{
	size:        256 << 20,
	scratchSize: 64 << 20,
	lookAt:      256 << 20,
	positions:   10_000,
	rounds:      12,
	slice:       40 * time.Millisecond,
	appends:     200_000,
}

// Sizes of the single reads and writes.
const (
	accessSize = 64
	appendSize = 128
	copySize   = 64 << 20
	writeSpan  = 64 << 20 // of the writes in place
)

// Run makes the tour.
func (c *tourCmd) Run(ctx context.Context) (err error) {
	if c.File != "" {
		info, err := os.Stat(c.File)
		if err != nil {
			return err
		}
		if err := fitForTour(c.File, info); err != nil {
			return err
		}
	}
	outliveReader()
	folder, err := os.MkdirTemp("", "mmapio-tour-")
	if err != nil {
		return err
	}
	defer func() {
		removeErr := os.RemoveAll(folder)
		switch {
		case removeErr != nil && err != nil:
			err = fmt.Errorf("%w; the temporary files are left behind: %w", err, removeErr)
		case removeErr != nil:
			err = removeErr
		case err != nil:
			err = fmt.Errorf("%w; the temporary files were removed", err)
		}
	}()
	tour := tour{ctx: ctx, plan: tourPlan, folder: folder, file: c.File, json: c.JSON}
	return interrupted(ctx, tour.run())
}

// fitForTour returns an error if there is nothing to measure in the file.
func fitForTour(name string, info fs.FileInfo) error {
	reason := ""
	switch {
	case info.IsDir():
		return folderError("tour", name)
	case !info.Mode().IsRegular():
		reason = "is not a regular file"
	case info.Size() == 0:
		reason = "is empty: there is nothing to measure"
	default:
		return nil
	}
	return &fs.PathError{Op: "tour", Path: name, Err: errors.New(reason)}
}

// tour is one tour under way.
type tour struct {
	ctx    context.Context
	plan   plan
	folder string // of what it makes
	file   string // given by the user, or ""
	json   bool
	opened []io.Closer
}

// file is what os.File and mmapio.File have in common, as far as the tour uses it.
type file interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	Name() string
}

// pair is a file for each side. It is one file opened twice, except for appends,
// which need a file each.
type pair struct {
	os, mapped file
}

// openPair opens one file through os, the other through mmapio.
func (t *tour) openPair(osName, mappedName string, flag int, options ...mmapio.Option) (pair, error) {
	plain, err := os.OpenFile(osName, flag, 0o600)
	if err != nil {
		return pair{}, err
	}
	t.opened = append(t.opened, plain)
	mapped, err := mmapio.OpenFile(mappedName, flag, 0o600, options...)
	if err != nil {
		return pair{}, err
	}
	t.opened = append(t.opened, mapped)
	return pair{plain, mapped}, nil
}

// close closes what was opened.
func (t *tour) close() error {
	var errs []error
	for _, file := range t.opened {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

func (t *tour) run() (err error) {
	scratch := filepath.Join(t.folder, "data")
	name, scratchSize := t.file, t.plan.scratchSize
	if name == "" {
		name, scratchSize = scratch, t.plan.size
	}
	if err := t.make(scratch, scratchSize); err != nil {
		return err
	}
	defer func() {
		if closeErr := t.close(); err == nil {
			err = closeErr
		}
	}()
	read, err := t.openPair(name, name, os.O_RDONLY)
	if err != nil {
		return err
	}
	info, err := read.os.Stat()
	if err != nil {
		return err
	}
	if err := fitForTour(name, info); err != nil {
		return err
	}
	size := info.Size()

	err = t.say("%s, %s, on %s/%s with %d CPUs\n", name, byteCount(size), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if err != nil {
		return err
	}
	sum, err := t.compare(read, size)
	if err != nil {
		return err
	}
	looked := min(size, t.plan.lookAt)
	if err := t.say("Both see the same bytes: SHA-256 of %s is %x\n", byteCount(looked), sum); err != nil {
		return err
	}

	rows, err := t.rows(read, size, scratch, scratchSize)
	if err != nil {
		return err
	}
	if err := t.measure(rows); err != nil {
		return err
	}
	for _, row := range rows {
		if row.check == nil {
			continue
		}
		if err := row.check(); err != nil {
			return err
		}
	}
	if t.json {
		result := tourResult{File: t.file, Size: size, OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(),
			Compared: looked, SHA256: hex.EncodeToString(sum), Rounds: t.plan.rounds - 1}
		for _, row := range rows {
			result.Rows = append(result.Rows, tourRow{row.name, row.bytes, median(row.osTimes), median(row.mappedTimes), row.faster()})
		}
		return printJSON(result)
	}
	if err := printText("What one writes the other reads.\n\n"); err != nil {
		return err
	}
	if err := printRows(rows); err != nil {
		return err
	}
	return printText("\nMedians of %d rounds, both sides in turn.\n", t.plan.rounds-1)
}

// say prints text, unless JSON is wanted.
func (t *tour) say(format string, arguments ...any) error {
	if t.json {
		return nil
	}
	return printText(format, arguments...)
}

// make writes a file of random bytes, through mmapio.
func (t *tour) make(name string, size int64) (err error) {
	bar := byteProgress("making a file", size)
	defer bar.end()
	file, err := mmapio.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	random := rand.NewChaCha8([32]byte{})
	block := make([]byte, 1<<20)
	for size > 0 {
		if err := interrupted(t.ctx, nil); err != nil {
			return err
		}
		block = block[:min(size, int64(len(block)))]
		random.Read(block)
		if _, err := file.Write(block); err != nil {
			return err
		}
		size -= int64(len(block))
		bar.add(int64(len(block)))
	}
	return nil
}

// compare reads the file through both sides, in sequence and at random positions,
// and returns the SHA-256 of what it read in sequence.
func (t *tour) compare(files pair, size int64) ([]byte, error) {
	looked := min(size, t.plan.lookAt)
	bar := byteProgress("comparing", 2*looked)
	defer bar.end()
	var wait sync.WaitGroup
	var sums [2][]byte
	var errs [2]error
	for i, file := range []file{files.os, files.mapped} {
		wait.Go(func() {
			sha := &stoppableHash{sha256.New(), t.ctx, func(b []byte) { bar.add(int64(len(b))) }}
			_, errs[i] = io.Copy(sha, io.LimitReader(file, looked))
			sums[i] = sha.Sum(nil)
		})
	}
	wait.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if !bytes.Equal(sums[0], sums[1]) {
		return nil, fmt.Errorf("%s: SHA-256 is %x through os and %x through mmapio", files.os.Name(), sums[0], sums[1])
	}
	return sums[0], t.comparePositions(files, size)
}

// comparePositions reads pieces of random length at random positions through both
// sides, some of them across the end of the file.
func (t *tour) comparePositions(files pair, size int64) error {
	var a, b [4 << 10]byte
	var random walk
	for range t.plan.positions {
		if err := interrupted(t.ctx, nil); err != nil {
			return err
		}
		off, n := random.next(size), random.next(int64(len(a)))+1
		aN, aErr := files.os.ReadAt(a[:n], off)
		bN, bErr := files.mapped.ReadAt(b[:n], off)
		if aErr != nil && aErr != io.EOF {
			return aErr
		}
		if aN != bN || aErr != bErr || !bytes.Equal(a[:aN], b[:bN]) {
			return fmt.Errorf("%s: reading %d bytes at offset %d, os and mmapio differ (%d bytes, %v; %d bytes, %v)",
				files.os.Name(), n, off, aN, aErr, bN, bErr)
		}
	}
	return nil
}

// row is one line of the table: a kind of work and what it took.
type row struct {
	name       string
	bytes      int64 // of one operation, if the row is about throughput; else 0
	limit      int   // operations in one measurement; 0 means as many as there is time for
	os, mapped work
	warm       func() error // before all measurements, or nil
	check      func() error // looks at the result at the end, or nil

	osTimes, mappedTimes []float64 // seconds for one operation, by round
}

// work is a kind of work through one side.
type work struct {
	reset func() error // before each measurement, or nil
	do    func(operations int) error
}

// rows returns what is measured: reads of the files read, writes to files of the
// tour's own.
func (t *tour) rows(read pair, size int64, scratch string, scratchSize int64) ([]*row, error) {
	write, err := t.openPair(scratch, scratch, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	written := min(scratchSize, writeSpan)
	copied := min(size, copySize)
	osCopy, mappedCopy := t.newCopies(read.os, size-copied), t.newCopies(read.mapped, size-copied)
	rows := []*row{
		{
			name:   fmt.Sprintf("random reads of %d B", accessSize),
			os:     randomReads(read.os, size, 1),
			mapped: randomReads(read.mapped, size, 2),
		},
		{
			name:   fmt.Sprintf("sequential reads of %d B", accessSize),
			os:     sequentialReads(read.os),
			mapped: sequentialReads(read.mapped),
		},
		{
			name:   fmt.Sprintf("random writes of %d B, warm", accessSize),
			os:     randomWrites(write.os, written, 3),
			mapped: randomWrites(write.mapped, written, 4),
			warm:   func() error { return t.dirty(write, written) },
			check:  func() error { return t.comparePositions(write, scratchSize) },
		},
		{
			name:   "io.Copy to a CRC-32C",
			bytes:  copied,
			os:     work{do: osCopy.do},
			mapped: work{do: mappedCopy.do},
			check: func() error {
				// Somebody may have added to the file in between.
				if osCopy.n == mappedCopy.n && osCopy.sum != mappedCopy.sum {
					return fmt.Errorf("%s: CRC-32C is %08x through os and %08x through mmapio", read.os.Name(), osCopy.sum, mappedCopy.sum)
				}
				return nil
			},
		},
	}
	for _, kind := range []struct {
		row, file string
		options   []mmapio.Option
	}{
		{row: fmt.Sprintf("appends of %d B", appendSize), file: "log"},
		{row: "the same, preallocated", file: "preallocated", options: []mmapio.Option{mmapio.WithPreallocate(16 << 20)}},
	} {
		path := filepath.Join(t.folder, kind.file)
		files, err := t.openPair(path+"-os", path+"-mmapio", os.O_RDWR|os.O_CREATE|os.O_EXCL, kind.options...)
		if err != nil {
			return nil, err
		}
		osLog, mappedLog := &log{file: files.os}, &log{file: files.mapped}
		rows = append(rows, &row{
			name:   kind.row,
			limit:  t.plan.appends,
			os:     work{osLog.reset, osLog.do},
			mapped: work{mappedLog.reset, mappedLog.do},
			check:  func() error { return errors.Join(osLog.check(), mappedLog.check()) },
		})
	}
	return rows, nil
}

func randomReads(f file, size int64, seed walk) work {
	buffer := make([]byte, min(accessSize, size))
	last := size - int64(len(buffer))
	return work{do: func(operations int) error {
		for range operations {
			if _, err := f.ReadAt(buffer, seed.next(last+1)); err != nil {
				return cut(f, err)
			}
		}
		return nil
	}}
}

func sequentialReads(f file) work {
	buffer := make([]byte, accessSize)
	return work{do: func(operations int) error {
		for range operations {
			_, err := f.Read(buffer)
			if err == io.EOF {
				_, err = f.Seek(0, io.SeekStart)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

func randomWrites(f file, size int64, seed walk) work {
	buffer := make([]byte, min(accessSize, size))
	last := size - int64(len(buffer))
	return work{do: func(operations int) error {
		for range operations {
			off := seed.next(last + 1)
			buffer[0] = byte(off)
			if _, err := f.WriteAt(buffer, off); err != nil {
				return err
			}
		}
		return nil
	}}
}

// dirty changes every page of the file through both sides, so that it is not the
// first write to a page that is measured: that one makes the file system work.
func (t *tour) dirty(files pair, size int64) error {
	for range 2 {
		for off := int64(0); off < size; off += int64(os.Getpagesize()) {
			for _, file := range []file{files.os, files.mapped} {
				if _, err := file.WriteAt([]byte{1}, off); err != nil {
					return err
				}
			}
			if err := interrupted(t.ctx, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// cut explains the end of the file at a place where there were bytes before.
func cut(f file, err error) error {
	if err == io.EOF {
		return fmt.Errorf("%s has become shorter during the tour", f.Name())
	}
	return err
}

// copies is the work of copying the end of a file to a hash.
type copies struct {
	ctx  context.Context
	file file
	from int64

	// The last result.
	n   int64
	sum uint32
}

func (t *tour) newCopies(f file, from int64) *copies {
	return &copies{ctx: t.ctx, file: f, from: from}
}

func (c *copies) do(operations int) error {
	for range operations {
		if _, err := c.file.Seek(c.from, io.SeekStart); err != nil {
			return err
		}
		crc := crc32.New(castagnoli)
		n, err := io.Copy(&stoppableHash{Hash: crc, ctx: c.ctx}, c.file)
		if err != nil {
			return err
		}
		c.n, c.sum = n, crc.Sum32()
	}
	return nil
}

// log is the work of appending numbered records to a file.
type log struct {
	file    file
	records uint64
	record  [appendSize]byte
}

func (l *log) reset() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.Seek(0, io.SeekStart)
	l.records = 0
	return err
}

func (l *log) do(operations int) error {
	for range operations {
		binary.LittleEndian.PutUint64(l.record[:], l.records)
		if _, err := l.file.Write(l.record[:]); err != nil {
			return err
		}
		l.records++
	}
	return nil
}

// check reads the file through another descriptor and looks for the records.
func (l *log) check() error {
	if _, err := l.file.Stat(); err != nil { // cuts off what is preallocated
		return err
	}
	content, err := os.ReadFile(l.file.Name())
	if err != nil {
		return err
	}
	if uint64(len(content)) != l.records*appendSize {
		return fmt.Errorf("%s has %d bytes instead of %d records of %d", l.file.Name(), len(content), l.records, appendSize)
	}
	for i := range l.records {
		if got := binary.LittleEndian.Uint64(content[i*appendSize:]); got != i {
			return fmt.Errorf("%s has record %d where record %d belongs", l.file.Name(), got, i)
		}
	}
	return nil
}

// measure fills in the times of the rows: a round at a time, one side after the
// other, each being first in turn.
func (t *tour) measure(rows []*row) error {
	bar := stepProgress("measuring", int64(t.plan.rounds*len(rows)))
	defer bar.end()
	for _, row := range rows {
		if row.warm == nil {
			continue
		}
		if err := row.warm(); err != nil {
			return err
		}
	}
	for round := range t.plan.rounds {
		for _, row := range rows {
			sides := []struct {
				work  work
				times *[]float64
			}{{row.os, &row.osTimes}, {row.mapped, &row.mappedTimes}}
			if round%2 == 1 {
				slices.Reverse(sides)
			}
			for _, side := range sides {
				seconds, err := t.time(side.work, row.limit)
				if err != nil {
					return err
				}
				if round > 0 { // the first warms up
					*side.times = append(*side.times, seconds)
				}
			}
			bar.add(1)
		}
	}
	return nil
}

// time returns how many seconds an operation takes. It does as many as fit into
// the time for one measurement, but not more than limit.
func (t *tour) time(w work, limit int) (float64, error) {
	if w.reset != nil {
		if err := w.reset(); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	for done, batch := 0, 1; ; {
		if err := interrupted(t.ctx, nil); err != nil {
			return 0, err
		}
		if limit > 0 {
			batch = min(batch, limit-done)
		}
		before := time.Since(start)
		if err := w.do(batch); err != nil {
			return 0, err
		}
		done += batch
		now := time.Since(start)
		if now >= t.plan.slice || done == limit {
			return now.Seconds() / float64(done), nil
		}
		if now-before < t.plan.slice/16 { // the clock is not for free
			batch *= 2
		}
	}
}

// printRows prints the table.
func printRows(rows []*row) error {
	const format = "%-32s %12s %12s %8s\n"
	err := printText(format, "", "os.File", "mmapio.File", "faster")
	for _, row := range rows {
		if err == nil {
			err = printText(format, row.name, row.format(median(row.osTimes)), row.format(median(row.mappedTimes)),
				fmt.Sprintf("%.2f x", row.faster()))
		}
	}
	return err
}

// faster returns how many times the speed of os.File that of mmapio.File is.
func (r *row) faster() float64 {
	ratios := make([]float64, len(r.osTimes))
	for i := range ratios {
		ratios[i] = r.osTimes[i] / r.mappedTimes[i]
	}
	return median(ratios)
}

// format returns the time of one operation as the table shows it.
func (r *row) format(seconds float64) string {
	if r.bytes > 0 {
		return byteCount(int64(float64(r.bytes)/seconds)) + "/s"
	}
	if seconds < 10e-6 {
		return fmt.Sprintf("%.0f ns", seconds*1e9)
	}
	return fmt.Sprintf("%.0f us", seconds*1e6)
}

// median returns the middle one of the values, or the mean of the middle two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// byteCount returns n in the unit that suits it.
func byteCount(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if value >= 100 || value == float64(int64(value)) {
		return fmt.Sprintf("%.0f %s", value, units[unit])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// walk is a sequence of random numbers that takes next to no time.
type walk uint64

// next returns a number from 0 to n-1.
func (w *walk) next(n int64) int64 {
	// A step of SplitMix64.
	*w += 0x9e3779b97f4a7c15
	z := uint64(*w)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	hi, _ := bits.Mul64(z^z>>31, uint64(n))
	return int64(hi)
}
