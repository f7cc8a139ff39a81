package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// A View that cannot be stored to flushes as its File does: an error stays.
func TestFlushOfReadOnlyView(t *testing.T) {
	needMappings(t)
	disk := watchDisk(t)
	f, err := mmapio.OpenFile(newFilled(t, 10_000, 1), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := f.View(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if err := v.Flush(); err != nil || disk.flushes.Load() != 1 {
		t.Errorf("%v, after %d flushes", err, disk.flushes.Load())
	}
	disk.breakDown(syscall.EIO)
	if err := v.Flush(); !isPathError(err, "flush", syscall.EIO) {
		t.Errorf("on a broken disk: %v", err)
	}
	disk.mend()
	if err := f.Flush(); !isPathError(err, "flush", syscall.EIO) {
		t.Errorf("Flush of the File after that: %v", err)
	}
}

// diskCalls counts the calls that make bytes durable, and can make them fail.
type diskCalls struct {
	flushes, ranges, syncs, starts atomic.Int64
	fail                           atomic.Pointer[error] // of all of them
	hold                           atomic.Pointer[func()]
}

// watchDisk counts until the test ends.
func watchDisk(t testing.TB) *diskCalls {
	d := new(diskCalls)
	restore := mmapio.Intercept(func(name string) error {
		switch name {
		case "datasync":
			d.flushes.Add(1)
			if hold := d.hold.Load(); hold != nil {
				(*hold)()
			}
		case "writeBack":
			d.ranges.Add(1)
		case "sync":
			d.syncs.Add(1)
		case "startFlush":
			d.starts.Add(1)
		default:
			return nil
		}
		if err := d.fail.Load(); err != nil {
			if name == "sync" {
				return &fs.PathError{Op: "sync", Path: "file", Err: *err} // as os.File.Sync has it
			}
			return *err
		}
		return nil
	})
	t.Cleanup(restore)
	return d
}

func (d *diskCalls) breakDown(err error) { d.fail.Store(&err) }

func (d *diskCalls) mend() { d.fail.Store(nil) }

// expect compares the number of flushes since the last call.
func (d *diskCalls) expect(t testing.TB, what string, want int64) {
	t.Helper()
	if got := d.flushes.Swap(0); got != want {
		t.Errorf("%s: %d flushes, want %d", what, got, want)
	}
}

var badPolicies = []mmapio.FlushPolicy{
	mmapio.EveryBytes(0), mmapio.EveryBytes(-1), mmapio.EveryWrites(0), mmapio.EveryWrites(-1 << 63),
	mmapio.Every(0), mmapio.Every(-time.Second),
	mmapio.Always().Or(mmapio.Every(0)),
	mmapio.EveryBytes(10).Or(mmapio.EveryBytes(0)),
	mmapio.EveryWrites(-2).Or(mmapio.EveryWrites(7)),
}

// A policy that cannot be is an error before anything is changed.
func TestBadPolicies(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("content"), 0o666); err != nil {
		t.Fatal(err)
	}
	inner, err := os.OpenFile(old, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	for _, policy := range badPolicies {
		option := mmapio.WithFlushPolicy(policy)
		for name, open := range map[string]func() (*mmapio.File, error){
			"Open":     func() (*mmapio.File, error) { return mmapio.Open(old, option) },
			"Create":   func() (*mmapio.File, error) { return mmapio.Create(old, option) },
			"OpenFile": func() (*mmapio.File, error) { return mmapio.OpenFile(old, os.O_RDWR|os.O_TRUNC, 0, option) },
			"OpenFile, new": func() (*mmapio.File, error) {
				return mmapio.OpenFile(filepath.Join(dir, "new"), os.O_RDWR|os.O_CREATE, 0o666, option)
			},
			"CreateTemp": func() (*mmapio.File, error) { return mmapio.CreateTemp(dir, "new", option) },
			"OpenInRoot": func() (*mmapio.File, error) { return mmapio.OpenInRoot(dir, "old", option) },
			"FromFile":   func() (*mmapio.File, error) { return mmapio.FromFile(inner, option) },
		} {
			f, err := open()
			if f != nil || !errors.Is(err, os.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "must be positive") {
				t.Errorf("%s with %v: %v, %v", name, policy, f, err)
			}
			if _, ok := errors.AsType[*fs.PathError](err); !ok {
				t.Errorf("%s with %v: %T", name, policy, err)
			}
		}
		if f := mmapio.NewFile(inner.Fd(), "old", option); f != nil {
			t.Errorf("NewFile with %v: no nil", policy)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files: %v, %v", entries, err)
	}
	if b, err := os.ReadFile(old); string(b) != "content" || err != nil {
		t.Errorf("content: %q, %v", b, err)
	}
}

func TestPolicyValues(t *testing.T) {
	for _, row := range []struct {
		policy mmapio.FlushPolicy
		text   string
	}{
		{mmapio.FlushPolicy{}, "manual"},
		{mmapio.Manual(), "manual"},
		{mmapio.Always(), "always"},
		{mmapio.EveryBytes(4096), "every 4096 bytes"},
		{mmapio.EveryWrites(3), "every 3 writes"},
		{mmapio.Every(time.Second), "every 1s"},
		{mmapio.Manual().Or(mmapio.Always()), "always"},
		{mmapio.EveryBytes(1 << 20).Or(mmapio.Every(time.Second)), "every 1048576 bytes or every 1s"},
		{mmapio.EveryBytes(5).Or(mmapio.EveryBytes(4)), "every 4 bytes"},
		{mmapio.Every(5).Or(mmapio.EveryWrites(2)).Or(mmapio.Every(9)).Or(mmapio.EveryWrites(4)), "every 2 writes or every 5ns"},
	} {
		if got := row.policy.String(); got != row.text {
			t.Errorf("%q, want %q", got, row.text)
		}
	}
	if mmapio.Manual() != (mmapio.FlushPolicy{}) {
		t.Error("the zero value is not Manual")
	}
	if mmapio.Always().Or(mmapio.EveryWrites(2)) != mmapio.EveryWrites(2).Or(mmapio.Always()) {
		t.Error("Or is not symmetric")
	}
	var none *mmapio.File
	if none.FlushPolicy() != mmapio.Manual() || none.Pending() != 0 {
		t.Error("a nil File has a policy")
	}
}

// duplicate returns another descriptor for the same open file.
var duplicate = func(*mmapio.File) (uintptr, error) { return 0, errors.ErrUnsupported }

// Files from every constructor flush, and those opened for reading have nothing to flush.
func TestPolicyOnEveryConstructor(t *testing.T) {
	disk := watchDisk(t)
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, make([]byte, 1000), 0o666); err != nil {
		t.Fatal(err)
	}
	policy := mmapio.Always().Or(mmapio.EveryBytes(1 << 40))
	option := mmapio.WithFlushPolicy(policy)
	inner := func() *os.File {
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	byDescriptor := func() (*mmapio.File, error) {
		file, err := mmapio.FromFile(inner())
		if err != nil {
			return nil, err
		}
		fd, err := duplicate(file)
		if closeErr := file.Close(); err != nil || closeErr != nil {
			return nil, errors.Join(err, closeErr)
		}
		return mmapio.NewFile(fd, "file", option), nil
	}
	for _, row := range []struct {
		name     string
		open     func() (*mmapio.File, error)
		readOnly bool
	}{
		{"Open", func() (*mmapio.File, error) { return mmapio.Open(name, option) }, true},
		{"OpenInRoot", func() (*mmapio.File, error) { return mmapio.OpenInRoot(dir, "file", option) }, true},
		{"Create", func() (*mmapio.File, error) { return mmapio.Create(name, option) }, false},
		{"OpenFile", func() (*mmapio.File, error) { return mmapio.OpenFile(name, os.O_RDWR, 0, option) }, false},
		{"OpenFile, only to write", func() (*mmapio.File, error) { return mmapio.OpenFile(name, os.O_WRONLY, 0, option) }, false},
		{"OpenFile, to append", func() (*mmapio.File, error) {
			return mmapio.OpenFile(name, os.O_RDWR|os.O_APPEND, 0, option)
		}, false},
		{"OpenFileInRoot", func() (*mmapio.File, error) {
			root, err := os.OpenRoot(dir)
			if err != nil {
				return nil, err
			}
			defer root.Close()
			return mmapio.OpenFileInRoot(root, "file", os.O_RDWR, 0, option)
		}, false},
		{"Anonymous", func() (*mmapio.File, error) { return mmapio.Anonymous(1000, option) }, false},
		{"CreateTemp", func() (*mmapio.File, error) { return mmapio.CreateTemp(dir, "", option) }, false},
		{"FromFile", func() (*mmapio.File, error) { return mmapio.FromFile(inner(), option) }, false},
		{"NewFile", byDescriptor, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			f, err := row.open()
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil || f == nil {
				t.Fatal(f, err)
			}
			defer f.Close()
			if got := f.FlushPolicy(); got != policy {
				t.Errorf("policy %v", got)
			}
			disk.expect(t, "opened", 0)
			n, err := f.Write([]byte("x"))
			if (err == nil) == row.readOnly || n != 1 && !row.readOnly {
				t.Errorf("Write: %d, %v", n, err)
			}
			want := int64(1)
			if row.readOnly {
				want = 0
			}
			disk.expect(t, "written", want)
			if n := f.Pending(); n != 0 {
				t.Errorf("%d bytes pending", n)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			disk.expect(t, "closed", 0)

			always := option
			defer func() { option = always }()
			option = mmapio.WithFlushPolicy(mmapio.Every(time.Hour))
			if f, err = row.open(); err != nil || f == nil {
				t.Fatal(f, err)
			}
			defer f.Close()
			_, _ = f.Write([]byte("x"))
			if files, timer, _ := mmapio.Scheduled(); files != int(want) || timer != (want > 0) {
				t.Errorf("%d files are scheduled, a timer: %v", files, timer)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			disk.expect(t, "closed before the time", want)
			if files, timer, _ := mmapio.Scheduled(); files != 0 || timer {
				t.Errorf("%d files are scheduled after Close, a timer: %v", files, timer)
			}
		})
	}
}

// policyWays are files of 100,000 bytes that are written in different ways inside.
var policyWays = []struct {
	name string
	open func(t testing.TB, policy mmapio.FlushPolicy) *mmapio.File
}{
	{"mapped", func(t testing.TB, policy mmapio.FlushPolicy) *mmapio.File {
		return openWarm(t, newFilled(t, 100_000, 1), mmapio.WithFlushPolicy(policy))
	}},
	{"preallocating", func(t testing.TB, policy mmapio.FlushPolicy) *mmapio.File {
		return openWarm(t, newFilled(t, 100_000, 1), mmapio.WithFlushPolicy(policy), mmapio.WithPreallocate(1<<20))
	}},
	{"never mapped", func(t testing.TB, policy mmapio.FlushPolicy) *mmapio.File {
		return openPlain(t, os.O_RDWR, mmapio.WithFlushPolicy(policy), mmapio.WithMapping(mmapio.MapNever))
	}},
	{"not mapped yet", func(t testing.TB, policy mmapio.FlushPolicy) *mmapio.File {
		return openPlain(t, os.O_RDWR, mmapio.WithFlushPolicy(policy))
	}},
}

func openPlain(t testing.TB, flag int, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(newFilled(t, 100_000, 1), flag, 0, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Each policy flushes exactly when it says so, whichever call writes.
func TestPolicies(t *testing.T) {
	type step struct {
		what    string
		do      func(f *mmapio.File) error
		flushes int64 // by then
		pending int64
	}
	write := func(n int) func(f *mmapio.File) error {
		return func(f *mmapio.File) error { return all(n)(f.Write(make([]byte, n))) }
	}
	writeAt := func(n int, off int64) func(f *mmapio.File) error {
		return func(f *mmapio.File) error { return all(n)(f.WriteAt(make([]byte, n), off)) }
	}
	readFrom := func(n int64) func(f *mmapio.File) error {
		return func(f *mmapio.File) error {
			m, err := f.ReadFrom(io.LimitReader(zeroReader{}, n))
			if err == nil && m != n {
				err = fmt.Errorf("%d bytes of %d", m, n)
			}
			return err
		}
	}
	for _, row := range []struct {
		policy mmapio.FlushPolicy
		steps  []step
	}{
		{mmapio.Manual(), []step{
			{"Write", write(10), 0, 0},
			{"WriteAt", writeAt(50_000, 0), 0, 0},
			{"Flush", (*mmapio.File).Flush, 1, 0},
			{"Flush", (*mmapio.File).Flush, 1, 0},
			{"Write", write(10), 0, 0},
			{"Close", (*mmapio.File).Close, 0, 0},
		}},
		{mmapio.Always(), []step{
			{"Write", write(10), 1, 0},
			{"nothing", write(0), 0, 0},
			{"WriteAt", writeAt(10, 500), 1, 0},
			{"WriteString", func(f *mmapio.File) error { return all(3)(f.WriteString("abc")) }, 1, 0},
			{"ReadFrom", readFrom(100), 1, 0},
			{"behind the end", writeAt(10, 150_000), 1, 0},
			{"Truncate", func(f *mmapio.File) error { return f.Truncate(99_999) }, 1, 0},
			{"Stat", func(f *mmapio.File) error { _, err := f.Stat(); return err }, 0, 0},
			{"Close", (*mmapio.File).Close, 0, 0},
		}},
		{mmapio.EveryBytes(100), []step{
			{"Write", write(99), 0, 99},
			{"Write", write(1), 1, 0},
			{"WriteAt", writeAt(60, 5000), 0, 60},
			{"WriteAt", writeAt(60, 5000), 1, 0},
			{"WriteAt", writeAt(60, 5000), 0, 60},
			{"Flush", (*mmapio.File).Flush, 1, 0},
			{"WriteAt", writeAt(60, 5000), 0, 60},
			{"ReadFrom", readFrom(250), 2, 50},
			{"Sync", (*mmapio.File).Sync, 0, 0},
			{"Write", write(99), 0, 99},
			{"Close", (*mmapio.File).Close, 1, 0},
		}},
		{mmapio.EveryWrites(3), []step{
			{"Write", write(1000), 0, 1000},
			{"WriteAt", writeAt(1000, 10), 0, 2000},
			{"nothing", write(0), 0, 2000},
			{"ReadFrom", readFrom(1000), 1, 0},
			{"Write", write(1000), 0, 1000},
			{"Sync", (*mmapio.File).Sync, 0, 0},
			{"Write", write(1), 0, 1},
			{"Truncate", func(f *mmapio.File) error { return f.Truncate(99_999) }, 0, 1},
			{"Write", write(1), 1, 0},
			{"Write", write(1), 0, 1},
			{"Close", (*mmapio.File).Close, 1, 0},
		}},
		{mmapio.Every(time.Hour), []step{
			{"Write", write(1000), 0, 1000},
			{"WriteAt", writeAt(1000, 10), 0, 2000},
			{"Close", (*mmapio.File).Close, 1, 0},
		}},
		{mmapio.EveryBytes(100).Or(mmapio.EveryWrites(3)), []step{
			{"Write", write(10), 0, 10},
			{"Write", write(90), 1, 0},
			{"Write", write(1), 0, 1},
			{"Write", write(1), 0, 2},
			{"Write", write(1), 1, 0},
			{"Close", (*mmapio.File).Close, 0, 0},
		}},
	} {
		for _, way := range policyWays {
			t.Run(row.policy.String()+", "+way.name, func(t *testing.T) {
				f := way.open(t, row.policy)
				disk := watchDisk(t)
				for i, step := range row.steps {
					if err := step.do(f); err != nil {
						t.Fatalf("step %d, %s: %v", i, step.what, err)
					}
					disk.expect(t, fmt.Sprintf("step %d, %s", i, step.what), step.flushes)
					if n := f.Pending(); n != step.pending {
						t.Errorf("step %d, %s: %d bytes pending, want %d", i, step.what, n, step.pending)
					}
				}
				if err := f.Close(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("second Close: %v", err)
				}
				disk.expect(t, "second Close", 0)
			})
		}
	}
}

// all returns what is wrong with a call that was to write n bytes.
func all(n int) func(int, error) error {
	return func(m int, err error) error {
		if err == nil && m != n {
			return fmt.Errorf("%d bytes of %d", m, n)
		}
		return err
	}
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// With a policy, what is in memory is still stored through the mapping: no system call
// learns that a page is there.
func TestPolicyStoresThroughMapping(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings here")
	}
	f := openWarm(t, newFilled(t, 100_000, 1), mmapio.WithFlushPolicy(mmapio.EveryBytes(1<<40)))
	var stamps atomic.Int64
	defer mmapio.Intercept(func(name string) error {
		if name == "stamp" {
			stamps.Add(1)
		}
		return nil
	})()
	// Only stores through the mapping make the File move the time: at the first one, and at Stat.
	for name, write := range map[string]func() error{
		"Write":   func() error { return all(5)(f.Write([]byte("12345"))) },
		"WriteAt": func() error { return all(5)(f.WriteAt([]byte("12345"), 70_000)) },
	} {
		stamps.Store(0)
		if err := write(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Stat(); err != nil {
			t.Fatal(err)
		}
		if stamps.Load() != 2 {
			t.Errorf("%s: %d stamps", name, stamps.Load())
		}
	}
	b := make([]byte, 64)
	if n := testing.AllocsPerRun(500, func() {
		if _, err := f.WriteAt(b, 4096); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("WriteAt: %v allocations", n)
	}
}

// Under Always nothing is stored through the mapping.
func TestAlwaysWritesBySystemCalls(t *testing.T) {
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			f := way.open(t, mmapio.Always())
			defer mmapio.Intercept(func(name string) error {
				if name == "stamp" {
					t.Error("there was a store")
				}
				return nil
			})()
			for range 3 {
				if err := all(5)(f.WriteAt([]byte("12345"), 70_000)); err != nil {
					t.Fatal(err)
				}
				if err := all(5)(f.Write([]byte("12345"))); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := f.Seek(0, io.SeekEnd); err != nil {
				t.Fatal(err)
			}
			for range 100 {
				if err := all(5)(f.Write([]byte("12345"))); err != nil {
					t.Fatal(err)
				}
			}
			if size, err := f.Size(); err != nil || size != 100_500 {
				t.Errorf("%d bytes, %v", size, err)
			}
		})
	}
}

// A write that is counted while a flush begins stays owed, or none of its bytes is pending
// afterwards: else they would be for ever.
func TestFlushBeginsDuringWrites(t *testing.T) {
	f := openFor(t, newFilled(t, 100_000, 1), os.O_RDWR, mmapio.WithFlushPolicy(mmapio.EveryWrites(math.MaxInt64)))
	var over atomic.Bool
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for !over.Load() {
				if err := all(1)(f.WriteAt([]byte{1}, 100)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for looks, until := 0, time.Now().Add(time.Second); looks < 100_000 || time.Now().Before(until); looks++ {
		if bytes, writes := mmapio.Covered(f); bytes < writes {
			t.Errorf("%d bytes of %d writes of a byte each", bytes, writes)
			break
		}
	}
	over.Store(true)
	writers.Wait()
}

// Goroutines that call Flush while one is under way share the next one.
func TestFlushesAreShared(t *testing.T) {
	const others = 20
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			f := way.open(t, mmapio.Manual())
			disk := watchDisk(t)
			begun, release := make(chan struct{}), make(chan struct{})
			first := sync.OnceFunc(func() { close(begun); <-release })
			disk.hold.Store(&first)
			before := mmapio.FlushesAsked(f)
			var calls sync.WaitGroup
			flush := func() {
				if err := f.Flush(); err != nil {
					t.Error(err)
				}
			}
			calls.Go(flush)
			<-begun
			for range others {
				calls.Go(flush)
			}
			eventually(t, "all have called", func() error {
				if n := mmapio.FlushesAsked(f) - before; n != 1+others {
					return fmt.Errorf("%d calls", n)
				}
				return nil
			})
			close(release)
			calls.Wait()
			disk.expect(t, "all", 2)
		})
	}
}

// Goroutines that write while a flush is under way share the next one.
func TestGroupCommit(t *testing.T) {
	const others = 20
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			f := way.open(t, mmapio.Always())
			disk := watchDisk(t)
			begun, release := make(chan struct{}), make(chan struct{})
			first := sync.OnceFunc(func() { close(begun); <-release })
			disk.hold.Store(&first)
			var wg sync.WaitGroup
			write := func(i int64) {
				if _, err := f.WriteAt([]byte("0123456789"), 10*i); err != nil {
					t.Error(err)
				}
			}
			wg.Go(func() { write(0) })
			<-begun
			for i := range int64(others) {
				wg.Go(func() { write(1 + i) })
			}
			eventually(t, "all have written", func() error {
				if n := f.Pending(); n != 10*(1+others) {
					return fmt.Errorf("%d bytes pending", n)
				}
				return nil
			})
			close(release)
			wg.Wait()
			disk.expect(t, "all", 2)
			if n := f.Pending(); n != 0 {
				t.Errorf("%d bytes pending", n)
			}
		})
	}
}

var errDisk = errors.New("bad disk")

// A flush that failed is told by the next call and by all that follow, also when the
// disk is well again.
func TestPolicyErrorsStay(t *testing.T) {
	afterwards := map[string]func(f *mmapio.File) error{
		"Write":       func(f *mmapio.File) error { return none(f.Write([]byte("x"))) },
		"WriteString": func(f *mmapio.File) error { return none(f.WriteString("x")) },
		"WriteAt":     func(f *mmapio.File) error { return none(f.WriteAt([]byte("x"), 5)) },
		"ReadFrom": func(f *mmapio.File) error {
			n, err := f.ReadFrom(strings.NewReader("x"))
			return none(int(n), err)
		},
		"UpdateChunks": func(f *mmapio.File) error {
			return f.UpdateChunks(4096, func(int64, []byte) error { return errors.New("called") })
		},
		"Flush":      (*mmapio.File).Flush,
		"FlushRange": func(f *mmapio.File) error { return f.FlushRange(0, 10) },
		"FlushAsync": (*mmapio.File).FlushAsync,
		"Sync":       (*mmapio.File).Sync,
	}
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			f := way.open(t, mmapio.EveryWrites(2))
			disk := watchDisk(t)
			if err := all(1)(f.WriteAt([]byte("a"), 0)); err != nil {
				t.Fatal(err)
			}
			disk.breakDown(errDisk)
			n, err := f.WriteAt([]byte("a"), 1)
			if n != 1 || !isPathError(err, "flush", errDisk) {
				t.Errorf("WriteAt: %d, %v", n, err)
			}
			disk.mend()
			for range 2 {
				for name, call := range afterwards {
					if name == "UpdateChunks" && !mmapio.SupportsMapping {
						continue
					}
					if err := call(f); !isPathError(err, "flush", errDisk) {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			if mmapio.SupportsMapping {
				v, err := f.View(0, 10)
				if err != nil {
					t.Fatal(err)
				}
				if err := none(v.WriteAt([]byte("x"), 0)); !isPathError(err, "flush", errDisk) {
					t.Errorf("View.WriteAt: %v", err)
				}
				if err := v.Flush(); !isPathError(err, "flush", errDisk) {
					t.Errorf("View.Flush: %v", err)
				}
				v.Release()
			}
			b := make([]byte, 3)
			if _, err := f.ReadAt(b, 0); err != nil || b[0] != 'a' || b[1] != 'a' {
				t.Errorf("ReadAt: %q, %v", b, err)
			}
			if f.Pending() == 0 {
				t.Error("nothing pending")
			}
			if err := f.Close(); !isPathError(err, "flush", errDisk) {
				t.Errorf("Close: %v", err)
			}
			if err := f.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			if mmapio.SyncCoversMappings { // or else it has failed before
				disk.expect(t, "all", 1)
			}
		})
	}
}

// The n-th flush fails, once: the writes before have no error, that one does, and all that
// follow have its error.
func TestPolicyFlushFailsOnce(t *testing.T) {
	for _, way := range policyWays {
		for _, policy := range []mmapio.FlushPolicy{mmapio.Always(), mmapio.EveryWrites(3), mmapio.EveryBytes(25)} {
			for nth := 1; nth <= 6; nth++ {
				f := way.open(t, policy)
				var mu sync.Mutex
				flushes := 0
				restore := mmapio.Intercept(func(name string) error {
					if name != "datasync" {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					if flushes++; flushes == nth {
						return errDisk
					}
					return nil
				})
				var first error
				for i := range 40 {
					n, err := f.WriteAt([]byte("0123456789"), int64(i)*10)
					mu.Lock()
					failed := flushes >= nth
					mu.Unlock()
					switch {
					case first != nil:
						if n != 0 || err != first {
							t.Fatalf("%v, %s: write %d after flush %d failed: %d, %v", policy, way.name, i, nth, n, err)
						}
					case failed:
						if first = err; n != 10 || !isPathError(err, "flush", errDisk) {
							t.Fatalf("%v, %s: write %d, whose flush %d failed: %d, %v", policy, way.name, i, nth, n, err)
						}
					case n != 10 || err != nil:
						t.Fatalf("%v, %s: write %d before flush %d: %d, %v", policy, way.name, i, nth, n, err)
					}
				}
				restore()
				if first == nil || f.Pending() == 0 {
					t.Errorf("%v, %s: flush %d: %v, %d pending", policy, way.name, nth, first, f.Pending())
				}
				b := make([]byte, 10)
				if n, err := f.ReadAt(b, 0); n != 10 || err != nil || string(b) != "0123456789" {
					t.Errorf("ReadAt: %d, %v, %q", n, err, b)
				}
				if err := f.Close(); err != first {
					t.Errorf("Close: %v", err)
				}
			}
		}
	}
}

// none returns the error of a call that was to write nothing.
func none(n int, err error) error {
	if n != 0 {
		return fmt.Errorf("%d bytes written, and %w", n, err)
	}
	return err
}

// Close flushes what is owed, closes in any case, and says what went wrong.
func TestCloseFlushes(t *testing.T) {
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			disk := watchDisk(t)
			f := way.open(t, mmapio.EveryBytes(1<<40))
			if err := all(3)(f.WriteAt([]byte("abc"), 10)); err != nil {
				t.Fatal(err)
			}
			disk.breakDown(errDisk)
			if err := f.Close(); !isPathError(err, "flush", errDisk) {
				t.Errorf("Close: %v", err)
			}
			if err := f.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			if n := disk.flushes.Load() + disk.ranges.Load(); n != 1 {
				t.Errorf("%d flushes", n)
			}
		})
	}
}

