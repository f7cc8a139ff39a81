package mmapio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mmapio/mmapio"
)

// copyWays are the ways of CopyFile, each reached by refusing what comes before it.
var copyWays = []struct {
	name    string
	refused []string
}{
	{"as the system likes", nil},
	{"kernel copies", []string{"clone"}},
	{"reads and writes", []string{"clone", "copyRange"}},
	{"knows of no holes", []string{"clone", "nextData"}},
}

// refuse makes calls to the system fail until the test ends.
func refuse(t *testing.T, names []string) {
	t.Helper()
	t.Cleanup(mmapio.Intercept(func(name string) error {
		if slices.Contains(names, name) {
			return errors.ErrUnsupported
		}
		return nil
	}))
}

func mustWrite(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
}

func mustHave(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, not the %d it should have", filepath.Base(path), len(got), len(want))
	}
}

// mustHold checks that there is nothing else in the folder.
func mustHold(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
		return
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("the folder holds %q, want %q", got, names)
	}
}

// reports collects what CopyFile tells of its progress, and checks that it makes sense.
type reports struct {
	t     *testing.T
	calls [][2]int64
}

func (r *reports) note(done, total int64) {
	if n := len(r.calls); n > 0 && done < r.calls[n-1][0] || done > total || done < 0 {
		r.t.Errorf("progress of %d of %d after %v", done, total, r.calls)
	}
	r.calls = append(r.calls, [2]int64{done, total})
}

func (r *reports) check(size int64) {
	r.t.Helper()
	if len(r.calls) == 0 || r.calls[0] != [2]int64{0, size} || r.calls[len(r.calls)-1] != [2]int64{size, size} {
		r.t.Errorf("progress %v, want it from 0 to %d", r.calls, size)
	}
}

func TestCopyFile(t *testing.T) {
	sparse := make([]byte, 2*mmapio.CopyStep+4567)
	copy(sparse[mmapio.CopyStep+100_000:], patterned(300_000, 1))
	copy(sparse[70_000:], "in a hole")
	for _, way := range copyWays {
		t.Run(way.name, func(t *testing.T) {
			refuse(t, way.refused)
			for _, content := range [][]byte{
				nil, []byte("x"), patterned(4096, 1), patterned(mmapio.CopyStep, 2), patterned(mmapio.CopyStep+1, 3),
				patterned(2*mmapio.CopyStep+77, 4), sparse, make([]byte, 1_000_000),
			} {
				dir := memoryDir(t)
				src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
				mustWrite(t, src, content)
				for range 2 { // onto nothing, then onto the copy
					r := &reports{t: t}
					if err := mmapio.CopyFile(t.Context(), dst, src, r.note); err != nil {
						t.Fatal(err)
					}
					r.check(int64(len(content)))
					mustHave(t, dst, content)
					mustHave(t, src, content)
					mustHold(t, dir, "src", "dst")
				}
				mustWrite(t, dst, patterned(3*mmapio.CopyStep/2, 9)) // longer or shorter
				if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
					t.Fatal(err)
				}
				mustHave(t, dst, content)
			}
		})
	}
}

