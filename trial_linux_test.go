package mmapio_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/mmapio/mmapio"
)

// readPages reads a few bytes of pages of f that are far apart, beginning with the one given,
// until stop says so. It returns how many it read.
func readPages(t *testing.T, f io.ReaderAt, body []byte, size int64, first int, stop func(n int) bool) (n int) {
	t.Helper()
	const far = 1021 // a prime: every page has its turn
	page := int64(mmapio.PageSize())
	pages := size / page
	b := make([]byte, 64)
	for ; !stop(n); n++ {
		off := (int64(first+n) * far) % pages * page
		if _, err := f.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		if err := checkBody(body, b, off%int64(len(body)), false); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// trialSize is so many pages that each is read once.
var trialSize = 16384 * int64(os.Getpagesize())

// untilMapped reads pages until f is mapped, and untilUnmapped until it is not.
func untilMapped(t *testing.T, f *mmapio.File, body []byte, first int) int {
	t.Helper()
	return readPages(t, f, body, trialSize, first, func(n int) bool { return n > 100_000 || mmapio.IsMapped(f) })
}

func untilUnmapped(t *testing.T, f *mmapio.File, body []byte, first int) int {
	t.Helper()
	return readPages(t, f, body, trialSize, first, func(n int) bool { return n > 10_000 || !mmapio.IsMapped(f) })
}

// A file whose reads wait for the disk is not mapped, but for a trial now and then, which is
// ever rarer. Once it is in memory it is mapped.
func TestTrialOfColdFile(t *testing.T) {
	name, body := coldFile(t, trialSize)
	defer mmapio.Intercept(func(name string) error {
		if name == "majorFaults" {
			return errors.ErrUnsupported // no other trial, however short memory is
		}
		return nil
	})()
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := 0
	for _, rest := range []int{0, mmapio.ShortestRest, 2 * mmapio.ShortestRest} {
		n := untilMapped(t, f, body, read)
		if n != rest+mmapio.MapAfter {
			t.Errorf("mapped after %d reads, want %d", n, rest+mmapio.MapAfter)
		}
		read += n
		n = untilUnmapped(t, f, body, read)
		if n != mmapio.TrialCalls {
			t.Errorf("the trial took %d reads, want %d", n, mmapio.TrialCalls)
		}
		read += n
		if inMaps(t, name) {
			t.Error("still mapped after the trial")
		}
	}
	for off := int64(0); off < trialSize; off += int64(len(body)) { // now it is in memory
		if _, err := f.ReadAt(make([]byte, len(body)), off); err != nil {
			t.Fatal(err)
		}
	}
	untilMapped(t, f, body, 0)
	stays := func(n int) bool { return n == 10*mmapio.TrialCalls || !mmapio.IsMapped(f) }
	if n := readPages(t, f, body, trialSize, 0, stays); n != 10*mmapio.TrialCalls || !inMaps(t, name) {
		t.Errorf("unmapped after %d reads, while it is in memory", n)
	}
	// After that it is as if it were new.
	mmapio.Unmap(f)
	if n := untilMapped(t, f, body, 0); n != mmapio.MapAfter {
		t.Errorf("mapped after %d reads, want %d", n, mmapio.MapAfter)
	}
}

// Memory becomes short: what was mapped is on trial again.
func TestTrialAfterPressure(t *testing.T) {
	name, body := coldFile(t, trialSize)
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := 0
	for range 3 {
		read += untilMapped(t, f, body, read)
		read += untilUnmapped(t, f, body, read)
	}
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, trialSize)); err != nil {
		t.Fatal(err)
	}
	untilMapped(t, f, body, 0)
	if n := readPages(t, f, body, trialSize, 0, func(n int) bool { return n == 10*mmapio.TrialCalls }); !mmapio.IsMapped(f) {
		t.Fatalf("not mapped after %d reads", n)
	}
	pressure := func() {
		t.Helper()
		restore := mmapio.Intercept(func(name string) error {
			if name == "majorFaults" {
				return mmapio.ErrLie
			}
			return nil
		})
		defer restore()
		if !mmapio.CheckPressure() {
			t.Fatal("no pressure")
		}
	}
	pressure()
	if n := readPages(t, f, body, trialSize, 0, func(n int) bool { return n == 10*mmapio.TrialCalls }); !mmapio.IsMapped(f) {
		t.Fatalf("unmapped within %d reads, all of them in memory", n)
	}
	if err := mmapio.PageOut(f); err != nil {
		t.Fatal(err)
	}
	evict(t, name)
	if n := inMemory(t, name); n > trialSize/10 {
		t.Skipf("%d of %d bytes stay in memory, whatever is said", n, trialSize)
	}
	pressure()
	if n := untilUnmapped(t, f, body, 5000); n != mmapio.TrialCalls {
		t.Errorf("unmapped after %d reads, want %d", n, mmapio.TrialCalls)
	}
	// The trial that went well has made good for those before.
	if n, want := untilMapped(t, f, body, 6000), mmapio.ShortestRest+mmapio.MapAfter; n != want {
		t.Errorf("mapped after %d reads, want %d", n, want)
	}
}

// A file is mapped of which a part is used again and again, though some reads elsewhere wait for
// the disk: on trial that counts for as much as it is used, whether by reads or by writes.
func TestTrialOfHotPart(t *testing.T) {
	for _, write := range []bool{false, true} {
		name, body := coldFile(t, trialSize)
		f, err := mmapio.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		page := int64(mmapio.PageSize())
		hot := func(i int) {
			t.Helper()
			b, off := make([]byte, 64), int64(i)%8*page
			var err error
			if write {
				_, err = f.WriteAt(body[off:off+64], off)
			} else {
				_, err = f.ReadAt(b, off)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		made := mmapio.ReadStats().MappingsMade
		cold := 100
		for i := range 100_000 {
			if i%100 == 99 {
				cold += readPages(t, f, body, trialSize, cold, func(n int) bool { return n == 1 })
			}
			hot(i)
		}
		if got := mmapio.ReadStats().MappingsMade - made; got != 1 || !mmapio.IsMapped(f) {
			t.Errorf("writing %v: mapped %d times, in the end: %v", write, got, mmapio.IsMapped(f))
		}
	}
}

// What somebody has asked for is mapped, wherever the bytes are.
func TestNoTrial(t *testing.T) {
	for _, test := range []struct {
		name    string
		options []mmapio.Option
		use     func(f *mmapio.File) error
	}{
		{"MapAlways", []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, nil},
		{"Advise", nil, func(f *mmapio.File) error { return f.Advise(0, 1, mmapio.AdviceSequential) }},
		{"Prefault, before memory was short", nil, func(f *mmapio.File) error {
			if err := f.Prefault(0, 1); err != nil {
				return err
			}
			mmapio.TryOut(f)
			return nil
		}},
		{"View", nil, func(f *mmapio.File) error {
			v, err := f.View(0, 1)
			if err == nil {
				t.Cleanup(v.Release)
			}
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name, body := coldFile(t, trialSize)
			f, err := mmapio.OpenFile(name, os.O_RDWR, 0, test.options...)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			n := untilMapped(t, f, body, 0)
			if test.use != nil {
				if err := test.use(f); err != nil {
					t.Fatal(err)
				}
			}
			if stayed := untilUnmapped(t, f, body, n); stayed < 10*mmapio.TrialCalls {
				t.Errorf("unmapped after %d reads", stayed)
			}
		})
	}
}