// Detach flushes what is owed; where that fails the File stays as it is.
func TestDetachFlushes(t *testing.T) {
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			disk := watchDisk(t)
			f := way.open(t, mmapio.Every(time.Hour))
			if err := all(3)(f.WriteAt([]byte("abc"), 10)); err != nil {
				t.Fatal(err)
			}
			file, err := f.Detach()
			if err != nil {
				t.Fatal(err)
			}
			disk.expect(t, "Detach", 1)
			if files, timer, _ := mmapio.Scheduled(); files != 0 || timer {
				t.Errorf("%d files scheduled, timer %v", files, timer)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}

			f = way.open(t, mmapio.EveryBytes(1<<40))
			if err := all(3)(f.WriteAt([]byte("abc"), 10)); err != nil {
				t.Fatal(err)
			}
			disk.breakDown(errDisk)
			if file, err := f.Detach(); file != nil || !isPathError(err, "flush", errDisk) {
				t.Errorf("Detach: %v, %v", file, err)
			}
			if err := f.Close(); !isPathError(err, "flush", errDisk) {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// Handing out the descriptor loses nothing: what was written and what will be is flushed.
func TestPolicyAfterFd(t *testing.T) {
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			disk := watchDisk(t)
			f := way.open(t, mmapio.EveryWrites(3))
			if err := all(3)(f.Write([]byte("abc"))); err != nil {
				t.Fatal(err)
			}
			f.Fd()
			if err := all(3)(f.Write([]byte("abc"))); err != nil {
				t.Fatal(err)
			}
			disk.expect(t, "two writes", 0)
			if err := all(3)(f.WriteAt([]byte("abc"), 50)); err != nil {
				t.Fatal(err)
			}
			disk.expect(t, "three writes", 1)
		})
	}
}

