package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
)

// borders are offsets and sizes where arithmetic goes wrong: of the page, of a
// huge page, of 32 bits, of file systems, of the address space and of int64.
func borders() []int64 {
	page := int64(os.Getpagesize())
	around := []int64{
		0, page, 2 * page, int64(len(content)), 64 << 10, 2 << 20, 1 << 31, 1 << 32, 1 << 40, 1 << 43, 1 << 44, 1 << 46, 1 << 47,
		1 << 48, 1 << 52, 1 << 56, 1 << 62, math.MaxInt64 - page, math.MaxInt64 - 2, math.MinInt64 + 2, -page, -1 << 31, -1 << 32, -1 << 47,
	}
	var all []int64
	for _, border := range around {
		for delta := int64(-2); delta <= 2; delta++ {
			all = append(all, border+delta)
		}
	}
	return all
}

// borderRows are what is done at each border.
var borderRows = []struct {
	name string
	run  func(s *side, f file, at int64) string
}{
	{"ReadAt", func(s *side, f file, at int64) string {
		result := ""
		for _, n := range []int{0, 1, 3, 5000} {
			result += readAtRow(n, at)(s, f) + "; "
		}
		n, err := f.ReadAt(nil, at)
		return result + fmt.Sprint(n, s.describe(err))
	}},
	{"WriteAt", func(s *side, f file, at int64) string {
		result := ""
		for _, n := range []int{0, 1, 3} {
			result += writeAtRow(n, at)(s, f) + "; "
		}
		n, err := f.WriteAt(nil, at)
		return result + fmt.Sprint(n, s.describe(err)) + readAtRow(10, at-2)(s, f)
	}},
	{"Seek from the start", func(s *side, f file, at int64) string {
		return seekRow(at, io.SeekStart)(s, f) + tell(s, f)
	}},
	{"Seek from here", func(s *side, f file, at int64) string {
		return seekRow(at, io.SeekCurrent)(s, f) + seekRow(at, io.SeekCurrent)(s, f) + tell(s, f) + seekRow(-at, io.SeekCurrent)(s, f)
	}},
	{"Seek from the middle", func(s *side, f file, at int64) string {
		return seekRow(4000, io.SeekStart)(s, f) + seekRow(at, io.SeekCurrent)(s, f) + tell(s, f)
	}},
	{"Seek from the end", func(s *side, f file, at int64) string {
		return seekRow(at, io.SeekEnd)(s, f) + seekRow(-at, io.SeekEnd)(s, f) + tell(s, f)
	}},
	{"Seek with whence", func(s *side, f file, at int64) string {
		return seekRow(0, int(at))(s, f) + tell(s, f)
	}},
	{"Seek and Read", func(s *side, f file, at int64) string {
		n, err := f.Read(nil)
		return seekRow(at, io.SeekStart)(s, f) + readRow(3)(s, f) + fmt.Sprint(n, s.describe(err)) + tell(s, f)
	}},
	{"Seek and Write", func(s *side, f file, at int64) string {
		result := seekRow(at, io.SeekStart)(s, f)
		for _, text := range []string{"", "a", "bcd"} {
			n, err := f.Write([]byte(text))
			m, err2 := f.WriteString(text)
			result += fmt.Sprint(n, s.describe(err), m, s.describe(err2))
		}
		n, err := f.Write(nil)
		return result + fmt.Sprint(n, s.describe(err)) + tell(s, f)
	}},
	{"Seek and ReadFrom", func(s *side, f file, at int64) string {
		result := seekRow(at, io.SeekStart)(s, f)
		r := strings.NewReader("read from")
		n, err := f.ReadFrom(r)
		result += fmt.Sprint(n, s.describe(err), r.Len()) + tell(s, f)
		from := s.ownFile("from", content)
		n, err = f.ReadFrom(&io.LimitedReader{R: from, N: 3})
		return result + fmt.Sprint(n, s.describe(err)) + tell(s, f) + tell(s, from)
	}},
	{"Seek and WriteTo", func(s *side, f file, at int64) string {
		var w bytes.Buffer
		result := seekRow(at, io.SeekStart)(s, f)
		n, err := f.WriteTo(&w)
		return result + fmt.Sprint(n, s.describe(err), bytesOf(w.Bytes())) + tell(s, f)
	}},
	{"ReadFrom a limit", func(s *side, f file, at int64) string {
		from := s.ownFile("from", content)
		limited := &io.LimitedReader{R: from, N: at}
		n, err := f.ReadFrom(limited)
		return fmt.Sprint(n, s.describe(err), limited.N) + tell(s, f) + tell(s, from)
	}},
	{"Truncate", func(s *side, f file, at int64) string {
		result := s.describe(f.Truncate(at))
		info, err := f.Stat()
		result += infoOf(info) + s.describe(err)
		for range 3 {
			result += readAtRow(4, at-2)(s, f) + readAtRow(4, at-10)(s, f) + writeAtRow(3, at-5)(s, f) + readAtRow(8, at-6)(s, f)
		}
		return result + s.describe(f.Truncate(100)) + readAtRow(10, 95)(s, f)
	}},
}

