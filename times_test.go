package mmapio_test

import (
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// longAgo is the modification time that files are given before a test.
var longAgo = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

// timeRows are what may move the modification time.
var timeRows = []struct {
	name  string
	write bool // it moves the time
	run   func(f file) error
}{
	{"nothing", false, func(f file) error { return nil }},
	{"Read", false, func(f file) error { _, err := f.Read(make([]byte, 10)); return err }},
	{"ReadAt", false, func(f file) error { _, err := f.ReadAt(make([]byte, 10), 5); return err }},
	{"Seek", false, func(f file) error { _, err := f.Seek(5, io.SeekStart); return err }},
	{"WriteTo", false, func(f file) error { _, err := f.WriteTo(io.Discard); return err }},
	{"Write of nothing", false, func(f file) error { _, err := f.Write(nil); return err }},
	{"WriteAt of nothing", false, func(f file) error { _, err := f.WriteAt(nil, 10); return err }},
	{"ReadFrom nothing", false, func(f file) error { _, err := f.ReadFrom(strings.NewReader("")); return err }},
	{"WriteAt that fails", false, func(f file) error { f.WriteAt([]byte("x"), -1); return nil }},
	{"Truncate that fails", false, func(f file) error { f.Truncate(-1); return nil }},
	{"Write", true, func(f file) error { _, err := f.Write([]byte("x")); return err }},
	{"WriteString", true, func(f file) error { _, err := f.WriteString("x"); return err }},
	{"WriteAt", true, func(f file) error { _, err := f.WriteAt([]byte("x"), 10); return err }},
	{"many WriteAt", true, func(f file) error {
		for i := range 100 {
			if _, err := f.WriteAt([]byte("x"), int64(i)); err != nil {
				return err
			}
		}
		return nil
	}},
	{"WriteAt past the end", true, func(f file) error { _, err := f.WriteAt([]byte("x"), 10_000); return err }},
	{"ReadFrom", true, func(f file) error { _, err := f.ReadFrom(strings.NewReader("x")); return err }},
	{"Truncate", true, func(f file) error { return f.Truncate(100) }},
}

// movedTime reports whether the modification time that info tells has been moved.
func movedTime(t *testing.T, info os.FileInfo, err error) bool {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if info.ModTime().Equal(longAgo) {
		return false
	}
	if age := time.Since(info.ModTime()); age < -time.Minute || age > time.Minute {
		t.Errorf("the modification time is %v", info.ModTime())
	}
	return true
}

// What writes moves the modification time, as seen through the File, by others after
// Sync and by others after Close. What does not write leaves it.
func TestModificationTime(t *testing.T) {
	looks := []struct {
		name string
		look func(t *testing.T, s *side, f file) bool
	}{
		{"Stat", func(t *testing.T, s *side, f file) bool {
			info, err := f.Stat()
			return movedTime(t, info, err)
		}},
		{"others after Stat", func(t *testing.T, s *side, f file) bool {
			if _, err := f.Stat(); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(s.path("file"))
			return movedTime(t, info, err)
		}},
		{"others after Sync", func(t *testing.T, s *side, f file) bool {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(s.path("file"))
			return movedTime(t, info, err)
		}},
		{"others after Close", func(t *testing.T, s *side, f file) bool {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(s.path("file"))
			return movedTime(t, info, err)
		}},
		{"others after Fd", func(t *testing.T, s *side, f file) bool {
			f.Fd()
			info, err := os.Stat(s.path("file"))
			return movedTime(t, info, err)
		}},
	}
	for _, row := range timeRows {
		t.Run(row.name, func(t *testing.T) {
			for _, look := range looks {
				dir := memoryDir(t)
				outcome := func(s *side) bool {
					defer os.RemoveAll(s.dir)
					defer s.finish()
					if err := os.Mkdir(s.dir, 0o777); err != nil {
						t.Fatal(err)
					}
					f := s.ownFile("file", content)
					warm(f)
					// Stored to before: the page is in the page table, for writing.
					if _, err := f.WriteAt([]byte("before"), 0); err != nil {
						t.Fatal(err)
					}
					if _, err := f.Stat(); err != nil {
						t.Fatal(err)
					}
					if err := os.Chtimes(s.path("file"), longAgo, longAgo); err != nil {
						t.Fatal(err)
					}
					if err := row.run(f); err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
					return look.look(t, s, f)
				}
				if want := outcome(osSide(dir + "/os")); want != row.write {
					t.Fatalf("os.File: moved %v", want)
				}
				for _, mapping := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways, mmapio.MapNever} {
					if got := outcome(mmapioSide(dir+"/mm", mmapio.WithMapping(mapping))); got != row.write {
						t.Errorf("%s, mapping %d: moved %v", look.name, mapping, got)
					}
				}
			}
		})
	}
}

// The modification time follows a store without any further call, within about a second.
func TestModificationTimeFollows(t *testing.T) {
	s := mmapioSide(memoryDir(t), mmapio.WithMapping(mmapio.MapAlways))
	defer s.finish()
	f := s.ownFile("file", content)
	warm(f)
	for round := range 2 {
		if _, err := f.Stat(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(s.path("file"), longAgo, longAgo); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("stored"), 100); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			info, err := os.Stat(s.path("file"))
			if movedTime(t, info, err) {
				break
			}
			if time.Since(start) > 10*time.Second {
				t.Fatalf("round %d: the modification time stays", round)
			}
		}
	}
}