// Stores to Views count when the memory is taken back, and reading does not.
func TestPolicyViews(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings here")
	}
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			disk := watchDisk(t)
			f := way.open(t, mmapio.EveryBytes(1000))
			view := func(n int64) *mmapio.View {
				v, err := f.View(4096, n)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			expect := func(what string, flushes, pending int64) {
				t.Helper()
				disk.expect(t, what, flushes)
				if n := f.Pending(); n != pending {
					t.Errorf("%s: %d bytes pending, want %d", what, n, pending)
				}
			}
			v := view(2000)
			if _, err := v.ReadAt(make([]byte, 10), 5); err != nil {
				t.Fatal(err)
			}
			v.Release()
			expect("a View that was read", 0, 0)
			for range f.Pages().All() {
			}
			expect("all pages", 0, 0)

			v = view(2000)
			if err := all(400)(v.WriteAt(make([]byte, 400), 0)); err != nil {
				t.Fatal(err)
			}
			expect("View.WriteAt", 0, 400)
			if err := all(600)(v.WriteAt(make([]byte, 600), 0)); err != nil {
				t.Fatal(err)
			}
			expect("View.WriteAt again", 1, 0)
			v.Release()
			expect("Release", 0, 0)

			v = view(999)
			v.Bytes()[3] = 7
			v.Bytes()[4] = 7
			expect("Bytes", 0, 0)
			v.Release()
			v.Release()
			expect("Release after Bytes", 0, 999)
			v = view(8)
			word, err := v.Uint64(0)
			if err != nil {
				t.Fatal(err)
			}
			word.Add(1)
			v.Release()
			expect("Release after an atomic word", 1, 0)
			v = view(1000)
			if err := v.Do(func(b []byte) error { b[0] = 1; return nil }); err != nil {
				t.Fatal(err)
			}
			expect("Do", 0, 0)
			v.Release()
			expect("Release after Do", 1, 0)

			if err := f.UpdateChunks(4096, func(off int64, chunk []byte) error {
				chunk[0] = 1
				if off == 4096 {
					return errDisk
				}
				return nil
			}); err != errDisk {
				t.Fatal(err)
			}
			expect("two chunks", 1, 0)

			// Close covers what is out, and afterwards each View what it has.
			v = view(500)
			v.Bytes()[3] = 8
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			disk.expect(t, "Close", 1)
			if !mmapio.SyncCoversMappings {
				v.Release()
				return
			}
			disk.ranges.Store(0)
			if err := all(1)(v.WriteAt([]byte("x"), 0)); err != nil {
				t.Fatal(err)
			}
			if n := disk.ranges.Swap(0); n != 1 {
				t.Errorf("%d flushes of a range after View.WriteAt", n)
			}
			v.Release()
			if n := disk.ranges.Swap(0); n != 1 {
				t.Errorf("%d flushes of a range after Release", n)
			}
			disk.expect(t, "a View after Close", 0)
		})
	}
}

