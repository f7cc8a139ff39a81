package mmapio_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/mmapio/mmapio"
)

// Flush, FlushRange, FlushAsync and Sync make the calls that they are made of, and no more.
func TestFlushCalls(t *testing.T) {
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			f := way.open(t, mmapio.Manual())
			mapped := mmapio.SupportsMapping && (way.name == "mapped" || way.name == "preallocating")
			disk := watchDisk(t)
			counted := func() [4]int64 {
				return [4]int64{disk.flushes.Swap(0), disk.ranges.Swap(0), disk.syncs.Swap(0), disk.starts.Swap(0)}
			}
			for _, row := range []struct {
				what               string
				do                 func() error
				linux, mappedLinux [4]int64 // flushes, ranges, syncs, starts
			}{
				{"Flush", f.Flush, [4]int64{1}, [4]int64{1}},
				{"Sync", f.Sync, [4]int64{2: 1}, [4]int64{2: 1}},
				{"FlushAsync", f.FlushAsync, [4]int64{3: 1}, [4]int64{3: 1}},
				{"FlushRange inside", func() error { return f.FlushRange(5000, 1) }, [4]int64{1}, [4]int64{1: 1}},
				{"FlushRange of all", func() error { return f.FlushRange(0, 100_000) }, [4]int64{1}, [4]int64{1: 1}},
				{"FlushRange past the end", func() error { return f.FlushRange(99_000, 1<<40) }, [4]int64{1}, [4]int64{1: 1}},
				{"FlushRange behind the end", func() error { return f.FlushRange(200_000, 10) }, [4]int64{1}, [4]int64{}},
				{"FlushRange of nothing", func() error { return f.FlushRange(10, 0) }, [4]int64{1}, [4]int64{}},
			} {
				if err := all(3)(f.WriteAt([]byte("abc"), 5000)); err != nil {
					t.Fatal(err)
				}
				if err := row.do(); err != nil {
					t.Errorf("%s: %v", row.what, err)
				}
				want := row.linux
				if mapped {
					want = row.mappedLinux
				}
				got := counted()
				if !mmapio.SyncCoversMappings {
					// What is mapped is written back first.
					if mapped && got[1] == 0 && want != ([4]int64{}) {
						t.Errorf("%s: no memory written back", row.what)
					}
					if want[1] > 0 {
						want[0] = 1
					}
					got[1], want[1] = 0, 0
				}
				if got != want {
					t.Errorf("%s: calls %v, want %v", row.what, got, want)
				}
			}
		})
	}
}

// After a flush a few writes are system calls, and those behind them are stores.
func TestWritesAfterFlush(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("nothing is mapped on this system")
	}
	defer mmapio.Intercept(func(call string) error {
		if call == "majorFaults" {
			return errors.ErrUnsupported // what is known stays known, however short memory is
		}
		return nil
	})()
	for _, flush := range []struct {
		name string
		do   func(f *mmapio.File) error
	}{
		{"Flush", (*mmapio.File).Flush},
		{"FlushRange", func(f *mmapio.File) error { return f.FlushRange(0, 10) }},
		{"Sync", (*mmapio.File).Sync},
	} {
		for _, policy := range []mmapio.FlushPolicy{mmapio.Manual(), mmapio.EveryBytes(1 << 40)} {
			t.Run(flush.name+" "+policy.String(), func(t *testing.T) {
				name := filepath.Join(t.TempDir(), "file")
				if err := os.WriteFile(name, patterned(100_000, 1), 0o600); err != nil {
					t.Fatal(err)
				}
				f := openFor(t, name, os.O_RDWR, mmapio.WithFlushPolicy(policy))
				if !mmapio.MapNow(f) {
					t.Fatal("not mapped")
				}
				want := make([]byte, 100_000)
				if _, err := f.ReadAt(want, 0); err != nil {
					t.Fatal(err)
				}
				calls := func() int64 {
					before := mmapio.ReadStats().CallsOther
					for i := range 2 * mmapio.CallsAfterFlush {
						b := []byte{byte(i), 'x', byte(3 * i)}
						at := 1000 * i
						copy(want[at:], b)
						if n, err := f.WriteAt(b, int64(at)); n != 3 || err != nil {
							t.Fatal(n, err)
						}
					}
					return mmapio.ReadStats().CallsOther - before
				}
				if got := calls(); got != 0 {
					t.Errorf("before the first flush %d writes were system calls", got)
				}
				for range 2 {
					if err := flush.do(f); err != nil {
						t.Fatal(err)
					}
					want := int64(mmapio.CallsAfterFlush)
					if mmapio.IsSparing(f) {
						want = 0
					}
					if got := calls(); got != want {
						t.Errorf("after a flush %d writes were system calls, want %d", got, want)
					}
				}
				got := make([]byte, len(want))
				if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the bytes are not those that were written, %v", err)
				}
			})
		}
	}
}

