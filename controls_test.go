package mmapio_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/mmapio/mmapio"
)

var everyAdvice = []mmapio.Advice{
	mmapio.AdviceNormal, mmapio.AdviceRandom, mmapio.AdviceSequential, mmapio.AdviceWillNeed, mmapio.AdviceDontNeed,
	mmapio.AdvicePopulateRead, mmapio.AdvicePopulateWrite, mmapio.AdviceCold, mmapio.AdvicePageOut, mmapio.AdviceCollapse,
	mmapio.AdviceHugePage, mmapio.AdviceNoHugePage, mmapio.AdviceDontDump, mmapio.AdviceDoDump, mmapio.AdviceDontFork, mmapio.AdviceDoFork,
}

func TestAdviceNames(t *testing.T) {
	seen := make(map[string]bool)
	for i, advice := range everyAdvice {
		name := advice.String()
		if int(advice) != i || name == "" || name == "unknown advice" || seen[name] {
			t.Errorf("advice %d is called %q", i, name)
		}
		seen[name] = true
	}
	if name := mmapio.Advice(len(everyAdvice)).String(); name != "unknown advice" {
		t.Errorf("advice that there is not is called %q", name)
	}
}

// controlRows are the controls, for the n bytes at off of a File.
var controlRows = map[string]func(f *mmapio.File, off, n int64) error{
	"Advise":      func(f *mmapio.File, off, n int64) error { return f.Advise(off, n, mmapio.AdviceWillNeed) },
	"Lock":        func(f *mmapio.File, off, n int64) error { return f.Lock(off, n) },
	"LockOnFault": func(f *mmapio.File, off, n int64) error { return f.LockOnFault(off, n) },
	"Unlock":      func(f *mmapio.File, off, n int64) error { return f.Unlock(off, n) },
	"Prefault":    func(f *mmapio.File, off, n int64) error { return f.Prefault(off, n) },
	"Resident":    func(f *mmapio.File, off, n int64) error { _, err := f.Resident(off, n); return err },
	"HugePages":   func(f *mmapio.File, _, _ int64) error { _, err := f.HugePages(); return err },
}

// Ranges that cannot be are errors, and those that reach beyond the end are cut there.
func TestControlBorders(t *testing.T) {
	content := patterned(100_000, 1)
	for name, control := range controlRows {
		t.Run(name, func(t *testing.T) {
			f := openControlledAnywhere(t, newFilled(t, len(content), 1), os.O_RDWR)
			for _, r := range [][2]int64{{-1, 10}, {0, -1}, {math.MinInt64, math.MinInt64}, {10, math.MinInt64}, {math.MinInt64, math.MaxInt64}} {
				err := control(f, r[0], r[1])
				if name != "HugePages" && !errors.Is(err, mmapio.ErrOutOfRange) && !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%v: %v", r, err)
				}
				if err != nil && !isAnyPathError(err) {
					t.Errorf("%v: a bare %T", r, err)
				}
			}
			for _, r := range [][2]int64{{0, 0}, {0, 1}, {99_999, 1}, {100_000, 1}, {50_000, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}, {math.MaxInt64, 0}, {math.MaxInt64 - 1, 1}} {
				if err := control(f, r[0], r[1]); err != nil && !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%v: %v", r, err)
				}
			}
			b := make([]byte, len(content))
			if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, content) {
				t.Errorf("other bytes after that: %v", err)
			}
			if size, err := f.Size(); size != int64(len(content)) || err != nil {
				t.Errorf("the size is %d after that: %v", size, err)
			}
			if err := f.Unlock(0, math.MaxInt64); err != nil {
				t.Error(err)
			}
		})
	}
}

