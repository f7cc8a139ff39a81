package mmapio_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
)

// counted returns by how much each count has gone up while do ran. Counts that do not go
// up are left out.
func counted(do func()) map[string]int64 {
	before := reflect.ValueOf(mmapio.ReadStats())
	do()
	after := reflect.ValueOf(mmapio.ReadStats())
	up := map[string]int64{}
	for i := range before.NumField() {
		if by := after.Field(i).Int() - before.Field(i).Int(); by != 0 {
			up[before.Type().Field(i).Name] = by
		}
	}
	return up
}

// statsFile opens a new file of that size and maps it, where it can be mapped.
func statsFile(t *testing.T, size int) *mmapio.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if !mmapio.MapNow(f) {
		t.Skip("files are not mapped here")
	}
	return f
}

// Each kind of call is counted, and as nothing else.
func TestStatsOfCalls(t *testing.T) {
	const size = 3 << 20
	f := statsFile(t, size)
	b := make([]byte, 64)
	readAt := func(off int64) func() {
		return func() { _, _ = f.ReadAt(b, off) }
	}
	for _, c := range []struct {
		name, field string
		prepare, do func()
	}{
		{"a cold page", "CallsCold", func() { mmapio.Forget(f) }, readAt(8192)},
		{"a page in memory", "", readAt(8192), readAt(8200)},
		{"the end of the file", "CallsBeyond", nil, readAt(size - 10)},
		{"behind the end", "CallsBeyond", nil, readAt(2 * size)},
		{"a cold write", "CallsCold", func() { mmapio.Forget(f) }, func() { _, _ = f.WriteAt(b, 4096) }},
		{"an append", "CallsBeyond", nil, func() { _, _ = f.WriteAt(b, size) }},
		{"no bytes", "CallsOther", nil, func() { _, _ = f.ReadAt(nil, 0) }},
		{"a file that is not mapped", "CallsUnmapped", func() { mmapio.Unmap(f) }, readAt(0)},
		{"a position that others can move", "CallsShared", func() { mmapio.MapNow(f); f.Fd() }, func() { _, _ = f.Read(b) }},
	} {
		if c.prepare != nil {
			c.prepare()
		}
		up := counted(c.do)
		var calls int64
		for field, by := range up {
			if strings.HasPrefix(field, "Calls") {
				calls += by
			}
		}
		want := int64(1)
		if c.field == "" {
			want = 0
		}
		if calls != want || want == 1 && up[c.field] != 1 {
			t.Errorf("%s: %v, want %d %s", c.name, up, want, c.field)
		}
	}
}

// What is mapped is counted as long as it is, and what was mapped as well.
func TestStatsOfMappings(t *testing.T) {
	f := statsFile(t, 1<<20)
	if up := counted(func() { mmapio.Unmap(f) }); up["Mappings"] != -1 || up["MappedBytes"] >= 0 {
		t.Errorf("giving up a mapping: %v", up)
	}
	if up := counted(func() { mmapio.MapNow(f) }); up["Mappings"] != 1 || up["MappedBytes"] < 1<<20 || up["MappingsMade"] != 1 {
		t.Errorf("mapping a file: %v", up)
	}
	if s := mmapio.ReadStats(); s.RetainedBytes < s.MappedBytes || s.MappedBytes < 1<<20 {
		t.Errorf("less is retained than is mapped: %+v", s)
	}
	mmapio.Unmap(f)
	restore := mmapio.Intercept(func(call string) error {
		if call == "mapFile" {
			return errors.New("no memory")
		}
		return nil
	})
	up := counted(func() { mmapio.MapNow(f) })
	restore()
	if up["MappingsRefused"] != 1 || up["MappingsMade"] != 0 {
		t.Errorf("a mapping that was refused: %v", up)
	}
}

func TestStatsOfFlushes(t *testing.T) {
	f := statsFile(t, 1<<20)
	broken := errors.New("broken")
	if up := counted(func() {
		_, _ = f.WriteAt([]byte("x"), 0)
		for _, flush := range []func() error{f.Flush, f.Sync, func() error { return f.FlushRange(0, 10) }} {
			if err := flush(); err != nil {
				t.Fatal(err)
			}
		}
	}); up["Flushes"] != 3 || up["FlushFailures"] != 0 {
		t.Errorf("three flushes: %v", up)
	}
	defer mmapio.Intercept(func(call string) error {
		if call == "datasync" {
			return broken
		}
		return nil
	})()
	if up := counted(func() {
		if err := f.Flush(); !errors.Is(err, broken) {
			t.Fatal(err)
		}
	}); up["Flushes"] != 0 || up["FlushFailures"] != 1 {
		t.Errorf("a flush that failed: %v", up)
	}
}

// A fault that was caught is counted, and answered by the true path.
func TestStatsOfFaults(t *testing.T) {
	const size = 1 << 20
	f := statsFile(t, size)
	b := make([]byte, 64)
	for range 3 {
		if _, err := f.ReadAt(b, size-4096); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(f.Name(), 4096); err != nil {
		t.Skipf("others cannot cut a file that is mapped here: %v", err)
	}
	up := counted(func() {
		if n, err := f.ReadAt(b, size-4096); n != 0 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
	})
	if up["Faults"] != 1 {
		t.Errorf("%v, want one fault", up)
	}
}

// So is one in a private copy, where it is an error.
func TestStatsOfPrivateFaults(t *testing.T) {
	const size = 1 << 20
	name := newFilled(t, size, 1)
	f := openFor(t, name, os.O_RDWR, mmapio.WithCopyOnWrite())
	if err := os.Truncate(name, 4096); err != nil {
		t.Skipf("others cannot cut a file that is mapped here: %v", err)
	}
	up := counted(func() {
		if n, err := f.WriteAt([]byte("x"), size-100); n != 0 || !errors.Is(err, mmapio.ErrFault) {
			t.Skipf("no fault here: %d, %v", n, err)
		}
	})
	if up["Faults"] != 1 {
		t.Errorf("%v, want one fault", up)
	}
}

// The names in JSON are distinct, and say the unit.
func TestStatsJSON(t *testing.T) {
	text, err := json.Marshal(mmapio.ReadStats())
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]int64
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	if want := reflect.TypeFor[mmapio.Stats]().NumField(); len(fields) != want {
		t.Errorf("%d names for %d counts: %s", len(fields), want, text)
	}
}