func TestCopyFilePermissions(t *testing.T) {
	for _, perm := range []fs.FileMode{0o600, 0o755, 0o666, 0o444, 0o666 | fs.ModeSetuid} {
		dir := t.TempDir()
		src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		mustWrite(t, src, []byte("text"))
		mustWrite(t, dst, []byte("old"))
		if err := os.Chmod(src, perm); err != nil {
			t.Fatal(err)
		}
		want, err := os.Stat(src)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{dst, dst + "2"} {
			if err := mmapio.CopyFile(t.Context(), to, src, nil); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(to)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != want.Mode().Perm() {
				t.Errorf("the copy of a file of mode %v has mode %v", want.Mode(), info.Mode())
			}
			mustHave(t, to, []byte("text"))
			if err := os.Chmod(to, 0o666); err != nil { // so that it can be removed
				t.Fatal(err)
			}
		}
		if err := os.Chmod(src, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// link makes a symbolic link, or says why there is none. Wine makes some that it cannot read.
func link(target, name string) error {
	if err := os.Symlink(target, name); err != nil {
		return err
	}
	if got, err := os.Readlink(name); err != nil || got != target {
		return errors.Join(fmt.Errorf("the link reads %q: %w", got, errors.ErrUnsupported), err, os.Remove(name))
	}
	return nil
}

func TestCopyFileOntoItself(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	mustWrite(t, src, []byte("text"))
	names := []string{src, dir + "/./src"}
	present := []string{"src"}
	for name, make := range map[string]func(string, string) error{"hard": os.Link, "symbolic": link} {
		path := filepath.Join(dir, name)
		if err := make(src, path); err != nil {
			t.Logf("without a %s link: %v", name, err)
			continue
		}
		names, present = append(names, path), append(present, name)
	}
	before, err := os.Stat(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range names {
		for _, to := range names {
			called := false
			err := mmapio.CopyFile(t.Context(), to, from, func(int64, int64) { called = true })
			linkErr, ok := errors.AsType[*os.LinkError](err)
			if !ok || !errors.Is(err, os.ErrInvalid) || linkErr.Old != from || linkErr.New != to || called {
				t.Errorf("%s onto %s: %v", from, to, err)
			}
		}
	}
	mustHave(t, src, []byte("text"))
	mustHold(t, dir, present...)
	after, err := os.Stat(src)
	if err != nil {
		t.Fatal(err)
	}
	if !after.ModTime().Equal(before.ModTime()) || !os.SameFile(before, after) {
		t.Error("the file was touched")
	}
}

func TestCopyFileFollowsLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	src, from, to, target := filepath.Join(dir, "src"), filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(elsewhere, "target")
	mustWrite(t, src, []byte("text"))
	mustWrite(t, target, []byte("old"))
	if err := errors.Join(link(src, from), link(target, to)); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := mmapio.CopyFile(t.Context(), to, from, nil); err != nil {
		t.Fatal(err)
	}
	mustHave(t, target, []byte("text"))
	if got, err := os.Readlink(to); got != target {
		t.Errorf("the link leads to %q, %v", got, err)
	}
	mustHold(t, elsewhere, "target")
	mustHold(t, dir, "src", "from", "to")

	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if err := mmapio.CopyFile(t.Context(), to, from, nil); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("onto a link that leads nowhere: %v", err)
	}
	mustHold(t, elsewhere)
}

func TestCopyFileBadNames(t *testing.T) {
	dir := t.TempDir()
	src, dst, sub := filepath.Join(dir, "src"), filepath.Join(dir, "dst"), filepath.Join(dir, "sub")
	mustWrite(t, src, []byte("text"))
	mustWrite(t, dst, []byte("old"))
	if err := os.Mkdir(sub, 0o777); err != nil {
		t.Fatal(err)
	}
	missing, long := filepath.Join(dir, "missing"), filepath.Join(dir, strings.Repeat("n", 300))
	for _, row := range []struct{ dst, src, named string }{
		{dst, missing, missing},
		{dst, "", ""},
		{dst, sub, sub},
		{dst, long, long},
		{sub, src, sub},
		{"", src, ""},
		{long, src, long},
		{filepath.Join(missing, "dst"), src, filepath.Join(missing, "dst")},
		{missing + string(filepath.Separator), src, missing + string(filepath.Separator)},
		{filepath.Join(src, "dst"), src, filepath.Join(src, "dst")},
		{"dst\x00", src, "dst\x00"},
	} {
		err := mmapio.CopyFile(t.Context(), row.dst, row.src, nil)
		pathErr, ok := errors.AsType[*fs.PathError](err)
		if linkErr, renaming := errors.AsType[*os.LinkError](err); renaming && linkErr.New == long {
			continue // Windows says so late that a name is too long
		}
		if !ok || pathErr.Path != row.named {
			t.Errorf("%q to %q: %v, want an error about %q", row.src, row.dst, err, row.named)
		}
		if strings.Contains(fmt.Sprint(err), ".tmp") {
			t.Errorf("the error names the temporary file: %v", err)
		}
	}
	mustHave(t, src, []byte("text"))
	mustHave(t, dst, []byte("old"))
	mustHold(t, dir, "src", "dst", "sub")
}

// A name as long as the file system allows has room for its temporary file.
func TestCopyFileLongName(t *testing.T) {
	dir := t.TempDir()
	src, name := filepath.Join(dir, "src"), strings.Repeat("n", 255)
	mustWrite(t, src, []byte("text"))
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
		t.Skipf("no such names here: %v", err)
	}
	if err := mmapio.CopyFile(t.Context(), filepath.Join(dir, name), src, nil); err != nil {
		t.Fatal(err)
	}
	mustHave(t, filepath.Join(dir, name), []byte("text"))
	mustHold(t, dir, "src", name)
}

// A copy is cancelled at every one of its steps; what was there stays.
func TestCopyFileCancelled(t *testing.T) {
	content := patterned(3*mmapio.CopyStep, 1)
	for _, way := range copyWays[1:] { // sharing blocks is one step
		t.Run(way.name, func(t *testing.T) {
			refuse(t, way.refused)
			for _, exists := range []bool{false, true} {
				dir := t.TempDir()
				src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
				mustWrite(t, src, content)
				names := []string{"src"}
				if exists {
					mustWrite(t, dst, []byte("old"))
					names = append(names, "dst")
				}
				for stage := range 6 { // before, and in each call of progress
					ctx, cancel := context.WithCancel(t.Context())
					calls := 0
					if stage == 0 {
						cancel()
					}
					err := mmapio.CopyFile(ctx, dst, src, func(done, total int64) {
						if calls++; calls == stage {
							cancel()
						}
						if entries, err := os.ReadDir(dir); len(entries) != len(names)+1 {
							t.Errorf("during the copy: %v, %v", entries, err)
						}
					})
					cancel()
					if _, ok := errors.AsType[*os.LinkError](err); !ok || !errors.Is(err, context.Canceled) {
						t.Errorf("stage %d: %v", stage, err)
					}
					if want := min(stage, 4); calls < want || stage > 0 && calls > stage && stage < 4 {
						t.Errorf("stage %d: %d calls", stage, calls)
					}
					mustHold(t, dir, names...)
					if exists {
						mustHave(t, dst, []byte("old"))
					}
				}
			}
		})
	}
}

// A panic of progress leaves nothing behind.
func TestCopyFileProgressPanics(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	mustWrite(t, src, []byte("text"))
	func() {
		defer func() {
			if got := recover(); got != "enough" {
				t.Errorf("recovered %v", got)
			}
		}()
		err := mmapio.CopyFile(t.Context(), dst, src, func(int64, int64) { panic("enough") })
		t.Error("returned ", err)
	}()
	mustHold(t, dir, "src")
}

// The source is cut or made longer while it is copied.
func TestCopyFileSourceChanges(t *testing.T) {
	for _, way := range copyWays[1:] {
		t.Run(way.name, func(t *testing.T) {
			refuse(t, way.refused)
			for _, size := range []int64{0, 100, mmapio.CopyStep - 1, mmapio.CopyStep, 2*mmapio.CopyStep + 5, 4*mmapio.CopyStep + 5} {
				dir := memoryDir(t)
				src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
				content := patterned(3*mmapio.CopyStep, 1)
				mustWrite(t, src, content)
				calls := 0
				err := mmapio.CopyFile(t.Context(), dst, src, func(done, total int64) {
					if calls++; calls == 2 { // the first step is done
						if err := os.Truncate(src, size); err != nil {
							t.Error(err)
						}
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				want := make([]byte, max(size, mmapio.CopyStep))
				copy(want, content)
				mustHave(t, dst, want)
				mustHold(t, dir, "src", "dst")
			}
		})
	}
}

// A source of nothing but a hole is cut while it is copied.
func TestCopyFileHoleIsCut(t *testing.T) {
	for _, way := range copyWays[1:] {
		t.Run(way.name, func(t *testing.T) {
			refuse(t, way.refused)
			dir := t.TempDir()
			src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
			for _, begin := range []string{"", "some data before the hole"} {
				mustWrite(t, src, []byte(begin))
				if err := os.Truncate(src, 3*mmapio.CopyStep); err != nil {
					t.Fatal(err)
				}
				err := mmapio.CopyFile(t.Context(), dst, src, func(done, total int64) {
					if done > mmapio.CopyStep/2 {
						if err := os.Truncate(src, 1000); err != nil {
							t.Error(err)
						}
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(dst)
				if err != nil {
					t.Fatal(err)
				}
				want := make([]byte, 1000)
				copy(want, begin)
				// What was copied before the cut may stay, up to where the hole began.
				if !bytes.HasPrefix(got, want) || len(got) > 64<<10 || begin == "" && len(got) != len(want) {
					t.Errorf("%d bytes", len(got))
				}
			}
		})
	}
}

// Several copy to one file: at every moment it is one of theirs.
func TestCopyFileConcurrently(t *testing.T) {
	dir := t.TempDir()
	dst := filepath.Join(dir, "dst")
	const sources, size = 4, 300_000
	names := []string{"dst"}
	for i := range sources {
		names = append(names, fmt.Sprint("src", i))
		mustWrite(t, filepath.Join(dir, names[i+1]), bytes.Repeat([]byte{byte('a' + i)}, size))
	}
	mustWrite(t, dst, bytes.Repeat([]byte{'a'}, size))
	check := func() {
		b, err := os.ReadFile(dst)
		if err != nil {
			if runtime.GOOS != "windows" { // where it cannot be opened while it is replaced
				t.Error(err)
			}
			return
		}
		if len(b) != size || !bytes.Equal(b, bytes.Repeat(b[:1], size)) {
			t.Error("a mixture of copies, or half a one")
		}
	}
	var copies sync.WaitGroup
	for i := range sources {
		copies.Go(func() {
			for range 20 {
				err := mmapio.CopyFile(t.Context(), dst, filepath.Join(dir, fmt.Sprint("src", i)), nil)
				if err != nil && runtime.GOOS != "windows" {
					t.Error(err)
				}
				check()
			}
		})
	}
	copies.Wait()
	check()
	mustHold(t, dir, names...)
}

// The copy of a file that is open and mapped has what was stored through the mapping.
func TestCopyFileOfMapped(t *testing.T) {
	for _, way := range copyWays {
		t.Run(way.name, func(t *testing.T) {
			dir := t.TempDir()
			src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
			content := patterned(1_000_000, 1)
			mustWrite(t, src, content)
			f, err := mmapio.OpenFile(src, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(1<<20))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for off := int64(0); off < int64(len(content)); off += 100_000 {
				b := make([]byte, 1000)
				if _, err := f.ReadAt(b, off); err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte("stored"), off); err != nil {
					t.Fatal(err)
				}
				copy(content[off:], "stored")
			}
			if _, err := f.WriteAt([]byte("appended"), int64(len(content))); err != nil {
				t.Fatal(err)
			}
			content = append(content, "appended"...)
			refuse(t, way.refused)
			if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(dst)
			if err != nil || !bytes.HasPrefix(got, content) || len(bytes.Trim(got[len(content):], "\x00")) != 0 {
				t.Errorf("%d bytes, %v; want the file and perhaps zeros behind", len(got), err)
			}
			if err := f.Sync(); err != nil { // no space is set aside any more
				t.Fatal(err)
			}
			if err := mmapio.CopyFile(t.Context(), dst, src, nil); err != nil {
				t.Fatal(err)
			}
			mustHave(t, dst, content)
		})
	}
}

func TestCopyFileEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := mmapio.CopyFile(ctx, "dst", "missing", nil)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
