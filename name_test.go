package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
)

// constructors are the ways to a File of dir/file, or of a new one, but for NewFile.
func constructors(t *testing.T, dir string) map[string]func(options ...mmapio.Option) (*mmapio.File, error) {
	path := filepath.Join(dir, "file")
	inner := func() *os.File {
		t.Helper()
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	return map[string]func(options ...mmapio.Option) (*mmapio.File, error){
		"Open": func(options ...mmapio.Option) (*mmapio.File, error) { return mmapio.Open(path, options...) },
		"OpenFile": func(options ...mmapio.Option) (*mmapio.File, error) {
			return mmapio.OpenFile(path, os.O_RDWR, 0, options...)
		},
		"Create": func(options ...mmapio.Option) (*mmapio.File, error) {
			return mmapio.Create(filepath.Join(dir, "created"), options...)
		},
		"CreateTemp": func(options ...mmapio.Option) (*mmapio.File, error) {
			return mmapio.CreateTemp(dir, "temp", options...)
		},
		"OpenInRoot": func(options ...mmapio.Option) (*mmapio.File, error) {
			return mmapio.OpenInRoot(dir, "file", options...)
		},
		"OpenFileInRoot": func(options ...mmapio.Option) (*mmapio.File, error) {
			root, err := os.OpenRoot(dir)
			if err != nil {
				return nil, err
			}
			defer root.Close()
			return mmapio.OpenFileInRoot(root, "file", os.O_RDWR, 0, options...)
		},
		"FromFile": func(options ...mmapio.Option) (*mmapio.File, error) {
			file := inner()
			f, err := mmapio.FromFile(file, options...)
			if err != nil {
				file.Close()
			}
			return f, err
		},
	}
}

// Every constructor takes WithName; the File and its errors have that name, and what
// belongs to the os.File inside has not.
func TestWithName(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), patterned(100_000, 1), 0o666); err != nil {
		t.Fatal(err)
	}
	const name = "/another/name"
	for constructor, make := range constructors(t, dir) {
		t.Run(constructor, func(t *testing.T) {
			f, err := make(mmapio.WithName(name), mmapio.WithMapping(mmapio.MapAlways))
			if err != nil {
				t.Fatal(err)
			}
			if f.Name() != name {
				t.Errorf("the name is %s", f.Name())
			}
			if inner := f.OSFile(); !strings.HasPrefix(inner.Name(), dir) {
				t.Errorf("the os.File inside has the name %s", inner.Name())
			}
			if info, err := f.Stat(); err != nil || info.Name() != filepath.Base(f.OSFile().Name()) {
				t.Errorf("Stat: %v, %v", info, err)
			}
			b := [8]byte{}
			_, readErr := f.ReadAt(b[:], -1)
			_, seekErr := f.Seek(-1, io.SeekStart)
			_, viewErr := f.View(-1, 1)
			_, dirErr := f.ReadDir(1)
			for what, err := range map[string]error{"ReadAt": readErr, "Seek": seekErr, "View": viewErr, "Truncate": f.Truncate(-1), "ReadDir": dirErr} {
				checkName(t, what, err, name, dir)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			_, readErr = f.ReadAt(b[:], 0)
			_, writeErr := f.WriteAt(b[:], 0)
			_, copyErr := io.Copy(f, strings.NewReader("text"))
			_, toErr := f.WriteTo(io.Discard)
			for what, err := range map[string]error{"ReadAt": readErr, "WriteAt": writeErr, "ReadFrom": copyErr, "WriteTo": toErr, "Close": f.Close(), "Sync": f.Sync(), "Chmod": f.Chmod(0o600)} {
				checkName(t, what+" of the closed file", err, name, dir)
			}
		})
	}
}

// checkName reports an error that is no PathError about name, or that shows dir.
func checkName(t *testing.T, what string, err error, name, dir string) {
	t.Helper()
	var failed *fs.PathError
	if !errors.As(err, &failed) || failed.Path != name || strings.Contains(fmt.Sprintf("%+v", err), dir) {
		t.Errorf("%s: %v", what, err)
	}
}

