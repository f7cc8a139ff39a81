package extras_test

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras"
	"github.com/spf13/afero"
)

// created returns a File of some size, opened for reading and writing.
func created(t *testing.T, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	options = append([]mmapio.Option{mmapio.WithSize(64 << 10)}, options...)
	f, err := mmapio.CreateTemp(t.TempDir(), "", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The ways to wrap a file.
type (
	asAny      struct{ inner any }
	asAfero    struct{ inner afero.File }
	asFS       struct{ inner fs.File }
	asReaderAt struct{ inner io.ReaderAt }
	asOS       struct{ inner *os.File }
)

func (w asAny) Unwrap() any              { return w.inner }
func (w asAfero) Unwrap() afero.File     { return w.inner }
func (w asFS) Unwrap() fs.File           { return w.inner }
func (w asReaderAt) Unwrap() io.ReaderAt { return w.inner }
func (w asOS) Unwrap() *os.File          { return w.inner }

func TestFind(t *testing.T) {
	f, other := created(t), created(t)
	memory, err := afero.NewMemMapFs().Create("memory")
	if err != nil {
		t.Fatal(err)
	}
	var endless asAny
	endless.inner = &endless
	for _, c := range []struct {
		name string
		file any
		want *mmapio.File
	}{
		{"itself", f, f},
		{"BasePathFile", &afero.BasePathFile{File: f}, f},
		{"UnionFile of a base", &afero.UnionFile{Base: f}, f},
		{"UnionFile of a layer", &afero.UnionFile{Layer: f}, f},
		{"UnionFile of both", &afero.UnionFile{Base: other, Layer: f}, f},
		{"UnionFile with a layer in memory", &afero.UnionFile{Base: f, Layer: memory}, nil},
		{"BasePathFile around UnionFile", &afero.BasePathFile{File: &afero.UnionFile{Layer: &afero.BasePathFile{File: f}}}, f},
		{"Unwrap any", asAny{f}, f},
		{"Unwrap afero.File", asAfero{f}, f},
		{"Unwrap fs.File", asFS{f}, f},
		{"Unwrap io.ReaderAt", asReaderAt{f}, f},
		{"Unwrap around Unwrap", asAny{asAfero{&afero.BasePathFile{File: f}}}, f},
		{"os.File", asOS{f.OSFile()}, nil},
		{"nil", nil, nil},
		{"wraps nothing", asAny{}, nil},
		{"nil BasePathFile", (*afero.BasePathFile)(nil), nil},
		{"nil UnionFile", (*afero.UnionFile)(nil), nil},
		{"empty BasePathFile", &afero.BasePathFile{}, nil},
		{"empty UnionFile", &afero.UnionFile{}, nil},
		{"memory", memory, nil},
		{"a number", 5, nil},
		{"wraps itself", &endless, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, ok := extras.Find[*mmapio.File](c.file)
			if ok != (c.want != nil) || found != c.want {
				t.Errorf("found %v, %v", found, ok)
			}
		})
	}
	if file, ok := extras.Find[*os.File](asOS{f.OSFile()}); !ok || file != f.OSFile() {
		t.Error("the os.File was not found")
	}
}

// functions are all helpers, each called with a file.
var functions = []struct {
	name  string
	views bool // a View has it too
	call  func(file any) error
}{
	{"Advise", true, func(f any) error { return extras.Advise(f, 0, 4096, mmapio.AdviceWillNeed) }},
	{"Lock", true, func(f any) error { return extras.Lock(f, 0, 4096) }},
	{"LockOnFault", true, func(f any) error { return extras.LockOnFault(f, 0, 4096) }},
	{"Unlock", true, func(f any) error { return extras.Unlock(f, 0, 4096) }},
	{"LockAll", true, extras.LockAll},
	{"UnlockAll", true, extras.UnlockAll},
	{"View", false, func(f any) error {
		v, err := extras.View(f, 0, 10)
		v.Release()
		return err
	}},
	{"Chunks", false, func(f any) error {
		chunks, err := extras.Chunks(f, 1000)
		if err != nil {
			return err
		}
		return goThrough(chunks)
	}},
	{"Pages", false, func(f any) error {
		chunks, err := extras.Pages(f)
		if err != nil {
			return err
		}
		return goThrough(chunks)
	}},
	{"UpdateChunks", false, func(f any) error {
		return extras.UpdateChunks(f, 1000, func(off int64, chunk []byte) error { return nil })
	}},
	{"Words", true, func(f any) error {
		words, release, err := extras.Words(f, 4096, 4096)
		if err != nil {
			return err
		}
		defer release()
		word, err := words.Uint64(8)
		if err == nil {
			word.Add(1)
		}
		return err
	}},
	{"HugePages", true, func(f any) error { _, err := extras.HugePages(f); return err }},
	{"Prefault", true, func(f any) error { return extras.Prefault(f, 0, 4096) }},
	{"Residency", true, func(f any) error { _, err := extras.Residency(f, 0, 4096); return err }},
	{"Commit", false, extras.Commit},
	{"Discard", false, func(f any) error { return extras.Discard(f, 0, 4096) }},
	{"Flush", true, extras.Flush},
	{"FlushRange", true, func(f any) error { return extras.FlushRange(f, 0, 4096) }},
	{"FlushAsync", false, extras.FlushAsync},
}

func goThrough(chunks *mmapio.Chunks) error {
	for range chunks.All() {
	}
	return chunks.Err()
}

// Every helper reaches a File behind every wrapper: the answer is the same as that of the
// File itself. An unsupported feature of the system is no failure of the helper: the error
// of the File names it.
func TestHelpersReach(t *testing.T) {
	f := created(t)
	for _, function := range functions {
		t.Run(function.name, func(t *testing.T) {
			want := function.call(f)
			if want != nil && !errors.As(want, new(*fs.PathError)) {
				t.Errorf("the File itself says %v", want)
			}
			for _, wrapped := range []any{
				&afero.BasePathFile{File: f}, &afero.UnionFile{Layer: f}, &afero.UnionFile{Base: f},
				asAny{f}, asAfero{f}, asFS{f}, asReaderAt{f}, asAfero{&afero.UnionFile{Layer: &afero.BasePathFile{File: f}}},
			} {
				got := function.call(wrapped)
				if (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
					t.Errorf("in a %T: %v, want %v", wrapped, got, want)
				}
			}
		})
	}
}

// A View has what a View can do, for those who have it as an io.ReaderAt; the rest says so.
func TestHelpersReachViews(t *testing.T) {
	v, err := created(t).View(0, 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	for _, function := range functions {
		for _, file := range []any{v, asReaderAt{v}, asAny{asReaderAt{v}}} {
			err := function.call(file)
			if function.views && err != nil && !errors.As(err, new(*fs.PathError)) {
				t.Errorf("%s of a %T: %v", function.name, file, err)
			}
			if !function.views && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s of a %T: %v, want %v", function.name, file, err, errors.ErrUnsupported)
			}
		}
	}
}

// Words of a part of a View are those of the View, and none outside of the part.
func TestWordsOfView(t *testing.T) {
	v, err := created(t).View(4096, 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	words, release, err := extras.Words(asReaderAt{v}, 1024, 64)
	if err != nil {
		t.Fatal(err)
	}
	release() // does nothing to the View
	outer, err := v.Uint64s(1024, 8)
	if err != nil {
		t.Fatal(err)
	}
	for i := range outer {
		outer[i].Store(uint64(100 + i))
	}
	one, err := words.Uint64(56)
	if err != nil || one != &outer[7] {
		t.Errorf("%p, %v, want %p", one, err, &outer[7])
	}
	many, err := words.Uint64s(8, 7)
	if err != nil || len(many) != 7 || &many[0] != &outer[1] {
		t.Errorf("%d words, %v", len(many), err)
	}
	calls := map[string]func(off int64, n int) error{
		"Uint32": func(off int64, n int) error { _, err := words.Uint32(off); return err }, "Uint32s": func(off int64, n int) error { _, err := words.Uint32s(off, n); return err },
		"Uint64": func(off int64, n int) error { _, err := words.Uint64(off); return err }, "Uint64s": func(off int64, n int) error { _, err := words.Uint64s(off, n); return err },
		"Int32": func(off int64, n int) error { _, err := words.Int32(off); return err }, "Int32s": func(off int64, n int) error { _, err := words.Int32s(off, n); return err },
		"Int64": func(off int64, n int) error { _, err := words.Int64(off); return err }, "Int64s": func(off int64, n int) error { _, err := words.Int64s(off, n); return err },
	}
	for name, call := range calls {
		for _, off := range []int64{0, 8, 56} {
			if err := call(off, 1); err != nil {
				t.Errorf("%s(%d): %v", name, off, err)
			}
		}
		for _, off := range []int64{-8, 64, 1 << 20, math.MaxInt64, math.MinInt64} {
			if err := call(off, 1); !errors.Is(err, mmapio.ErrOutOfRange) {
				t.Errorf("%s(%d): %v, want %v", name, off, err, mmapio.ErrOutOfRange)
			}
		}
		if !strings.HasSuffix(name, "s") {
			continue
		}
		for _, n := range []int{-1, 17, math.MaxInt, math.MinInt} {
			if err := call(0, n); !errors.Is(err, mmapio.ErrOutOfRange) {
				t.Errorf("%s(0, %d): %v, want %v", name, n, err, mmapio.ErrOutOfRange)
			}
		}
	}
	var misaligned *mmapio.AlignError
	if _, err := words.Uint64(4); !errors.As(err, &misaligned) {
		t.Errorf("%v, want an AlignError", err)
	}
	for _, bad := range [][2]int64{{-1, 8}, {0, -1}, {math.MaxInt64, 1}} {
		if _, _, err := extras.Words(v, bad[0], bad[1]); !errors.Is(err, mmapio.ErrOutOfRange) {
			t.Errorf("Words at %d: %v", bad, err)
		}
	}
	// What is promised and not there is an error of the View.
	words, _, err = extras.Words(v, 16<<10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := words.Uint32(0); !errors.Is(err, mmapio.ErrOutOfRange) {
		t.Errorf("behind the View: %v", err)
	}
}

// What has no such feature says so.
func TestHelpersMiss(t *testing.T) {
	plain, err := os.Open(filepath.Dir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, function := range functions {
		files := []any{nil, 7, &afero.BasePathFile{}, &afero.UnionFile{}, (*afero.BasePathFile)(nil), asAny{}}
		if function.name != "Flush" && function.name != "FlushRange" { // what can be synced can be flushed
			files = append(files, plain)
		}
		for _, file := range files {
			if err := function.call(file); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s of %T: %v, want %v", function.name, file, err, errors.ErrUnsupported)
			}
		}
	}
}

// flushes counts what it is asked for.
type flushes struct {
	afero.File
	flushed, ranges int
	err             error
}

func (f *flushes) Flush() error                  { f.flushed++; return f.err }
func (f *flushes) FlushRange(off, n int64) error { f.ranges++; return f.err }

type syncs struct {
	afero.File
	synced int
}

func (f *syncs) Sync() error { f.synced++; return nil }

// Both files of a UnionFile are written, and so both are made durable; what has no Flush
// is synced.
func TestFlushBoth(t *testing.T) {
	failure := errors.New("failure")
	base, layer := &flushes{err: failure}, &syncs{}
	both := &afero.BasePathFile{File: &afero.UnionFile{Base: base, Layer: layer}}
	if err := extras.Flush(both); !errors.Is(err, failure) {
		t.Errorf("%v, want %v", err, failure)
	}
	if err := extras.FlushRange(both, 1, 2); !errors.Is(err, failure) {
		t.Errorf("%v, want %v", err, failure)
	}
	if base.flushed != 1 || base.ranges != 1 || layer.synced != 2 {
		t.Errorf("flushed %d, ranges %d, synced %d", base.flushed, base.ranges, layer.synced)
	}
}
