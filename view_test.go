package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
)

// needMappings skips where there are none, having seen that a View says so.
func needMappings(t testing.TB) {
	t.Helper()
	if mmapio.SupportsMapping {
		return
	}
	f := temporary(t, 100)
	if v, err := f.View(0, 10); v != nil || !errors.Is(err, errors.ErrUnsupported) || !errors.As(err, new(*fs.PathError)) {
		t.Errorf("View: %v, %v", v, err)
	}
	t.Skip("no mappings on this system")
}

func viewOf(t testing.TB, f *mmapio.File, off, n int64) *mmapio.View {
	t.Helper()
	v, err := f.View(off, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Release)
	return v
}

func openFor(t testing.TB, name string, flag int, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(name, flag, 0o666, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// viewRows are the methods of a View. Each returns the error of a call that is in order.
var viewRows = map[string]func(v *mmapio.View) error{
	"ReadAt":     func(v *mmapio.View) error { _, err := v.ReadAt(make([]byte, 1), 8); return err },
	"WriteAt":    func(v *mmapio.View) error { _, err := v.WriteAt([]byte("x"), 8); return err },
	"Do":         func(v *mmapio.View) error { return v.Do(func(b []byte) error { sink += len(b); return nil }) },
	"Flush":      func(v *mmapio.View) error { return v.Flush() },
	"FlushRange": func(v *mmapio.View) error { return v.FlushRange(8, 1) },
	"Uint32":     func(v *mmapio.View) error { _, err := v.Uint32(8); return err },
	"Uint64":     func(v *mmapio.View) error { _, err := v.Uint64(8); return err },
	"Int32":      func(v *mmapio.View) error { _, err := v.Int32(8); return err },
	"Int64":      func(v *mmapio.View) error { _, err := v.Int64(8); return err },
	"Uint32s":    func(v *mmapio.View) error { _, err := v.Uint32s(8, 2); return err },
	"Uint64s":    func(v *mmapio.View) error { _, err := v.Uint64s(8, 2); return err },
	"Int32s":     func(v *mmapio.View) error { _, err := v.Int32s(8, 2); return err },
	"Int64s":     func(v *mmapio.View) error { _, err := v.Int64s(8, 2); return err },
}

// viewInfos are the methods that return no error, with the results of a View of 1000
// bytes at 4096.
var viewInfos = map[string]func(v *mmapio.View) any{
	"Bytes":    func(v *mmapio.View) any { return len(v.Bytes()) },
	"Offset":   func(v *mmapio.View) any { return v.Offset() },
	"Len":      func(v *mmapio.View) any { return v.Len() },
	"Writable": func(v *mmapio.View) any { return v.Writable() },
	"Release":  func(v *mmapio.View) any { v.Release(); return nil },
}

// Each method of a View in each state it can be in.
func TestEveryMethodOfEveryView(t *testing.T) {
	needMappings(t)
	all := func(err error) map[string]error {
		errs := make(map[string]error)
		for row := range viewRows {
			errs[row] = err
		}
		return errs
	}
	stores := all(mmapio.ErrReadOnly)
	for _, row := range []string{"ReadAt", "Do", "Flush", "FlushRange"} {
		delete(stores, row)
	}
	tooShort := all(mmapio.ErrOutOfRange)
	tooShort["ReadAt"] = io.EOF
	delete(tooShort, "Do")
	delete(tooShort, "Flush")
	closed := map[string]error{}
	if !mmapio.SyncCoversMappings {
		closed["Flush"], closed["FlushRange"] = fs.ErrClosed, fs.ErrClosed
	}
	open := func(flag int, options ...mmapio.Option) func(t *testing.T) *mmapio.View {
		return func(t *testing.T) *mmapio.View {
			return viewOf(t, openFor(t, newFilled(t, 10_000, 1), flag, options...), 4096, 1000)
		}
	}
	for _, state := range []struct {
		name     string
		open     func(t *testing.T) *mmapio.View
		want     map[string]error
		off      int64
		length   int
		writable bool
	}{
		{"nil", func(*testing.T) *mmapio.View { return nil }, all(os.ErrInvalid), 0, 0, false},
		{"zero", func(*testing.T) *mmapio.View { return new(mmapio.View) }, all(os.ErrInvalid), 0, 0, false},
		{"released", func(t *testing.T) *mmapio.View {
			v := open(os.O_RDWR)(t)
			v.Release()
			return v
		}, all(fs.ErrClosed), 4096, 0, false},
		{"released and empty", func(t *testing.T) *mmapio.View {
			v := viewOf(t, openFor(t, newFilled(t, 10, 1), os.O_RDWR), 10, 0)
			v.Release()
			return v
		}, all(fs.ErrClosed), 10, 0, false},
		{"empty", func(t *testing.T) *mmapio.View {
			return viewOf(t, openFor(t, newFilled(t, 10, 1), os.O_RDWR), 10, 0)
		}, tooShort, 10, 0, false},
		{"read-write", open(os.O_RDWR), nil, 4096, 1000, true},
		{"read-only", open(os.O_RDONLY), stores, 4096, 1000, false},
		{"append", open(os.O_RDWR | os.O_APPEND), stores, 4096, 1000, false},
		{"synchronous", open(os.O_RDWR | os.O_SYNC), stores, 4096, 1000, false},
		{"alone, read-write", open(os.O_RDWR, mmapio.WithMapping(mmapio.MapNever)), nil, 4096, 1000, true},
		{"alone, read-only", open(os.O_RDONLY, mmapio.WithMapping(mmapio.MapNever)), stores, 4096, 1000, false},
		{"preallocating", open(os.O_RDWR, mmapio.WithPreallocate(100_000)), nil, 4096, 1000, true},
		{"of a closed File", func(t *testing.T) *mmapio.View {
			f := openFor(t, newFilled(t, 10_000, 1), os.O_RDWR)
			v := viewOf(t, f, 4096, 1000)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			return v
		}, closed, 4096, 1000, true},
		{"of a detached File", func(t *testing.T) *mmapio.View {
			f := openFor(t, newFilled(t, 10_000, 1), os.O_RDWR)
			v := viewOf(t, f, 4096, 1000)
			file, err := f.Detach()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			return v
		}, closed, 4096, 1000, true},
	} {
		t.Run(state.name, func(t *testing.T) {
			if state.writable && !mmapio.SupportsStamp {
				t.Skip("nothing is stored through mappings on this system")
			}
			v := state.open(t)
			for row, call := range viewRows {
				err := call(v)
				if want := state.want[row]; !errors.Is(err, want) || want == nil && err != nil {
					t.Errorf("%s: %v, want %v", row, err, want)
				}
				if err != nil && err != io.EOF && err != os.ErrInvalid && !errors.As(err, new(*fs.PathError)) {
					t.Errorf("%s: a bare %T", row, err)
				}
			}
			for row, want := range map[string]any{"Bytes": state.length, "Offset": state.off, "Len": state.length, "Writable": state.writable} {
				if got := viewInfos[row](v); got != want {
					t.Errorf("%s: %v, want %v", row, got, want)
				}
			}
			for range 2 {
				viewInfos["Release"](v)
				if v.Bytes() != nil || v.Len() != 0 || v.Writable() {
					t.Error("there is something left after Release")
				}
			}
		})
	}
	for method := range reflect.TypeFor[*mmapio.View]().Methods() {
		if viewRows[method.Name] == nil && viewInfos[method.Name] == nil && !slicesOfMemory[method.Name] {
			t.Errorf("there is no row for %s", method.Name)
		}
	}
}

// slicesOfMemory are the methods of a View that are tested where those of a File are.
var slicesOfMemory = map[string]bool{
	"Advise": true, "Lock": true, "LockAll": true, "LockOnFault": true, "Unlock": true, "UnlockAll": true,
	"Prefault": true, "Resident": true, "HugePages": true,
}

// A File in each state gives a View and chunks, or the right error.
func TestViewOfEveryFile(t *testing.T) {
	needMappings(t)
	open := func(flag int, options ...mmapio.Option) func(t *testing.T) *mmapio.File {
		return func(t *testing.T) *mmapio.File {
			return openFor(t, newFilled(t, 10_000, 1), flag, options...)
		}
	}
	for _, state := range []struct {
		name string
		open func(t *testing.T) *mmapio.File
		want error
		text string
	}{
		{"nil", func(*testing.T) *mmapio.File { return nil }, os.ErrInvalid, ""},
		{"zero", func(*testing.T) *mmapio.File { return new(mmapio.File) }, os.ErrInvalid, ""},
		{"closed", func(t *testing.T) *mmapio.File {
			f := open(os.O_RDWR)(t)
			f.Close()
			return f
		}, fs.ErrClosed, ""},
		{"closed after a View", func(t *testing.T) *mmapio.File {
			f := open(os.O_RDWR)(t)
			viewOf(t, f, 0, 10)
			f.Close()
			return f
		}, fs.ErrClosed, ""},
		{"detached", func(t *testing.T) *mmapio.File {
			f := open(os.O_RDWR)(t)
			viewOf(t, f, 0, 10)
			file, err := f.Detach()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			return f
		}, fs.ErrClosed, ""},
		{"write-only", open(os.O_WRONLY), fs.ErrPermission, "opened for reading too"},
		{"read-only", open(os.O_RDONLY), nil, ""},
		{"read-write", open(os.O_RDWR), nil, ""},
		{"append", open(os.O_RDWR | os.O_APPEND), nil, ""},
		{"never mapped", open(os.O_RDWR, mmapio.WithMapping(mmapio.MapNever)), nil, ""},
		{"always mapped", open(os.O_RDWR, mmapio.WithMapping(mmapio.MapAlways)), nil, ""},
		{"from a file", func(t *testing.T) *mmapio.File {
			file, err := os.OpenFile(newFilled(t, 10_000, 1), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			f, err := mmapio.FromFile(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}, nil, ""},
		{"pipe", func(t *testing.T) *mmapio.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { w.Close() })
			f, err := mmapio.FromFile(r)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}, errAny, "only regular files"},
		{"directory", func(t *testing.T) *mmapio.File { return openFor(t, t.TempDir(), os.O_RDONLY) }, errAny, "only regular files"},
	} {
		t.Run(state.name, func(t *testing.T) {
			f := state.open(t)
			for range 2 {
				v, err := f.View(4096, 1000)
				check := func(what string, err error) {
					t.Helper()
					if (err != nil) != (state.want != nil) || state.want != errAny && !errors.Is(err, state.want) || err != nil && !strings.Contains(err.Error(), state.text) {
						t.Errorf("%s: %v, want %v", what, err, state.want)
					}
					if err != nil && err != os.ErrInvalid && !errors.As(err, new(*fs.PathError)) {
						t.Errorf("%s: a bare %T", what, err)
					}
				}
				check("View", err)
				if err == nil {
					if !bytes.Equal(v.Bytes(), patterned(10_000, 1)[4096:5096]) {
						t.Error("other bytes")
					}
				} else if v != nil {
					t.Error("a View and an error")
				}
				v.Release()
				_, err = f.View(4096, 0)
				check("empty View", err)
				chunks := f.Chunks(999)
				var got []byte
				for off, chunk := range chunks.All() {
					if off != int64(len(got)) {
						t.Fatalf("a chunk at %d, want %d", off, len(got))
					}
					got = append(got, chunk...)
				}
				check("Chunks", chunks.Err())
				if chunks.Err() == nil && !bytes.Equal(got, patterned(10_000, 1)) {
					t.Error("other bytes in chunks")
				}
			}
		})
	}
}

// errAny stands for an error that no sentinel is for.
var errAny = errors.New("any error")

// Ranges at all borders are right, or a *RangeError.
func TestViewRanges(t *testing.T) {
	needMappings(t)
	const most = 1<<63 - 1
	for _, size := range []int64{0, 1, 4096, 10_000} {
		for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}, "preallocating": {mmapio.WithPreallocate(1 << 20)}} {
			f := openFor(t, newFilled(t, int(size), 3), os.O_RDWR, options...)
			if way == "preallocating" {
				if _, err := f.WriteAt(patterned(int(size)+1, 3)[size:], size); err != nil {
					t.Fatal(err)
				}
				size++
			}
			points := []int64{-most - 1, -most, -4096, -1, 0, 1, 4095, 4096, size - 1, size, size + 1, 1 << 31, 1 << 32, 1<<62 + 1, most - 4096, most - 1, most}
			for _, off := range points {
				for _, n := range points {
					inside := off >= 0 && n >= 0 && off <= size && n <= size-off
					v, err := f.View(off, n)
					if inside != (err == nil) {
						t.Errorf("%s, size %d: View(%d, %d): %v", way, size, off, n, err)
					}
					if err != nil {
						wrong, ok := errors.AsType[*mmapio.RangeError](err)
						if !ok || wrong.Offset != off || wrong.Length != n || wrong.Size != size || !errors.Is(err, mmapio.ErrOutOfRange) {
							t.Errorf("%s, size %d: View(%d, %d): %v", way, size, off, n, err)
						}
						continue
					}
					if v.Offset() != off || int64(v.Len()) != n || !bytes.Equal(v.Bytes(), patterned(int(size), 3)[off:off+n]) {
						t.Errorf("%s, size %d: View(%d, %d) is at %d, %d long, or has other bytes", way, size, off, n, v.Offset(), v.Len())
					}
					if cap(v.Bytes()) != len(v.Bytes()) {
						t.Errorf("View(%d, %d) has room for %d", off, n, cap(v.Bytes()))
					}
					v.Release()
				}
			}
		}
	}
}