// A copy between two Files shows the name of the one that failed.
func TestWithNameInCopies(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"source", "sink"} {
		if err := os.WriteFile(filepath.Join(dir, name), patterned(10_000, 1), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	open := func(name string, flag int) *mmapio.File {
		f, err := mmapio.OpenFile(filepath.Join(dir, name), flag, 0, mmapio.WithName(name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	_, err := io.Copy(open("sink", os.O_RDONLY), open("source", os.O_RDONLY))
	checkName(t, "copying into a file that is for reading", err, "sink", dir)
	// Where the kernel copies, it is the sink that cannot be written to.
	_, err = io.Copy(open("sink", os.O_RDWR), open("source", os.O_WRONLY))
	_, errSome := io.CopyN(open("sink", os.O_RDWR), open("source", os.O_WRONLY), 10)
	for _, err := range []error{err, errSome} {
		var failed *fs.PathError
		if !errors.As(err, &failed) || failed.Path != "sink" && failed.Path != "source" || strings.Contains(err.Error(), dir) {
			t.Errorf("copying from a file that is for writing: %v", err)
		}
	}
	_, err = io.CopyN(open("sink", os.O_RDONLY), open("source", os.O_RDONLY), 10)
	checkName(t, "copying some into a file that is for reading", err, "sink", dir)
}

// An empty name is an error before anything is created.
func TestWithNameEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := mmapio.Create(path, mmapio.WithName(""))
	var failed *fs.PathError
	if f != nil || !errors.As(err, &failed) || !errors.Is(err, os.ErrInvalid) || failed.Path != path {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

// The options of ForWriting count where the file is opened for writing, and only there.
func TestForWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, row := range []struct {
		flag int
		size int64
	}{{os.O_RDWR | os.O_CREATE, 5000}, {os.O_RDONLY, 0}, {os.O_WRONLY, 5000}, {os.O_WRONLY | os.O_APPEND, 5000}} {
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		f, err := mmapio.OpenFile(path, row.flag, 0o666, mmapio.ForWriting(nil, mmapio.WithSize(5000), mmapio.ForWriting()))
		if err != nil {
			t.Errorf("flag %#x: %v", row.flag, err)
			continue
		}
		if size, err := f.Size(); size != row.size || err != nil {
			t.Errorf("flag %#x: %d bytes, %v; wanted %d", row.flag, size, err, row.size)
		}
		f.Close()
	}
	bad := mmapio.ForWriting(mmapio.WithSize(-1))
	if f, err := mmapio.OpenFile(path, os.O_RDONLY, 0, bad); err != nil {
		t.Errorf("for reading: %v", err)
	} else {
		f.Close()
	}
	f, err := mmapio.OpenFile(path, os.O_RDWR, 0, bad)
	var failed *fs.PathError
	if f != nil || !errors.As(err, &failed) || !errors.Is(err, os.ErrInvalid) {
		t.Errorf("for writing: %v, %v", f, err)
	}
	// What does not fit some files for writing is still an error for these.
	if f, err := mmapio.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0, mmapio.ForWriting(mmapio.WithPreallocate(100))); err == nil {
		f.Close()
		t.Error("preallocation for appending")
	}
}

// OpenFileInRoot is os.Root.OpenFile, flag for flag.
func TestOpenFileInRootEqualsRoot(t *testing.T) {
	flags := []int{
		os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_EXCL,
		os.O_RDWR | os.O_CREATE | os.O_TRUNC, os.O_WRONLY | os.O_CREATE | os.O_APPEND, os.O_RDWR | os.O_SYNC,
	}
	names := []string{"file", "missing", "dir", "dir/", "file/", "", ".", "..", "../outside", "/absolute", "dir/../file", "missing/file", "file/x"}
	for _, flag := range flags {
		for _, perm := range []fs.FileMode{0o644, fs.ModeSticky | 0o644} {
			if testing.Short() && perm&fs.ModeSticky != 0 && flag&os.O_EXCL == 0 {
				continue
			}
			for _, name := range names {
				var results [2]string
				for i := range results {
					dir := t.TempDir()
					if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o666), os.Mkdir(filepath.Join(dir, "dir"), 0o777)); err != nil {
						t.Fatal(err)
					}
					root, err := os.OpenRoot(dir)
					if err != nil {
						t.Fatal(err)
					}
					s := &side{dir: dir}
					var f file
					if i == 0 {
						var inner *os.File
						if inner, err = root.OpenFile(name, flag, perm); inner != nil {
							f = inner
						}
					} else {
						var mine *mmapio.File
						if mine, err = mmapio.OpenFileInRoot(root, name, flag, perm); mine != nil {
							f = mine
						}
					}
					results[i] = s.describe(err)
					if f != nil {
						info, err := f.Stat()
						results[i] += " " + infoOf(info) + s.describe(err) + strings.ReplaceAll(f.Name(), dir, "DIR")
						n, err := f.Write([]byte("new"))
						results[i] += fmt.Sprint(" ", n, s.describe(err))
						n, err = f.WriteAt([]byte("N"), 1)
						results[i] += fmt.Sprint(" ", n, s.describe(err))
						f.Close()
					}
					content, _ := os.ReadFile(filepath.Join(dir, "file"))
					results[i] += fmt.Sprintf(" %q", content)
					root.Close()
				}
				if results[0] != results[1] {
					t.Errorf("flag %#x, mode %v, %q:\nos:     %s\nmmapio: %s", flag, perm, name, results[0], results[1])
				}
			}
		}
	}
	if f, err := mmapio.OpenFileInRoot(nil, "file", os.O_RDONLY, 0); f != nil || !errors.Is(err, os.ErrInvalid) {
		t.Errorf("without a root: %v, %v", f, err)
	}
}

// Who opens a file in a root and cuts it tells the others, as OpenFile does.
func TestOpenFileInRootTellsSiblings(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, patterned(1<<20, 1), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.OpenFile(path, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 64)
	for range 100 {
		if _, err := f.ReadAt(b, 4000); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	other, err := mmapio.OpenFileInRoot(root, "file", os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if n, err := f.ReadAt(b, 4000); n != 0 || err != io.EOF {
		t.Errorf("after the cut %d bytes are read, %v", n, err)
	}
}