// Flushes in quick succession move the time now and then, and what they leave is made up for.
func TestFlushesMoveTheTimeRarely(t *testing.T) {
	f := openWarm(t, newFilled(t, 100_000, 1))
	if !mmapio.IsMapped(f) {
		t.Skip("not mapped here")
	}
	var stamps atomic.Int64
	defer mmapio.Intercept(func(name string) error {
		if name == "stamp" {
			stamps.Add(1)
		}
		return nil
	})()
	store := func(at int64) {
		t.Helper()
		for range mmapio.CallsAfterFlush + 1 { // the last of them is a store
			if _, err := f.WriteAt([]byte("stored"), at); err != nil {
				t.Fatal(err)
			}
		}
	}
	const flushes = 300
	start := time.Now()
	for i := range flushes {
		store(int64(i))
		if err := f.FlushRange(0, 4096); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	// Two, at the first store and at a flush, for each while that time is left alone.
	if n, most := stamps.Load(), int64(2*(took/mmapio.StampApart)+4); n > most || n == 0 {
		t.Errorf("moved %d times by %d flushes in %v, want %d at most", n, flushes, took, most)
	}
	// What was left alone is made up for when somebody asks.
	stamps.Store(0)
	store(0)
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stat(); err != nil {
		t.Fatal(err)
	}
	if stamps.Load() == 0 {
		t.Error("not moved before Stat")
	}
}

// A time that was set after the last write stays over Stat, Sync and Close: also the one that
// the file had before it, which those set who change a file without letting that be seen.
func TestModificationTimeStays(t *testing.T) {
	had := longAgo.AddDate(5, 0, 0)
	for _, set := range []struct {
		name string
		time time.Time
	}{
		{"to an earlier one", longAgo},
		{"to the one it had", had},
		{"to a later one", had.AddDate(5, 0, 0)},
		{"to the future", time.Now().Truncate(time.Minute).AddDate(1, 0, 0)},
	} {
		for _, mapping := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways, mmapio.MapNever} {
			for _, before := range []string{"nothing", "Stat"} {
				s := mmapioSide(memoryDir(t), mmapio.WithMapping(mapping))
				f := s.ownFile("file", content)
				if err := os.Chtimes(s.path("file"), had, had); err != nil {
					t.Fatal(err)
				}
				warm(f)
				if _, err := f.WriteAt([]byte("stored"), 100); err != nil {
					t.Fatal(err)
				}
				if before == "Stat" {
					if _, err := f.Stat(); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chtimes(s.path("file"), set.time, set.time); err != nil {
					t.Fatal(err)
				}
				for _, call := range []struct {
					name string
					do   func() error
				}{
					{"Stat", func() error { _, err := f.Stat(); return err }},
					{"Sync", f.Sync},
					{"Close", f.Close},
				} {
					if err := call.do(); err != nil {
						t.Fatal(err)
					}
					info, err := os.Stat(s.path("file"))
					if err != nil {
						t.Fatal(err)
					}
					if !info.ModTime().Equal(set.time) {
						t.Errorf("mapping %d, set %s, %s before: %s moved it from %v to %v", mapping, set.name, before, call.name, set.time, info.ModTime())
					}
				}
				s.finish()
			}
		}
	}
}

// Stores to Views move the modification time like those of WriteAt.
func TestModificationTimeOfViews(t *testing.T) {
	needStores(t)
	stat := func(f *mmapio.File, _ *mmapio.View) error { _, err := f.Stat(); return err }
	flush := func(_ *mmapio.File, v *mmapio.View) error { return v.Flush() }
	shut := func(f *mmapio.File, _ *mmapio.View) error { return f.Close() }
	writeAt := func(_ *mmapio.File, v *mmapio.View) error { return all(6)(v.WriteAt([]byte("stored"), 100)) }
	update := func(f *mmapio.File, _ *mmapio.View) error {
		return f.UpdateChunks(4096, func(_ int64, chunk []byte) error { chunk[0]++; return nil })
	}
	store := func(_ *mmapio.File, v *mmapio.View) error {
		return v.Do(func(b []byte) error { b[50]++; return nil })
	}
	for _, row := range []struct {
		name        string
		store, look func(*mmapio.File, *mmapio.View) error
	}{
		{"WriteAt, Stat", writeAt, stat},
		{"WriteAt, Close", writeAt, shut},
		{"UpdateChunks, Stat", update, stat},
		{"UpdateChunks, Close", update, shut},
		{"WriteAt, Flush", writeAt, flush},
		{"Do, Flush", store, flush},
	} {
		name := newFilled(t, 100_000, 1)
		f := openFor(t, name, os.O_RDWR)
		v := viewOf(t, f, 0, 100_000)
		for _, dirty := range []func(*mmapio.File, *mmapio.View) error{update, writeAt, store, flush, stat} {
			if err := dirty(f, v); err != nil { // from here on the system does not move the time of its own accord
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(name, longAgo, longAgo); err != nil {
			t.Fatal(err)
		}
		if err := row.store(f, v); err != nil {
			t.Fatal(err)
		}
		if err := row.look(f, v); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); !movedTime(t, info, err) {
			t.Errorf("%s: the modification time stays", row.name)
		}
	}
}
