package extras_test

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
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

// functions are all helpers, each called with a file. An unsupported feature of the
// system is no failure of the helper: reached says that the File was asked.
var functions = []struct {
	name string
	call func(file any) error
}{
	{"Advise", func(f any) error { return extras.Advise(f, 0, math.MaxInt64, mmapio.AdviceWillNeed) }},
	{"Lock", func(f any) error { return extras.Lock(f, 0, 4096) }},
	{"LockOnFault", func(f any) error { return extras.LockOnFault(f, 0, 4096) }},
	{"Unlock", func(f any) error { return extras.Unlock(f, 0, 4096) }},
	{"LockAll", extras.LockAll},
	{"UnlockAll", extras.UnlockAll},
	{"View", func(f any) error {
		v, err := extras.View(f, 0, 10)
		v.Release()
		return err
	}},
	{"Chunks", func(f any) error {
		chunks, err := extras.Chunks(f, 1000)
		if err != nil {
			return err
		}
		for range chunks.All() {
		}
		return chunks.Err()
	}},
	{"Words", func(f any) error {
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
	{"HugePages", func(f any) error { _, err := extras.HugePages(f); return err }},
	{"Prefault", func(f any) error { return extras.Prefault(f, 0, 4096) }},
	{"Residency", func(f any) error { _, err := extras.Residency(f, 0, 4096); return err }},
	{"Commit", extras.Commit},
	{"Discard", func(f any) error { return extras.Discard(f, 0, 4096) }},
	{"Flush", extras.Flush},
	{"FlushRange", func(f any) error { return extras.FlushRange(f, 0, 4096) }},
}

// Every helper reaches a File behind wrappers: the answer is the same as that of the File
// itself.
func TestHelpersReach(t *testing.T) {
	f := created(t)
	for _, function := range functions {
		t.Run(function.name, func(t *testing.T) {
			want := function.call(f)
			got := function.call(asAfero{&afero.UnionFile{Layer: &afero.BasePathFile{File: f}}})
			if (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
				t.Errorf("%v, want %v", got, want)
			}
			if want != nil && !errors.As(want, new(*fs.PathError)) {
				t.Errorf("the File itself says %v", want)
			}
		})
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