// At every border a File does what an os.File does, warm or not, and never panics.
func TestBorders(t *testing.T) {
	variants := []struct {
		name    string
		options []mmapio.Option
		warm    bool
	}{
		{"never", []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}, false},
		{"always", []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, true},
		{"auto", nil, true},
		{"preallocate", []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(10_000)}, true},
	}
	for _, row := range borderRows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			for _, at := range borders() {
				outcome := func(s *side, warmed bool) (result string) {
					if err := os.MkdirAll(s.dir, 0o777); err != nil {
						t.Fatal(err)
					}
					defer os.RemoveAll(s.dir)
					defer s.finish()
					f := s.ownFile("file", content)
					defer func() {
						if cause := recover(); cause != nil {
							result = fmt.Sprint("panic: ", cause)
						}
					}()
					if warmed {
						warm(f)
					}
					result = row.run(s, f, at)
					info, err := f.Stat()
					result += "\n" + infoOf(info) + s.describe(err)
					if err == nil && info.Size() < 1<<20 {
						result += s.contentOf("file")
					}
					return result + s.describe(f.Close())
				}
				want := outcome(osSide(dir+"/os/side"), true)
				for _, variant := range variants {
					got := outcome(mmapioSide(dir+"/mm/side", variant.options...), variant.warm)
					if got != want {
						t.Errorf("%s, at %d (%#x):\n got %s\nwant %s", variant.name, at, uint64(at), got, want)
					}
				}
			}
		})
	}
}

// An option that cannot be honoured is an error that says so, and nothing changes.
func TestOptionBorders(t *testing.T) {
	write, read, appendTo := os.O_RDWR|os.O_CREATE, os.O_RDONLY|os.O_CREATE, os.O_RDWR|os.O_CREATE|os.O_APPEND
	for _, row := range []struct {
		name   string
		flag   int
		option mmapio.Option
		text   string
	}{
		{"size -1", write, mmapio.WithSize(-1), "negative size -1"},
		{"smallest size", write, mmapio.WithSize(math.MinInt64), "negative size"},
		{"size to read", read, mmapio.WithSize(1), "WithSize"},
		{"largest size to read", read, mmapio.WithSize(math.MaxInt64), "WithSize"},
		{"preallocate -1", write, mmapio.WithPreallocate(-1), "negative preallocation"},
		{"preallocate smallest", write, mmapio.WithPreallocate(math.MinInt64), "negative preallocation"},
		{"preallocate to read", read, mmapio.WithPreallocate(1), "WithPreallocate"},
		{"preallocate to append", appendTo, mmapio.WithPreallocate(1), "WithPreallocate"},
		{"mapping 3", write, mmapio.WithMapping(3), "mapping 3"},
		{"mapping 255", read, mmapio.WithMapping(255), "mapping 255"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			name := dir + "/new"
			f, err := mmapio.OpenFile(name, row.flag, 0o666, row.option)
			var path *fs.PathError
			if f != nil || !errors.As(err, &path) || path.Op != "open" || path.Path != name || !strings.Contains(path.Err.Error(), row.text) {
				t.Errorf("OpenFile returned %v, %v", f, err)
			}
			if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file was made: %v", err)
			}
			// A file that is there stays as it is, also with O_TRUNC.
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			flag := row.flag
			if flag&os.O_RDWR != 0 {
				flag |= os.O_TRUNC
			}
			if f, err := mmapio.OpenFile(name, flag, 0o666, row.option); f != nil || err == nil {
				t.Errorf("OpenFile of an existing file returned %v, %v", f, err)
			}
			if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, content) {
				t.Errorf("the file was changed: %v", err)
			}
			if runtime.GOOS == "windows" && row.flag != write {
				return // what a handle was opened for cannot be asked
			}
			// A file that is handed over stays with the caller.
			inner, err := os.OpenFile(name, row.flag, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer inner.Close()
			if f, err := mmapio.FromFile(inner, row.option); f != nil || err == nil {
				t.Errorf("FromFile returned %v, %v", f, err)
			}
			if _, err := inner.Stat(); err != nil {
				t.Errorf("the file that FromFile refused: %v", err)
			}
		})
	}
}