func openControlledAnywhere(t testing.TB, name string, flag int, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(name, flag, 0, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// What a File is like decides which controls it has.
func TestControlsInEveryState(t *testing.T) {
	for name, control := range controlRows {
		if err := control(nil, 0, 10); err != os.ErrInvalid {
			t.Errorf("%s of nil: %v", name, err)
		}
		if err := control(new(mmapio.File), 0, 10); err != os.ErrInvalid {
			t.Errorf("%s of a zero File: %v", name, err)
		}
		f := openControlledAnywhere(t, newFilled(t, 100, 1), os.O_RDWR)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := control(f, 0, 10); !errors.Is(err, fs.ErrClosed) && !errors.Is(err, errors.ErrUnsupported) || !isAnyPathError(err) {
			t.Errorf("%s of a closed File: %v", name, err)
		}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer write.Close()
		pipe, err := mmapio.FromFile(read)
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		if err := control(pipe, 0, 10); name != "HugePages" && name != "Unlock" && !isAnyPathError(err) {
			t.Errorf("%s of a pipe: %v", name, err)
		}
		writeOnly := openControlledAnywhere(t, newFilled(t, 100, 1), os.O_WRONLY)
		err = control(writeOnly, 0, 10)
		if slices.Contains([]string{"Lock", "Prefault"}, name) && mmapio.SupportsMapping && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s of a write-only File: %v", name, err)
		}
	}
}

func TestControlOptions(t *testing.T) {
	name := newFilled(t, 100_000, 1)
	for _, c := range []struct {
		what   string
		option mmapio.Option
		flag   int
		want   error
	}{
		{"advice that is unknown", mmapio.WithAdvice(100), os.O_RDWR, os.ErrInvalid},
		{"advice that acts once", mmapio.WithAdvice(mmapio.AdviceDontNeed), os.O_RDWR, os.ErrInvalid},
		{"to read what is write-only", mmapio.WithPrefault(), os.O_WRONLY, os.ErrInvalid},
	} {
		f, err := mmapio.OpenFile(name, c.flag, 0, c.option)
		if f != nil || !isAnyPathError(err) || !errors.Is(err, c.want) && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v, %v", c.what, f, err)
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	if f, err := mmapio.FromFile(read, mmapio.WithPrefault(), mmapio.WithHugePages()); err != nil {
		t.Errorf("a pipe: %v", err)
	} else {
		f.Close()
	}
}

// A call to the system that fails is the error of who asked for it, and of nobody else.
func TestControlsFail(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings on this system")
	}
	content := patterned(200_000, 1)
	failure := errors.New("not now")
	for _, c := range []struct {
		call, control string
		can           bool
	}{
		{"adviseFile", "Advise", mmapio.AdvisesFiles},
		{"advise", "Advise", true},
		{"lock", "Lock", true},
		{"lock", "LockOnFault", mmapio.LocksOnFault},
		{"pageStates", "Resident", mmapio.TellsResidency},
		{"hugeBytes", "HugePages", mmapio.TellsHuge},
	} {
		if !c.can {
			continue
		}
		f := openWarm(t, newFilled(t, len(content), 1))
		restore := mmapio.Intercept(func(name string) error {
			if name == c.call {
				return failure
			}
			return nil
		})
		err := controlRows[c.control](f, 0, 100_000)
		restore()
		if !isAnyPathError(err) || !errors.Is(err, failure) {
			t.Errorf("%s, when %s fails: %v", c.control, c.call, err)
		}
		mmapio.Unmap(f)
		calls := 0
		restore = mmapio.Intercept(func(name string) error {
			if name == "lock" {
				calls++
			}
			return nil
		})
		if !mmapio.MapNow(f) {
			t.Error("not mapped again")
		}
		restore()
		if calls > 0 {
			t.Errorf("%s has failed, but is done again", c.control)
		}
		b := make([]byte, len(content))
		if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s has failed, and then reading: %v", c.control, err)
		}
	}
}