func TestFlushRangeBorders(t *testing.T) {
	for _, way := range policyWays {
		t.Run(way.name, func(t *testing.T) {
			f := way.open(t, mmapio.Manual())
			for _, r := range [][2]int64{
				{-1, 1}, {0, -1}, {math.MinInt64, 0}, {0, math.MinInt64}, {math.MaxInt64, 1},
				{1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}, {math.MinInt64, math.MinInt64},
			} {
				err := f.FlushRange(r[0], r[1])
				inside, ok := errors.AsType[*mmapio.RangeError](err)
				if !ok || !isPathError(err, "flush", mmapio.ErrOutOfRange) || *inside != (mmapio.RangeError{Offset: r[0], Length: r[1], Size: 100_000}) {
					t.Errorf("FlushRange(%d, %d): %v", r[0], r[1], err)
				}
			}
			for _, r := range [][2]int64{{0, math.MaxInt64}, {math.MaxInt64, 0}, {math.MaxInt64 - 1, 1}, {0, 0}, {99_999, 1}, {100_000, 1}} {
				if err := f.FlushRange(r[0], r[1]); err != nil {
					t.Errorf("FlushRange(%d, %d): %v", r[0], r[1], err)
				}
			}
		})
	}
}

// Without a policy an explicit flush that failed stays for those to come, and the rest of
// the File goes on as os does.
func TestFlushFails(t *testing.T) {
	for _, way := range policyWays {
		for name, call := range map[string]func(f *mmapio.File) error{
			"Flush":      (*mmapio.File).Flush,
			"FlushRange": func(f *mmapio.File) error { return f.FlushRange(4000, 10) },
			"View.Flush": func(f *mmapio.File) error {
				v, err := f.View(0, 5000)
				if err != nil {
					return err
				}
				defer v.Release()
				return v.Flush()
			},
			"Sync": (*mmapio.File).Sync,
		} {
			t.Run(way.name+", "+name, func(t *testing.T) {
				if name == "View.Flush" && !mmapio.SupportsMapping {
					t.Skip("no mappings here")
				}
				f := way.open(t, mmapio.Manual())
				disk := watchDisk(t)
				write := func() {
					t.Helper()
					if err := all(3)(f.WriteAt([]byte("abc"), 4000)); err != nil {
						t.Error(err)
					}
				}
				write()
				disk.breakDown(errDisk)
				err := call(f)
				op := "flush"
				if name == "Sync" {
					op = "sync"
				}
				if !isPathError(err, op, errDisk) {
					t.Errorf("%v", err)
				}
				disk.mend()
				for range 2 {
					if err := f.Flush(); !isPathError(err, op, errDisk) {
						t.Errorf("Flush afterwards: %v", err)
					}
					if err := f.FlushRange(0, 1); !isPathError(err, op, errDisk) {
						t.Errorf("FlushRange afterwards: %v", err)
					}
				}
				write()
				if err := f.Sync(); err != nil {
					t.Errorf("Sync afterwards: %v", err)
				}
				if err := f.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
	}
}

// Where Flush meets a bad disk, a new File starts anew.
func TestFlushAfterReopening(t *testing.T) {
	name := newFilled(t, 1000, 1)
	disk := watchDisk(t)
	open := func() *mmapio.File {
		f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithFlushPolicy(mmapio.Always()))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open()
	disk.breakDown(errDisk)
	if _, err := f.Write([]byte("x")); !isPathError(err, "flush", errDisk) {
		t.Errorf("Write: %v", err)
	}
	if err := f.Close(); !isPathError(err, "flush", errDisk) {
		t.Errorf("Close: %v", err)
	}
	disk.mend()
	f = open()
	if _, err := f.Write([]byte("x")); err != nil {
		t.Errorf("Write: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
