package aferofs_test

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/afero"
)

// helpers calls the functions of afero that take a file system, below folder.
func helpers(t testing.TB, s afero.Fs, folder, hide string) (log []string) {
	t.Helper()
	a := afero.Afero{Fs: s}
	note := func(what string, results ...any) {
		line := what + ":"
		for _, result := range results {
			if err, ok := result.(error); ok {
				line += " " + describe(err, "")
			} else {
				line += fmt.Sprintf(" %v", result)
			}
		}
		log = append(log, strings.ReplaceAll(filepath.ToSlash(strings.ReplaceAll(line, `\\`, `\`)), hide, ""))
	}
	in := func(name string) string { return path.Join(filepath.ToSlash(folder), name) }
	note("WriteReader", a.WriteReader(in("new/folder/file"), strings.NewReader(strings.Repeat("written by a reader ", 5000))))
	note("SafeWriteReader", a.SafeWriteReader(in("new/other/file"), strings.NewReader("safe")))
	note("SafeWriteReader again", a.SafeWriteReader(in("new/other/file"), strings.NewReader("lost")))
	note("WriteFile", a.WriteFile(in("new/third"), []byte("third"), 0o640))
	for _, name := range []string{"new", "new/third", "new/other/file", "missing", "empty", "file"} {
		exists, err := a.Exists(in(name))
		note("Exists "+name, exists, err)
		exists, err = a.DirExists(in(name))
		note("DirExists "+name, exists, err)
		is, err := a.IsDir(in(name))
		note("IsDir "+name, is, err)
		empty, err := a.IsEmpty(in(name))
		note("IsEmpty "+name, empty, err)
		has, err := a.FileContainsBytes(in(name), []byte("reader wri"))
		note("FileContainsBytes "+name, has, err)
		has, err = a.FileContainsAnyBytes(in(name), [][]byte{[]byte("nothing"), []byte("af")})
		note("FileContainsAnyBytes "+name, has, err)
		content, err := a.ReadFile(in(name))
		note("ReadFile "+name, len(content), err)
	}
	has, err := a.FileContainsBytes(in("new/folder/file"), []byte("reader written"))
	note("FileContainsBytes", has, err)
	var temps []string
	for range 20 {
		f, err := a.TempFile(in("new"), "temp-*.txt")
		if err != nil {
			note("TempFile", err)
			continue
		}
		_, err = io.WriteString(f, "temporary")
		base := path.Base(filepath.ToSlash(f.Name()))
		note("TempFile", err, strings.HasPrefix(base, "temp-"), strings.HasSuffix(base, ".txt"), strings.HasPrefix(filepath.ToSlash(f.Name()), in("new")), f.Close())
		temps = append(temps, f.Name())
		name, err := a.TempDir(in("new"), "dir-")
		note("TempDir", err, strings.HasPrefix(path.Base(filepath.ToSlash(name)), "dir-"))
		note("TempDir", a.WriteFile(filepath.Join(name, "inside"), nil, 0o600))
	}
	slices.Sort(temps)
	note("different", len(slices.Compact(temps)))
	_, err = a.TempFile(in("missing"), "x")
	note("TempFile in what is missing", err != nil)
	infos, err := a.ReadDir(in("new"))
	note("ReadDir", len(infos), err)
	found, err := afero.Glob(s, filepath.FromSlash(in("new/temp-*.txt")))
	note("Glob", len(found), err)
	_, err = afero.Glob(s, in("new/[")) // a bad pattern
	note("Glob", err)
	count := 0
	note("Walk", a.Walk(in("."), func(name string, info fs.FileInfo, err error) error {
		count++
		if err != nil {
			return err
		}
		if info.IsDir() && strings.HasPrefix(info.Name(), "dir-") {
			return filepath.SkipDir
		}
		return nil
	}), count)
	note("Walk what is missing", a.Walk(in("missing"), func(name string, info fs.FileInfo, err error) error { return err }))
	return log
}

// What afero has around a file system works on these as on OsFs.
func TestHelpers(t *testing.T) {
	var want []string
	for i, base := range bases {
		dir := filepath.Join(memoryDir(t), "folder-of-helpers")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := grow(dir, false); err != nil {
			t.Fatal(err)
		}
		s, folder := base.make(t, dir)
		log := helpers(t, s, folder, filepath.ToSlash(dir))
		if runtime.GOOS == "windows" {
			for n := range log {
				log[n] = number.ReplaceAllString(log[n], "Errno")
			}
		}
		if i == 0 {
			want = log
			if len(want) < 100 {
				t.Fatalf("only %d results", len(want))
			}
			continue
		}
		for n := range min(len(want), len(log)) {
			if want[n] != log[n] {
				t.Errorf("%s:\nhas  %s\nOsFs %s", base.name, log[n], want[n])
			}
		}
		if len(want) != len(log) {
			t.Errorf("%s: %d results, OsFs %d", base.name, len(log), len(want))
		}
	}
}

// GetTempDir makes its folder below the temporary one of the system, in a rooted file
// system as well.
func TestGetTempDir(t *testing.T) {
	if filepath.Separator != '/' {
		t.Skip("the name of the temporary folder has a volume here, which a folder has not")
	}
	dir := memoryDir(t)
	name := afero.GetTempDir(rooted(t, dir), "sub")
	if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.IsDir() || name != filepath.Join(os.TempDir(), "sub")+"/" {
		t.Errorf("%s: %v, %v", name, info, err)
	}
}

// ReadAt and WriteAt neither use nor move the position, at the same time from everywhere,
// and end with io.EOF; two files that are open have two positions.
func TestPositions(t *testing.T) {
	dir := memoryDir(t)
	for _, base := range bases {
		t.Run(base.name, func(t *testing.T) {
			s, folder := base.make(t, dir)
			name := path.Join(filepath.ToSlash(folder), "file")
			content := []byte(strings.Repeat("0123456789abcdef", 8192))
			if err := afero.WriteFile(s, name, content, 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := s.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			other, err := s.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err := f.Seek(100, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			var done sync.WaitGroup
			for i := range 4 {
				done.Go(func() {
					b := make([]byte, 100)
					for round := range 500 {
						off := (i*7919 + round*104729) % (len(content) - 100)
						if n, err := f.ReadAt(b, int64(off)); n != 100 || err != nil || string(b) != string(content[off:off+100]) {
							t.Errorf("ReadAt(%d): %d, %v", off, n, err)
						}
						if n, err := f.WriteAt(content[off:off+16], int64(off)); n != 16 || err != nil {
							t.Errorf("WriteAt(%d): %d, %v", off, n, err)
						}
					}
				})
			}
			done.Wait()
			b := make([]byte, 100)
			if n, err := f.ReadAt(b, int64(len(content)-10)); n != 10 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
			if n, err := f.ReadAt(b, int64(len(content))); n != 0 || err != io.EOF {
				t.Errorf("behind the end: %d, %v", n, err)
			}
			if at, err := f.Seek(0, io.SeekCurrent); at != 100 || err != nil {
				t.Errorf("the position is %d, %v", at, err)
			}
			if n, err := f.Read(b[:6]); string(b[:n]) != "456789" || err != nil {
				t.Errorf("%q, %v", b[:n], err)
			}
			if n, err := other.Read(b[:6]); string(b[:n]) != "012345" || err != nil {
				t.Errorf("the other file: %q, %v", b[:n], err)
			}
			// An empty write behind the end leaves the size alone.
			if n, err := f.WriteAt(nil, int64(len(content)+1000)); n != 0 || err != nil {
				t.Errorf("an empty write: %d, %v", n, err)
			}
			if info, err := f.Stat(); err != nil || info.Size() != int64(len(content)) {
				t.Errorf("%v, %v", info, err)
			}
			if err := f.Truncate(50); err != nil {
				t.Fatal(err)
			}
			if n, err := f.Read(b); n != 0 || err != io.EOF {
				t.Errorf("a position behind the end: %d, %v", n, err)
			}
		})
	}
}

// A folder is listed in pages that end with io.EOF and nothing, also while what was listed
// is removed: by each of the three methods.
func TestListWhileRemoving(t *testing.T) {
	list := map[string]func(f afero.File, n int) (names []string, err error){
		"Readdir": func(f afero.File, n int) (names []string, err error) {
			infos, err := f.Readdir(n)
			for _, info := range infos {
				names = append(names, info.Name())
			}
			return names, err
		},
		"Readdirnames": func(f afero.File, n int) ([]string, error) { return f.Readdirnames(n) },
		"ReadDir": func(f afero.File, n int) (names []string, err error) {
			entries, err := f.(fs.ReadDirFile).ReadDir(n)
			for _, entry := range entries {
				names = append(names, entry.Name())
			}
			return names, err
		},
	}
	for _, base := range bases {
		for method, list := range list {
			t.Run(base.name+"/"+method, func(t *testing.T) {
				dir := memoryDir(t)
				s, folder := base.make(t, dir)
				const files = 100
				for i := range files {
					if err := afero.WriteFile(s, path.Join(filepath.ToSlash(folder), fmt.Sprint(i)), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				f, err := s.Open(folder)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				seen := make(map[string]bool)
				for {
					names, err := list(f, 7)
					if err == io.EOF && len(names) == 0 {
						break
					}
					if err != nil || len(names) == 0 || len(names) > 7 {
						t.Fatalf("%d entries, %v", len(names), err)
					}
					for _, name := range names {
						if seen[name] {
							t.Errorf("%s twice", name)
						}
						seen[name] = true
						if err := s.Remove(path.Join(filepath.ToSlash(folder), name)); err != nil {
							t.Error(err)
						}
					}
				}
				if len(seen) != files {
					t.Errorf("%d of %d files seen", len(seen), files)
				}
				if names, err := list(f, -1); len(names) != 0 || err != nil {
					t.Errorf("all the rest: %v, %v", names, err)
				}
				if empty, err := afero.IsEmpty(s, folder); !empty || err != nil {
					t.Errorf("empty: %v, %v", empty, err)
				}
			})
		}
	}
}