// WithSize gives what Truncate gives.
func TestSizeBorders(t *testing.T) {
	disk, memory := t.TempDir(), memoryDir(t) // they differ in what is too large
	for i, size := range append(borders(), borders()...) {
		if size < 0 {
			continue // see TestOptionBorders
		}
		dir := disk
		if i >= len(borders()) {
			dir = memory
		}
		outcome := func(s *side, open func() (file, error)) string {
			f, err := open()
			result := s.describe(err)
			if err == nil {
				result += tell(s, f) + readAtRow(10, size-5)(s, f) + s.describe(f.Close())
			}
			if info, err := os.Stat(dir + "/file"); err != nil || info.Size() != size {
				result += fmt.Sprint("size ", info.Size(), s.describe(err))
			}
			return result + s.describe(os.Remove(dir+"/file"))
		}
		s := &side{dir: filepath.Clean(dir)}
		want := outcome(s, func() (file, error) {
			f, err := os.Create(dir + "/file")
			if err == nil {
				if err = f.Truncate(size); err != nil {
					f.Close()
				}
			}
			return f, err
		})
		got := outcome(s, func() (file, error) { return mmapio.Create(dir+"/file", mmapio.WithSize(size)) })
		if got != want {
			t.Errorf("size %d:\n got %s\nwant %s", size, got, want)
		}
	}
	// A file with content keeps it.
	s := mmapioSide(t.TempDir(), mmapio.WithSize(100_000))
	f := s.ownFile("file", content)
	if got := s.contentOf("file"); !strings.Contains(got, bytesOf(content)) {
		t.Errorf("WithSize changed a file with content: %s", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	s.finish()
}

// A step of preallocation that no file system can grant changes nothing.
func TestPreallocationBorders(t *testing.T) {
	for _, step := range []int64{0, 1, 2, 4095, 4096, 1<<62 - 1, 1 << 62, math.MaxInt64 - 4096, math.MaxInt64 - 1, math.MaxInt64} {
		s := mmapioSide(t.TempDir(), mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(step))
		f := s.ownFile("file", nil)
		want := bytes.Buffer{}
		// Few writes: a File that tries less each time shall not get to what is too
		// much but can be had, which would be all of the disk.
		for i := range 8 {
			b := patterned(i*700, i)
			want.Write(b)
			if n, err := f.Write(b); n != len(b) || err != nil {
				t.Fatalf("step %d: Write: %d, %v", step, n, err)
			}
			if n, err := f.ReadAt(make([]byte, 10), int64(want.Len())-1); n > 1 || i > 0 && (n != 1 || err != io.EOF) {
				t.Fatalf("step %d: ReadAt over the end: %d, %v", step, n, err)
			}
		}
		for _, at := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, -1} {
			if n, err := f.WriteAt([]byte("no"), at); n != 0 || err == nil {
				t.Errorf("step %d: WriteAt at %d: %d, %v", step, at, n, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Errorf("step %d: Close: %v", step, err)
		}
		if b, err := os.ReadFile(s.path("file")); err != nil || !bytes.Equal(b, want.Bytes()) {
			t.Errorf("step %d: the file has %d bytes, want %d: %v", step, len(b), want.Len(), err)
		}
		s.finish()
	}
}

// Options that are nil are left out; nil buffers and lengths of zero are fine.
func TestNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := mmapio.Create(dir+"/file", nil, mmapio.WithSize(0), nil, mmapio.WithPreallocate(0))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if n, err := f.Write(nil); n != 0 || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
		if n, err := f.WriteAt([]byte{}, 1<<40); n != 0 || err != nil {
			t.Fatalf("WriteAt: %d, %v", n, err)
		}
		if n, err := f.ReadAt(nil, 1<<40); n != 0 || err != nil {
			t.Fatalf("ReadAt: %d, %v", n, err)
		}
		if n, err := f.Read(nil); n != 0 || err != nil {
			t.Fatalf("Read: %d, %v", n, err)
		}
	}
	if size, err := f.Size(); size != 0 || err != nil {
		t.Errorf("Size: %d, %v", size, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