// What has no stable storage has nothing to flush, and the policy does not mind.
func TestPolicyOnPipe(t *testing.T) {
	disk := watchDisk(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Skip(err)
	}
	defer r.Close()
	f, err := mmapio.FromFile(w, mmapio.WithFlushPolicy(mmapio.Always().Or(mmapio.Every(time.Hour))))
	if err != nil {
		t.Fatal(err)
	}
	if err := all(5)(f.Write([]byte("hello"))); err != nil {
		t.Error(err)
	}
	if n := f.Pending(); n != 0 {
		t.Errorf("%d bytes pending", n)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	disk.expect(t, "all", 0)
}

// Closed, zero and nil Files say so.
func TestFlushInvalid(t *testing.T) {
	closed, err := mmapio.CreateTemp(t.TempDir(), "", mmapio.WithFlushPolicy(mmapio.Always()))
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	plain := temporary(t, 10)
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(f *mmapio.File) error{
		"Flush":      (*mmapio.File).Flush,
		"FlushRange": func(f *mmapio.File) error { return f.FlushRange(0, 10) },
		"FlushAsync": (*mmapio.File).FlushAsync,
		"Sync":       (*mmapio.File).Sync,
		"Write":      func(f *mmapio.File) error { return none(f.Write([]byte("x"))) },
		"WriteAt":    func(f *mmapio.File) error { return none(f.WriteAt([]byte("x"), 0)) },
		"ReadFrom":   func(f *mmapio.File) error { _, err := f.ReadFrom(strings.NewReader("x")); return err },
	} {
		for what, row := range map[string]struct {
			f    *mmapio.File
			want error
		}{
			"nil":                {nil, os.ErrInvalid},
			"zero":               {new(mmapio.File), os.ErrInvalid},
			"closed":             {plain, os.ErrClosed},
			"closed with policy": {closed, os.ErrClosed},
		} {
			err := call(row.f)
			if !errors.Is(err, row.want) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			if _, ok := errors.AsType[*fs.PathError](err); row.want == os.ErrClosed && !ok {
				t.Errorf("%s, %s: %T", name, what, err)
			}
		}
	}
}

// Writers, flushers and views race with Close: nothing that was acknowledged is left
// unflushed, and nothing stays behind.
func TestRacePolicies(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	disk := watchDisk(t)
	end := time.Now().Add(raceTime(t))
	policies := []mmapio.FlushPolicy{
		mmapio.Manual(), mmapio.Always(), mmapio.EveryBytes(200), mmapio.EveryWrites(3),
		mmapio.Every(time.Microsecond), mmapio.EveryBytes(100).Or(mmapio.Every(50 * time.Microsecond)),
	}
	for round := 0; time.Now().Before(end); round++ {
		policy := policies[round%len(policies)]
		f := policyWays[round/len(policies)%len(policyWays)].open(t, policy)
		var wg sync.WaitGroup
		var acknowledged atomic.Int64
		start := make(chan struct{})
		for i := range int64(4) {
			wg.Go(func() {
				<-start
				for j := range int64(50) {
					n, err := f.WriteAt([]byte("0123456789"), 1000*i+j*10)
					if err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Error(err)
						}
						return
					}
					acknowledged.Add(int64(n))
				}
			})
		}
		wg.Go(func() {
			<-start
			for f.Flush() == nil && f.FlushRange(100, 5000) == nil && f.FlushAsync() == nil {
				if v, err := f.View(5000, 100); err == nil {
					v.Bytes()[0]++
					v.Release()
				}
			}
		})
		wg.Go(func() {
			<-start
			for range round % 50 {
				runtime.Gosched()
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		close(start)
		wg.Wait()
		if policy != mmapio.Manual() && disk.flushes.Load() == 0 && acknowledged.Load() > 0 {
			t.Errorf("%v: %d bytes acknowledged and no flush", policy, acknowledged.Load())
		}
		if flushed := mmapio.Flushed(f); policy != mmapio.Manual() && flushed < acknowledged.Load() {
			t.Errorf("%v: %d bytes acknowledged and %d flushed", policy, acknowledged.Load(), flushed)
		}
		disk.flushes.Store(0)
	}
	eventually(t, "nothing is scheduled", func() error {
		if files, timer, workers := mmapio.Scheduled(); files != 0 || timer || workers != 0 {
			return fmt.Errorf("%d files scheduled, timer %v, %d workers", files, timer, workers)
		}
		if now := runtime.NumGoroutine(); now > goroutines {
			return fmt.Errorf("%d goroutines, were %d", now, goroutines)
		}
		return nil
	})
}