// What is remembered and cannot be done again is nobody's error.
func TestControlsFailLater(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings on this system")
	}
	f := openWarm(t, newFilled(t, 200_000, 1), mmapio.WithHugePages())
	if err := f.LockAll(); err != nil {
		t.Skipf("cannot lock: %v", err)
	}
	_ = f.Advise(0, math.MaxInt64, mmapio.AdviceSequential)
	mmapio.Unmap(f)
	defer mmapio.Intercept(func(name string) error {
		if name == "lock" || name == "unlock" || name == "advise" || name == "pageStates" {
			return errors.New("not now")
		}
		return nil
	})()
	if _, err := f.WriteAt([]byte("more"), 300_000); err != nil {
		t.Error(err)
	}
	b := make([]byte, 4)
	if _, err := f.ReadAt(b, 300_000); err != nil || string(b) != "more" {
		t.Errorf("read %q, %v", b, err)
	}
	if err := f.Truncate(100_000); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestAlignUp(t *testing.T) {
	for _, c := range [][3]int64{
		{0, 8, 0}, {1, 8, 8}, {8, 8, 8}, {9, 8, 16}, {10, 7, 14}, {14, 7, 14}, {5, 1, 5}, {5, 0, 5}, {5, -8, 5}, {0, 0, 0},
		{-1, 8, 0}, {-8, 8, -8}, {-9, 8, -8}, {-10, 7, -7},
		{math.MaxInt64, 2, math.MaxInt64}, {math.MaxInt64 - 1, 4096, math.MaxInt64}, {math.MaxInt64, 1, math.MaxInt64},
		{math.MaxInt64 - 1, 2, math.MaxInt64 - 1}, {1, math.MaxInt64, math.MaxInt64}, {math.MinInt64, 3, math.MinInt64 + 2}, {math.MinInt64, math.MinInt64, math.MinInt64},
	} {
		if got := mmapio.AlignUp(c[0], c[1]); got != c[2] {
			t.Errorf("AlignUp(%d, %d) is %d, want %d", c[0], c[1], got, c[2])
		}
	}
	if mmapio.PageSize() != os.Getpagesize() {
		t.Errorf("PageSize is %d", mmapio.PageSize())
	}
}

func FuzzAlignUp(f *testing.F) {
	f.Add(int64(10), int64(7))
	f.Add(int64(math.MaxInt64), int64(4096))
	f.Fuzz(func(t *testing.T, n, alignment int64) {
		got := mmapio.AlignUp(n, alignment)
		switch {
		case alignment < 1:
			if got != n {
				t.Errorf("aligned to %d: %d", alignment, got)
			}
		case got < n || got != math.MaxInt64 && (got%alignment != 0 || uint64(got)-uint64(n) >= uint64(alignment)):
			t.Errorf("AlignUp(%d, %d) is %d", n, alignment, got)
		}
	})
}

// A private copy loses nothing by whatever is advised.
func TestAdviceKeepsPrivateCopies(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings on this system")
	}
	content := patterned(300_000, 1)
	f := openControlledAnywhere(t, newFilled(t, len(content), 1), os.O_RDWR, mmapio.WithCopyOnWrite())
	change := patterned(100_000, 2)
	if _, err := f.WriteAt(change, 50_000); err != nil {
		t.Fatal(err)
	}
	copy(content[50_000:], change)
	v, err := f.View(0, 300_000)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	for _, advice := range everyAdvice {
		if err := f.Advise(0, math.MaxInt64, advice); errors.Is(err, mmapio.ErrReadOnly) || errors.Is(err, mmapio.ErrOutOfRange) {
			t.Errorf("%v: %v", advice, err)
		}
		_ = v.Advise(0, 300_000, advice)
		b := make([]byte, len(content))
		if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, content) {
			t.Fatalf("other bytes after %v, %v", advice, err)
		}
		if !bytes.Equal(v.Bytes(), content) {
			t.Fatalf("other bytes in a View after %v", advice)
		}
	}
	if err := f.Prefault(0, math.MaxInt64); err != nil {
		t.Error(err)
	}
	if err := f.Lock(0, 4096); err == nil {
		if err := f.UnlockAll(); err != nil {
			t.Error(err)
		}
	}
}