// The bytes of a View cannot be appended to behind its end, nor resliced beyond.
func TestViewCapacity(t *testing.T) {
	needMappings(t)
	name := newFilled(t, 100, 1)
	f := openFor(t, name, os.O_RDWR)
	v := viewOf(t, f, 10, 20)
	_ = append(v.Bytes(), "behind"...)
	if err := v.Do(func(b []byte) error {
		if cap(b) != 20 {
			t.Errorf("room for %d", cap(b))
		}
		_ = append(b, "behind"...)
		return nil
	}); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, patterned(100, 1)) {
		t.Errorf("the file was written to: %v", err)
	}
}

// A View that a mapping in use gives at once keeps that mapping.
func TestViewOfMappedFileOutlives(t *testing.T) {
	name := newFilled(t, 100_000, 1)
	f := openFor(t, name, os.O_RDWR)
	viewOf(t, f, 0, 10).Release()
	if !mmapio.IsMapped(f) {
		t.Skip("not mapped on this system")
	}
	v := viewOf(t, f, 50_000, 1000)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if err := v.Do(func(b []byte) error {
		if !bytes.Equal(b, patterned(100_000, 1)[50_000:51_000]) {
			return errors.New("other bytes")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// The fault of a View that is mapped for itself names the offset in the file.
func TestFaultOfViewAlone(t *testing.T) {
	needMappings(t)
	if mmapio.MustUnmapToResize {
		t.Skip("files with Views are not cut on this system")
	}
	name := newFilled(t, 100_000, 1)
	f := openFor(t, name, os.O_RDWR, mmapio.WithMapping(mmapio.MapNever))
	v := viewOf(t, f, 50_000, 40_000)
	if err := os.Truncate(name, 40_000); err != nil {
		t.Fatal(err)
	}
	err := v.Do(func(b []byte) error { sink += int(b[30_000]); return nil })
	if fault := faultOf(t, err, name); fault.Offset != 80_000 {
		t.Errorf("a fault at %d", fault.Offset)
	}
}

// A View stays valid whatever happens to the rest of its file, and shows the same bytes
// as the file.
func TestViewOutlives(t *testing.T) {
	needMappings(t)
	const size, off, n = 3 << 20, 1<<20 + 100, 5000
	cut := func(size int64) func(f *mmapio.File) error {
		return func(f *mmapio.File) error {
			err := f.Truncate(size)
			if mmapio.MustUnmapToResize && size < 3<<20 {
				if err == nil {
					return errors.New("a file with a View was cut")
				}
				return nil
			}
			return err
		}
	}
	for _, event := range []struct {
		name string
		do   func(f *mmapio.File) error
	}{
		{"growth", cut(4 << 20)},
		{"growth beyond the window", cut(300 << 20)},
		{"growth by writing", func(f *mmapio.File) error {
			_, err := f.WriteAt([]byte("x"), 200<<20)
			if err != nil {
				return err
			}
			v, err := f.View(200<<20, 1)
			v.Release()
			return err
		}},
		{"cut behind", cut(2 << 20)},
		{"cut right behind", cut(off + n)},
		{"cut and growth", func(f *mmapio.File) error { return errors.Join(cut(off+n)(f), f.Truncate(5<<20)) }},
		{"Close", func(f *mmapio.File) error { return f.Close() }},
		{"Close after a cut", func(f *mmapio.File) error { return errors.Join(cut(2<<20)(f), f.Close()) }},
		{"loss of the mapping", func(f *mmapio.File) error { mmapio.Unmap(f); return nil }},
		{"release of others", func(f *mmapio.File) error {
			for range 10 {
				v, err := f.View(off-10, n+20)
				if err != nil {
					return err
				}
				v.Release()
			}
			return nil
		}},
		{"removal", func(f *mmapio.File) error {
			if err := os.Remove(f.Name()); err != nil && runtime.GOOS != "windows" {
				return err
			}
			return nil
		}},
	} {
		for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
			t.Run(event.name+", "+way, func(t *testing.T) {
				name := newFilled(t, size, 1)
				other, err := os.OpenFile(name, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer other.Close()
				f := openFor(t, name, os.O_RDWR, options...)
				v := viewOf(t, f, off, n)
				overlapping := viewOf(t, f, off+n/2, n/2)
				if err := event.do(f); err != nil {
					t.Fatal(err)
				}
				f = nil
				for range 3 {
					runtime.GC()
				}
				if !bytes.Equal(v.Bytes(), patterned(size, 1)[off:off+n]) {
					t.Fatal("other bytes")
				}
				if _, err := other.WriteAt([]byte("from outside"), off+n-12); err != nil {
					t.Fatal(err)
				}
				if string(v.Bytes()[n-12:]) != "from outside" || string(overlapping.Bytes()[n/2-12:]) != "from outside" {
					t.Error("a write by others is not seen")
				}
				if !v.Writable() {
					return
				}
				copy(v.Bytes()[n/2:], "through the View")
				b := make([]byte, 16)
				if _, err := other.ReadAt(b, off+n/2); err != nil || string(b) != "through the View" || string(overlapping.Bytes()[:16]) != "through the View" {
					t.Errorf("a store is not seen: %q, %v", b, err)
				}
			})
		}
	}
}

// What a View shows and stores is what everybody else sees, at once.
func TestViewCoherence(t *testing.T) {
	needMappings(t)
	const size = 100_000
	helper := newAssistant(t)
	for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
		t.Run(way, func(t *testing.T) {
			name := newFilled(t, size, 1)
			f, g := openFor(t, name, os.O_RDWR, options...), openFor(t, name, os.O_RDWR)
			v, w := viewOf(t, f, 1000, 90_000), viewOf(t, g, 2000, 80_000)
			model := patterned(size, 1)
			check := func(what string) {
				t.Helper()
				if !bytes.Equal(v.Bytes(), model[1000:91_000]) || !bytes.Equal(w.Bytes(), model[2000:82_000]) {
					t.Errorf("%s is not seen", what)
				}
				got := make([]byte, 90_000)
				if _, err := v.ReadAt(got, 0); err != nil || !bytes.Equal(got, model[1000:91_000]) {
					t.Errorf("%s is not seen by View.ReadAt: %v", what, err)
				}
				for _, other := range []*mmapio.File{f, g} {
					if _, err := other.ReadAt(got, 1000); err != nil || !bytes.Equal(got, model[1000:91_000]) {
						t.Errorf("%s is not seen by ReadAt: %v", what, err)
					}
				}
				a, err := helper.do(request{Do: "read", Path: name, Offset: 1000, Length: 90_000})
				if err != nil || a.Err != "" || a.Data != bytesOf(model[1000:91_000]) {
					t.Errorf("%s is not seen by another process: %v", what, err)
				}
			}
			check("nothing")
			if _, err := f.WriteAt([]byte("by WriteAt"), 5000); err != nil {
				t.Fatal(err)
			}
			copy(model[5000:], "by WriteAt")
			check("WriteAt")
			if _, err := helper.do(request{Do: "write", Path: name, Offset: 40_000, Length: 5000, Seed: 9}); err != nil {
				t.Fatal(err)
			}
			copy(model[40_000:], patterned(5000, 9))
			check("a write by another process")
			if !v.Writable() {
				return
			}
			copy(v.Bytes()[20_000:], "stored to the bytes")
			copy(model[21_000:], "stored to the bytes")
			check("a store")
			if n, err := w.WriteAt([]byte("by View.WriteAt"), 30_000); n != 15 || err != nil {
				t.Fatal(n, err)
			}
			copy(model[32_000:], "by View.WriteAt")
			check("View.WriteAt")
			if err := v.Do(func(b []byte) error { clear(b[50_000:60_000]); return nil }); err != nil {
				t.Fatal(err)
			}
			clear(model[51_000:61_000])
			check("Do")
			if err := v.Flush(); err != nil {
				t.Error(err)
			}
			if err := w.FlushRange(100, 50_000); err != nil {
				t.Error(err)
			}
			check("Flush")
		})
	}
}

// Reads and writes of a View stay inside of it.
func TestViewBounds(t *testing.T) {
	needMappings(t)
	f := openFor(t, newFilled(t, 10_000, 1), os.O_RDWR)
	v := viewOf(t, f, 100, 50)
	const most = 1<<63 - 1
	for _, off := range []int64{-most - 1, -1, 0, 49, 50, 51, 1 << 32, most} {
		for _, n := range []int{0, 1, 49, 50, 51, 200} {
			b := make([]byte, n)
			got, err := v.ReadAt(b, off)
			want, wantErr := 0, error(nil)
			switch {
			case off < 0:
				wantErr = mmapio.ErrOutOfRange
			case off >= 50 && n > 0:
				wantErr = io.EOF
			case off < 50:
				if want = min(n, 50-int(off)); want < n {
					wantErr = io.EOF
				}
			}
			if got != want || !errors.Is(err, wantErr) || wantErr == nil && err != nil {
				t.Errorf("ReadAt of %d at %d: %d, %v; want %d, %v", n, off, got, err, want, wantErr)
			}
			if !bytes.Equal(b[:got], patterned(10_000, 1)[100+max(0, min(off, 50)):][:got]) {
				t.Errorf("ReadAt of %d at %d: other bytes", n, off)
			}
			if !v.Writable() {
				continue
			}
			got, err = v.WriteAt(b, off)
			if inside := off >= 0 && off <= 50 && int64(n) <= 50-off; inside != (err == nil) || inside && got != n || !inside && (got != 0 || !errors.Is(err, mmapio.ErrOutOfRange)) {
				t.Errorf("WriteAt of %d at %d: %d, %v", n, off, got, err)
			}
			if err == nil && n > 0 {
				if _, err := v.WriteAt(patterned(10_000, 1)[100+off:][:n], off); err != nil {
					t.Error(err)
				}
			}
			if err := v.FlushRange(off, int64(n)); (off >= 0 && off <= 50 && int64(n) <= 50-off) != (err == nil) || err != nil && !errors.Is(err, mmapio.ErrOutOfRange) {
				t.Errorf("FlushRange of %d at %d: %v", n, off, err)
			}
		}
	}
	content, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(content, patterned(10_000, 1)) {
		t.Errorf("something was written beside the View: %v", err)
	}
}

// faultOf returns the FaultError in err, which must name the file.
func faultOf(t testing.TB, err error, name string) *mmapio.FaultError {
	t.Helper()
	wrapped, ok := errors.AsType[*fs.PathError](err)
	fault, isFault := errors.AsType[*mmapio.FaultError](err)
	if !ok || !isFault || !errors.Is(err, mmapio.ErrFault) || wrapped.Path != name {
		t.Fatalf("%v, want a fault in %s", err, name)
	}
	return fault
}

// A file that is cut below a View is an error wherever there is a guard.
func TestViewOfCutFile(t *testing.T) {
	needMappings(t)
	if mmapio.MustUnmapToResize {
		t.Skip("files that have Views cannot be cut here: see TestCutRefused")
	}
	const size, end, page = 200_000, 50_000, 4096
	helper := newAssistant(t)
	for by, cut := range map[string]func(f *mmapio.File) error{
		"File":         func(f *mmapio.File) error { return f.Truncate(end) },
		"os.Truncate":  func(f *mmapio.File) error { return os.Truncate(f.Name(), end) },
		"O_TRUNC":      func(f *mmapio.File) error { return os.WriteFile(f.Name(), patterned(end, 1), 0) },
		"another File": func(f *mmapio.File) error { return cutByName(f.Name(), end) },
		"other process": func(f *mmapio.File) error {
			_, err := helper.do(request{Do: "truncate", Path: f.Name(), Offset: end})
			return err
		},
	} {
		for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
			t.Run(by+", "+way, func(t *testing.T) {
				name, healthy := newFilled(t, size, 1), newFilled(t, size, 2)
				f, h := openFor(t, name, os.O_RDWR, options...), openFor(t, healthy, os.O_RDWR)
				v, w := viewOf(t, f, 100, size-100), viewOf(t, h, 0, size)
				if err := cut(f); err != nil {
					t.Fatal(err)
				}
				near := func(fault *mmapio.FaultError, off int64) {
					t.Helper()
					if fault.Offset/int64(os.Getpagesize()) != off/int64(os.Getpagesize()) || fault.ReadOnly {
						t.Errorf("a fault at %d, want %d: %+v", fault.Offset, off, fault)
					}
				}
				restored := debug.SetPanicOnFault(false)
				n, err := v.ReadAt(make([]byte, 100), 150_000-100)
				near(faultOf(t, err, name), 150_000)
				if n != 0 {
					t.Errorf("%d bytes were read", n)
				}
				n, err = v.WriteAt([]byte("here"), 150_000-100)
				near(faultOf(t, err, name), 150_000)
				if n != 0 {
					t.Errorf("%d bytes were written", n)
				}
				near(faultOf(t, v.Do(func(b []byte) error { sink += int(b[160_000-100]); return nil }), name), 160_000)
				near(faultOf(t, v.Do(func(b []byte) error { b[160_000-100] = 1; return nil }), name), 160_000)
				near(faultOf(t, w.Do(func(b []byte) error { copy(b, v.Bytes()[170_000-100:][:50]); return nil }), name), 170_000)
				near(faultOf(t, mmapio.Guard(func() error { copy(v.Bytes()[170_000-100:][:50], w.Bytes()); return nil }), name), 170_000)
				// Memory of the caller may be a View too.
				_, err = w.ReadAt(v.Bytes()[180_000-100:][:50], 0)
				near(faultOf(t, err, name), 180_000)
				_, err = w.WriteAt(v.Bytes()[180_000-100:][:50], 0)
				near(faultOf(t, err, name), 180_000)
				if debug.SetPanicOnFault(restored) {
					t.Error("faults panic from now on")
				}
				// What there is left of the file is still there.
				whole := end &^ (page - 1)
				got := make([]byte, whole-100)
				if _, err := v.ReadAt(got, 0); err != nil || !bytes.Equal(got, patterned(size, 1)[100:whole]) {
					t.Errorf("in front of the cut: %v", err)
				}
				if _, err := v.WriteAt([]byte("still writable"), 0); err != nil {
					t.Error(err)
				}
				if err := w.Do(func(b []byte) error { sink += int(b[0]); return nil }); err != nil {
					t.Error(err)
				}
				// Longer again, it has memory again.
				if err := os.Truncate(name, size); err != nil {
					t.Fatal(err)
				}
				if _, err := v.WriteAt([]byte("back"), 150_000); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

var sink int

func cutByName(name string, size int64) error {
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// Where a mapped file cannot be cut, the error says what to do.
func TestCutRefused(t *testing.T) {
	if !mmapio.MustUnmapToResize {
		t.Skip("files that have Views can be cut here: see TestViewOfCutFile")
	}
	name := newFilled(t, 200_000, 1)
	f := openFor(t, name, os.O_RDWR)
	v := viewOf(t, f, 100, 1000)
	err := f.Truncate(50_000)
	wrapped, ok := errors.AsType[*fs.PathError](err)
	if !ok || wrapped.Path != name || !errors.Is(err, mmapio.ErrMapped) || !strings.Contains(err.Error(), "release the Views") {
		t.Errorf("Truncate: %v", err)
	}
	if _, err := mmapio.OpenFile(name, os.O_RDWR|os.O_TRUNC, 0); !errors.Is(err, mmapio.ErrMapped) || !strings.Contains(err.Error(), "release the Views") {
		t.Errorf("O_TRUNC: %v", err)
	}
	if size, err := f.Size(); size != 200_000 || err != nil || !bytes.Equal(v.Bytes(), patterned(200_000, 1)[100:1100]) {
		t.Errorf("after a refused cut: %d, %v", size, err)
	}
	if err := f.Truncate(300_000); err != nil {
		t.Errorf("growing: %v", err)
	}
	v.Release()
	if err := f.Truncate(50_000); err != nil {
		t.Errorf("after Release: %v", err)
	}
	if size, err := f.Size(); size != 50_000 || err != nil {
		t.Errorf("%d, %v", size, err)
	}
}

// Outside of a guard a fault ends the program, as the documentation says.
func TestUnguardedFaultEndsProgram(t *testing.T) {
	needMappings(t)
	if mmapio.MustUnmapToResize {
		t.Skip("files that have Views cannot be cut here")
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(executable, "-test.run=^TestChildProcess$")
	command.Env = append(os.Environ(), aloneVariable+"=unguarded fault\n"+newFilled(t, 100_000, 1))
	output, err := command.CombinedOutput()
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok || failed.ExitCode() != 2 || !strings.Contains(string(output), "unexpected fault address") || !strings.Contains(string(output), "about to fault") {
		t.Errorf("%v\n%.2000s", err, output)
	}
}

func init() {
	aloneRuns["unguarded fault"] = func(arguments []string) error {
		f, err := mmapio.OpenFile(arguments[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		v, err := f.View(0, 100_000)
		if err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		fmt.Println("about to fault")
		sink += int(v.Bytes()[50_000])
		return errors.New("nothing happened")
	}
}

var noPathError *os.PathError // nil

// Do and Guard catch faults in memory of files, and nothing else.
func TestGuardLetsThrough(t *testing.T) {
	needMappings(t)
	f := openFor(t, newFilled(t, 10_000, 1), os.O_RDONLY)
	v := viewOf(t, f, 5000, 1000)
	mine := errors.New("mine")
	guards := map[string]func(do func() error) error{
		"Guard": mmapio.Guard,
		"Do":    func(do func() error) error { return v.Do(func([]byte) error { return do() }) },
		"UpdateChunks": func(do func() error) error {
			w := temporary(t, 10)
			return w.UpdateChunks(10, func(int64, []byte) error { return do() })
		},
		"nested": func(do func() error) error {
			return mmapio.Guard(func() error { return v.Do(func([]byte) error { return do() }) })
		},
	}
	for name, guard := range guards {
		t.Run(name, func(t *testing.T) {
			if name == "UpdateChunks" && !mmapio.SupportsStamp {
				t.Skip("nothing is stored through mappings on this system")
			}
			for _, setting := range []bool{false, true} {
				before := debug.SetPanicOnFault(setting)
				unchanged := func(when string) {
					t.Helper()
					if after := debug.SetPanicOnFault(setting); after != setting {
						t.Errorf("%s: SetPanicOnFault is %v, was %v", when, after, setting)
					}
				}
				if err := guard(func() error { return nil }); err != nil {
					t.Error(err)
				}
				unchanged("nothing")
				if err := guard(func() error { return mine }); err != mine {
					t.Errorf("%v, want the error itself", err)
				}
				unchanged("an error")
				if got := recovered(func() { _ = guard(func() error { panic("mine") }) }); got != "mine" {
					t.Errorf("recovered %v", got)
				}
				unchanged("a panic")
				if got := recovered(func() { _ = guard(func() error { panic(mine) }) }); got != mine {
					t.Errorf("recovered %v", got)
				}
				got := recovered(func() { _ = guard(func() error { return noPathError.Err }) })
				if err, ok := got.(runtime.Error); !ok || !strings.Contains(err.Error(), "nil pointer") {
					t.Errorf("a nil pointer: recovered %v", got)
				}
				unchanged("a nil pointer")
				got = recovered(func() {
					_ = guard(func() error { sink += int(v.Bytes()[1000+len(t.Name())-len(t.Name())]); return nil })
				})
				if err, ok := got.(runtime.Error); !ok || !strings.Contains(err.Error(), "out of range") {
					t.Errorf("an index: recovered %v", got)
				}
				debug.SetPanicOnFault(before)
			}
			// Goexit ends the goroutine, with its deferred calls.
			reached, left := false, make(chan bool)
			go func() {
				defer close(left)
				_ = guard(func() error { runtime.Goexit(); return nil })
				reached = true
			}()
			<-left
			if reached {
				t.Error("Goexit came back")
			}
		})
	}
	// A store to memory that is read-only is a fault that says so.
	fault := faultOf(t, v.Do(func(b []byte) error { b[7] = 1; return nil }), f.Name())
	atByte, atPage := int64(5007), 5007&^int64(os.Getpagesize()-1) // s390x tells the page alone
	if fault.Offset != atByte && fault.Offset != atPage || !fault.ReadOnly || !strings.Contains(fault.Error(), "read-only") {
		t.Errorf("a store to read-only memory: %+v", fault)
	}
	if !bytes.Equal(v.Bytes(), patterned(10_000, 1)[5000:6000]) {
		t.Error("it was stored")
	}
}

func recovered(do func()) (value any) {
	defer func() { value = recover() }()
	do()
	return nil
}

// A View that was forgotten costs address space, and what it returned stays readable.
// This is in a process of its own: the memory stays.
func TestForgottenView(t *testing.T) {
	needMappings(t)
	runChild(t, "forgotten view", newFilled(t, 3<<20, 1))
}

func init() {
	aloneRuns["forgotten view"] = func(arguments []string) error {
		forgotten := make(map[string][]byte)
		for _, way := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapNever} {
			for _, ending := range []string{"closed", "forgotten too"} {
				f, err := mmapio.OpenFile(arguments[0], os.O_RDWR, 0, mmapio.WithMapping(way))
				if err != nil {
					return err
				}
				v, err := f.View(4096, 2<<20)
				if err != nil {
					return err
				}
				forgotten[fmt.Sprint(way, ending)] = v.Bytes()
				if ending == "closed" {
					if err := f.Close(); err != nil {
						return err
					}
				}
			}
		}
		for range 5 { // as long as mappings are collected
			runtime.GC()
			for range 100 {
				runtime.Gosched()
			}
		}
		want := patterned(3<<20, 1)[4096 : 4096+2<<20]
		for way, b := range forgotten {
			if !bytes.Equal(b, want) {
				return fmt.Errorf("%s: other bytes", way)
			}
			want[5] ^= 0xff // in the memory of this test
			b[5] ^= 0xff    // in the file, which all of them show
		}
		return nil
	}
}

// Views do without the budget of mappings, which is for Files.
func TestViewsBeyondBudget(t *testing.T) {
	needMappings(t)
	name := newFilled(t, 3<<20, 1)
	body := patterned(3<<20, 1)
	for _, budget := range []struct {
		mappings int
		bytes    int64
	}{{0, 1 << 40}, {1 << 20, 0}, {4, 64 << 20}} {
		restore := mmapio.SetBudget(budget.mappings, budget.bytes)
		var views []*mmapio.View
		f := openFor(t, name, os.O_RDWR)
		for i := range 50 {
			off, n := int64(i)*60_000, int64(50_000)
			v, err := f.View(off, n)
			if err != nil {
				t.Errorf("budget %v: %v", budget, err)
				break
			}
			views = append(views, v)
			if i%3 == 0 {
				mmapio.Unmap(f) // and each View keeps another mapping
			}
		}
		for _, v := range views {
			if !bytes.Equal(v.Bytes(), body[v.Offset():v.Offset()+50_000]) {
				t.Errorf("budget %v: other bytes at %d", budget, v.Offset())
			}
			v.Release()
		}
		if _, err := f.ReadAt(make([]byte, 100), 0); err != nil {
			t.Error(err)
		}
		f.Close()
		restore()
	}
	eventually(t, "in the end", func() error {
		if _, all := mmapio.Mappings(); all != 0 {
			return fmt.Errorf("%d mappings are left", all)
		}
		return nil
	})
}

// Each call to the system failing once, and always: a View, or the error.
func TestViewSystemCallsFail(t *testing.T) {
	needMappings(t)
	const size = 3 << 20
	body := patterned(size, 1)
	for _, failing := range mmapio.SysNames() {
		if failing == "unmap" && mmapio.MustUnmapToResize {
			continue // without it no size can be set
		}
		for _, failure := range []error{errNotNow, mmapio.NoAddresses} {
			if testing.Short() && failure == mmapio.NoAddresses && failing != "mapFile" {
				continue
			}
			for _, times := range []int{1, 2, 1 << 30} {
				for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
					name := newFilled(t, size, 1)
					what := fmt.Sprintf("%s failing %d times with %v, %s", failing, times, failure, way)
					f := openFor(t, name, os.O_RDWR, options...)
					left := times
					restore := mmapio.Intercept(func(name string) error {
						if name != failing || left == 0 {
							return nil
						}
						left--
						return failure
					})
					v, err := f.View(4096, 1<<20)
					hopeless := failing == "mapFile" && (times > 2 || way == "alone" && (failure == errNotNow || times == 2))
					switch {
					case err == nil:
						if !bytes.Equal(v.Bytes(), body[4096:4096+1<<20]) {
							t.Errorf("%s: other bytes", what)
						}
						b := make([]byte, 5000)
						if _, err := v.ReadAt(b, 100); err != nil || !bytes.Equal(b, body[4196:9196]) {
							t.Errorf("%s: ReadAt: %v", what, err)
						}
						if _, err := v.WriteAt(b, 100); err != nil && v.Writable() {
							t.Errorf("%s: WriteAt: %v", what, err)
						}
						if err := v.Flush(); err != nil && (failing != "writeBack" && failing != "datasync" || !errors.Is(err, failure)) {
							t.Errorf("%s: Flush: %v", what, err)
						}
					case !hopeless && (failing != "mapFile" || times == 1):
						t.Errorf("%s: %v", what, err)
					case !errors.Is(err, failure) || !errors.As(err, new(*fs.PathError)):
						t.Errorf("%s: %v", what, err)
					}
					chunks := f.Chunks(7000)
					var got []byte
					for _, chunk := range chunks.All() {
						got = append(got, chunk...)
					}
					if err := chunks.Err(); err == nil && !bytes.Equal(got, body) || err != nil && !errors.Is(err, failure) {
						t.Errorf("%s: Chunks: %v", what, err)
					}
					v.Release()
					if err := f.Close(); err != nil && failing != "writeBack" {
						t.Errorf("%s: Close: %v", what, err)
					}
					runtime.GC()
					restore()
				}
			}
		}
	}
}

var errNotNow = errors.New("not this time")

// Released Views give their addresses back before they are short: on 32-bit systems
// these would be several times what there is.
func TestReleasedViewsMakeRoom(t *testing.T) {
	needMappings(t)
	const size = 100 << 20
	name := filepath.Join(memoryDir(t), "sparse")
	if err := os.WriteFile(name, []byte("start"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	for _, way := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapNever} {
		f := openFor(t, name, os.O_RDWR, mmapio.WithMapping(way))
		for i := range 100 {
			v, err := f.View(0, size-int64(i))
			if err != nil {
				t.Fatalf("%v, round %d: %v", way, i, err)
			}
			if string(v.Bytes()[:5]) != "start" {
				t.Fatal("other bytes")
			}
			v.Release()
			mmapio.Unmap(f)
		}
	}
}

// Far into a file that has no room in a 32-bit address space.
func TestViewFarOut(t *testing.T) {
	needMappings(t)
	const far = 5<<30 + 12345
	name := filepath.Join(memoryDir(t), "sparse")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("far out"), far); err != nil {
		t.Skipf("no such long files here: %v", err)
	}
	f := openFor(t, name, os.O_RDWR)
	v := viewOf(t, f, far-5000, 5007)
	if string(v.Bytes()[5000:]) != "far out" || v.Offset() != far-5000 {
		t.Errorf("%q", v.Bytes()[5000:])
	}
	if v.Writable() {
		copy(v.Bytes()[5000:], "changed")
		b := make([]byte, 7)
		if _, err := file.ReadAt(b, far); err != nil || string(b) != "changed" {
			t.Errorf("%q, %v", b, err)
		}
	}
	whole, err := f.View(0, far+7)
	if mmapio.Is64Bit {
		at := int64(far)
		if err != nil || v.Writable() && string(whole.Bytes()[at:]) != "changed" {
			t.Errorf("the whole file: %v", err)
		}
		whole.Release()
	} else if !errors.As(err, new(*fs.PathError)) {
		t.Errorf("the whole file: %v", err)
	}
}

// Views of a File that has a tail end where the file does, and stay when it is cut off.
func TestViewWithTail(t *testing.T) {
	needMappings(t)
	name := newFilled(t, 5000, 1)
	f := openFor(t, name, os.O_RDWR, mmapio.WithPreallocate(1<<20), mmapio.WithMapping(mmapio.MapAlways))
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	end := int64(5000)
	var views []*mmapio.View
	for i := range 50 {
		if n, err := f.Write(patterned(1000, i)); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
		end += 1000
		if _, err := f.View(end-10, 11); !errors.Is(err, mmapio.ErrOutOfRange) {
			t.Fatalf("behind the end: %v", err)
		}
		views = append(views, viewOf(t, f, end-1000, 1000))
	}
	if chunks := 0; true {
		for _, chunk := range f.Chunks(1000).All() {
			chunks++
			if len(chunk) != 1000 {
				t.Errorf("a chunk of %d", len(chunk))
			}
		}
		if chunks != 55 {
			t.Errorf("%d chunks", chunks)
		}
	}
	// Where a file with Views cannot be cut, the tail stays as long as they do.
	if err := f.Sync(); err != nil && !mmapio.MustUnmapToResize {
		t.Error(err)
	}
	for i, v := range views {
		if !bytes.Equal(v.Bytes(), patterned(1000, i)) {
			t.Errorf("View %d has other bytes", i)
		}
		v.Release()
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(name); err != nil || info.Size() != end {
		t.Errorf("%v, %v", info.Size(), err)
	}
}

// A View and its release allocate nothing where the file is mapped.
func TestViewAllocations(t *testing.T) {
	needMappings(t)
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f := openFor(t, newFilled(t, 100_000, 1), os.O_RDWR)
	b := make([]byte, 100)
	warm := viewOf(t, f, 0, 100_000)
	read := func(b []byte) error { sink += int(b[0]); return nil }
	for what, call := range map[string]func(){
		"View": func() {
			v, err := f.View(500, 1000)
			if err != nil {
				t.Fatal(err)
			}
			sink += int(v.Bytes()[0])
			v.Release()
		},
		"ReadAt": func() {
			if _, err := warm.ReadAt(b, 500); err != nil {
				t.Fatal(err)
			}
		},
		"WriteAt": func() {
			if _, err := warm.WriteAt(b, 500); err != nil && warm.Writable() {
				t.Fatal(err)
			}
		},
		"Do": func() {
			if err := warm.Do(read); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if what == "WriteAt" && !warm.Writable() {
			continue
		}
		call() // stamps, and brings in
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}
