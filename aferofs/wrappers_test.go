package aferofs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"

	"github.com/mmapio/mmapio/aferofs"
)

// bases are the file systems that are wrapped: each with the name of a folder in it. The
// first one is the truth.
var bases = []struct {
	name string
	make func(t testing.TB, dir string) (s afero.Fs, folder string)
}{
	{"OsFs", func(t testing.TB, dir string) (afero.Fs, string) { return afero.NewOsFs(), dir }},
	{"New", func(t testing.TB, dir string) (afero.Fs, string) { return aferofs.New(), dir }},
	{"New, mapped", func(t testing.TB, dir string) (afero.Fs, string) {
		return aferofs.New(mmapio.WithMapping(mmapio.MapAlways), mmapio.ForWriting(mmapio.WithMapping(mmapio.MapAlways))), dir
	}},
	{"NewRooted", func(t testing.TB, dir string) (afero.Fs, string) { return rooted(t, dir), "/" }},
	{"NewRooted, mapped", func(t testing.TB, dir string) (afero.Fs, string) {
		return rooted(t, dir, mmapio.WithMapping(mmapio.MapAlways)), "/"
	}},
}

// wrappers are what afero can put around a file system.
var wrappers = []struct {
	name string
	wrap func(t testing.TB, s afero.Fs, folder string) (wrapped afero.Fs, wrappedFolder string)
}{
	{"nothing", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) { return s, folder }},
	{"BasePathFs", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewBasePathFs(s, sub(t, s, folder, "base")), "/"
	}},
	{"BasePathFs twice", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		base := afero.NewBasePathFs(s, sub(t, s, folder, "base"))
		return afero.NewBasePathFs(base, sub(t, base, "/", "again")), "/"
	}},
	{"CopyOnWriteFs, as base", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewCopyOnWriteFs(afero.NewBasePathFs(s, sub(t, s, folder, "base")), afero.NewMemMapFs()), "/"
	}},
	{"CopyOnWriteFs, as layer", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		base := afero.NewMemMapFs()
		prepare(t, base, "/")
		return afero.NewCopyOnWriteFs(base, afero.NewBasePathFs(s, sub(t, s, folder, "layer"))), "/"
	}},
	{"CopyOnWriteFs, as both", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewCopyOnWriteFs(afero.NewReadOnlyFs(afero.NewBasePathFs(s, sub(t, s, folder, "base"))), afero.NewBasePathFs(s, sub(t, s, folder, "layer"))), "/"
	}},
	{"CopyOnWriteFs, without BasePathFs", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewCopyOnWriteFs(s, afero.NewMemMapFs()), folder
	}},
	{"CacheOnReadFs, as base", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewCacheOnReadFs(afero.NewBasePathFs(s, sub(t, s, folder, "base")), afero.NewMemMapFs(), 0), "/"
	}},
	{"CacheOnReadFs, as layer", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		base := afero.NewMemMapFs()
		prepare(t, base, "/")
		return afero.NewCacheOnReadFs(base, afero.NewBasePathFs(s, sub(t, s, folder, "layer")), time.Hour), "/"
	}},
	{"CacheOnReadFs, as both", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewCacheOnReadFs(afero.NewBasePathFs(s, sub(t, s, folder, "base")), afero.NewBasePathFs(s, sub(t, s, folder, "layer")), 0), "/"
	}},
	{"ReadOnlyFs", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewReadOnlyFs(s), folder
	}},
	{"RegexpFs", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.NewRegexpFs(s, regexp.MustCompile(`\.txt$`)), folder
	}},
	{"HttpFs", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return httpFs{afero.NewHttpFs(s)}, folder
	}},
	{"IOFS and back", func(t testing.TB, s afero.Fs, folder string) (afero.Fs, string) {
		return afero.FromIOFS{FS: afero.NewIOFS(afero.NewBasePathFs(s, sub(t, s, folder, "base")))}, "."
	}},
}

// httpFs gives HttpFs an Open that returns an afero.File, which is what it wraps.
type httpFs struct{ *afero.HttpFs }

func (h httpFs) Open(name string) (afero.File, error) {
	f, err := h.HttpFs.Open(name)
	if err != nil {
		return nil, err
	}
	return f.(afero.File), nil
}

// sub makes a folder with the files of prepare in it.
func sub(t testing.TB, s afero.Fs, folder, name string) string {
	t.Helper()
	made := path.Join(filepath.ToSlash(folder), name)
	if err := s.MkdirAll(made, 0o755); err != nil {
		t.Fatal(err)
	}
	if name != "layer" {
		prepare(t, s, made)
	}
	return made
}

// prepare makes the files that are there before the suite begins.
func prepare(t testing.TB, s afero.Fs, folder string) {
	t.Helper()
	for _, name := range []string{"there.txt", "old/one.txt", "old/two.txt", "old/hidden.bin"} {
		full := path.Join(filepath.ToSlash(folder), name)
		if err := s.MkdirAll(path.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := afero.WriteFile(s, full, []byte("old content of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Chtimes(full, treeTime, treeTime); err != nil {
			t.Fatal(err)
		}
	}
}

// suite does what one does with a file system, below folder, and returns what came out.
func suite(s afero.Fs, folder, hide string) (log []string) {
	note := func(what string, results ...any) {
		line := what + ":"
		for _, result := range results {
			switch result := result.(type) {
			case error:
				line += " " + describe(result, "")
			case fs.FileInfo:
				line += " " + describeInfo(result)
			case []byte:
				line += fmt.Sprintf(" %q", result)
			default:
				line += fmt.Sprintf(" %v", result)
			}
		}
		line = strings.ReplaceAll(filepath.ToSlash(strings.ReplaceAll(line, `\\`, `\`)), hide, "")
		log = append(log, line)
	}
	in := func(name string) string { return path.Join(filepath.ToSlash(folder), name) }
	read := func(what, name string) {
		content, err := afero.ReadFile(s, in(name))
		note(what, content, err)
	}
	use := func(what string, f afero.File, err error) {
		if err != nil {
			note(what, err, f == nil)
			return
		}
		note(what+" name", f.Name())
		n, err := f.Write([]byte("some bytes to begin with"))
		note(what+" write", n, err)
		n, err = f.WriteString(", and a string")
		note(what+" write string", n, err)
		n, err = f.WriteAt([]byte("SOME"), 0)
		note(what+" write at", n, err)
		at, err := f.Seek(5, io.SeekStart)
		note(what+" seek", at, err)
		b := make([]byte, 5)
		n, err = f.Read(b)
		note(what+" read", b[:n], err)
		n, err = f.ReadAt(b, 1)
		note(what+" read at", b[:n], err)
		at, err = f.Seek(0, io.SeekCurrent)
		note(what+" position", at, err)
		note(what+" truncate", f.Truncate(20))
		at, err = f.Seek(-4, io.SeekEnd)
		note(what+" seek from the end", at, err)
		rest, err := io.ReadAll(f)
		note(what+" rest", rest, err)
		n, err = f.Read(b)
		note(what+" at the end", n, err)
		n, err = f.ReadAt(b, 18)
		note(what+" read at the end", b[:n], err)
		info, err := f.Stat()
		if info != nil {
			note(what+" size", info.Size(), info.Name(), info.Mode(), err)
		}
		_, err = f.Readdir(-1)
		note(what+" is no folder", err != nil)
		note(what+" sync", f.Sync())
		note(what+" close", f.Close())
	}
	read("content", "there.txt")
	note("mkdir", s.Mkdir(in("dir"), 0o755))
	note("mkdir again", s.Mkdir(in("dir"), 0o755))
	note("mkdir all", s.MkdirAll(in("dir/a/b"), 0o755))
	f, err := s.Create(in("dir/new.txt"))
	use("create", f, err)
	read("created", "dir/new.txt")
	f, err = s.Create(in("dir/not.bin"))
	use("create another kind", f, err)
	f, err = s.OpenFile(in("old/one.txt"), os.O_RDWR, 0)
	use("open old", f, err)
	read("changed", "old/one.txt")
	f, err = s.OpenFile(in("dir/new.txt"), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		n, err := f.Write([]byte(" and more"))
		note("append", n, err, f.Close())
	} else {
		note("append", err)
	}
	read("appended", "dir/new.txt")
	f, err = s.OpenFile(in("dir/new.txt"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	note("create exclusively", f == nil, err)
	f, err = s.Open(in("missing.txt"))
	note("open what is missing", f == nil, err)
	f, err = s.OpenFile(in("missing/file.txt"), os.O_RDWR|os.O_CREATE, 0o644)
	note("create where nothing is", f == nil, err)
	if f != nil {
		f.Close()
	}
	f, err = s.OpenFile(in("dir"), os.O_RDWR, 0)
	note("open a folder for writing", f == nil, err)
	if f != nil {
		f.Close()
	}
	_, err = afero.ReadFile(s, in("old"))
	note("read a folder", err)
	f, err = s.OpenFile(in("there.txt"), os.O_RDONLY, 0)
	if err == nil {
		_, err = f.Write([]byte("x"))
		note("write to what is for reading", err, f.Close())
	}

	for i := range 7 {
		note("write file", afero.WriteFile(s, in(fmt.Sprintf("dir/a/%d.txt", i)), []byte{byte('0' + i)}, 0o600))
	}
	for _, name := range []string{"dir/a", "old", "."} {
		f, err := s.Open(in(name))
		note("open folder", err)
		if err != nil {
			continue
		}
		var seen []string
		for range 100 {
			infos, err := f.Readdir(3)
			for _, info := range infos {
				seen = append(seen, info.Name())
			}
			if err != nil || len(infos) == 0 {
				slices.Sort(seen)
				note("pages of "+name, seen, len(infos), err)
				break
			}
		}
		note("close folder", f.Close())
		infos, err := afero.ReadDir(s, in(name))
		for _, info := range infos {
			note("entry of "+name, info.Name(), info.IsDir(), info.Mode().Perm())
		}
		note("read folder "+name, err)
	}
	note("walk", afero.Walk(s, in("."), func(name string, info fs.FileInfo, err error) error {
		note("walk", strings.TrimPrefix(strings.TrimPrefix(filepath.ToSlash(name), filepath.ToSlash(folder)), "/"), err)
		return nil
	}))
	found, err := afero.Glob(s, filepath.FromSlash(in("*/*.txt")))
	note("glob", found, err)

	note("rename", s.Rename(in("dir/a/0.txt"), in("dir/b.txt")))
	read("renamed", "dir/b.txt")
	read("renamed away", "dir/a/0.txt")
	note("rename what is missing", s.Rename(in("missing.txt"), in("dir/c.txt")) != nil)
	note("rename folder", s.Rename(in("dir/a/b"), in("dir/folder")))
	info, err := s.Stat(in("dir/folder"))
	note("renamed folder", info != nil && info.IsDir(), err)
	note("chmod", s.Chmod(in("dir/b.txt"), 0o400))
	note("chtimes", s.Chtimes(in("dir/b.txt"), treeTime, treeTime))
	info, err = s.Stat(in("dir/b.txt"))
	note("stat", info, err)
	note("chmod back", s.Chmod(in("dir/b.txt"), 0o600))
	note("chown what is missing", s.Chown(in("missing.txt"), os.Getuid(), os.Getgid()) != nil)
	if linker, ok := s.(afero.Symlinker); ok && runtime.GOOS != "windows" {
		note("symlink", linker.SymlinkIfPossible("new.txt", in("dir/link.txt")))
		target, err := linker.ReadlinkIfPossible(in("dir/link.txt"))
		note("link: readlink", target, err)
		info, really, err := linker.LstatIfPossible(in("dir/link.txt"))
		note("lstat", info != nil && info.Mode().Type() == fs.ModeSymlink, really, err)
		content, err := afero.ReadFile(s, in("dir/link.txt"))
		note("link: content", content, err)
		note("remove link", s.Remove(in("dir/link.txt")))
		note("readlink of no link", func() error { _, err := linker.ReadlinkIfPossible(in("dir/new.txt")); return err }())
	}
	note("remove", s.Remove(in("dir/b.txt")))
	note("remove again", s.Remove(in("dir/b.txt")) != nil)
	note("remove a full folder", s.Remove(in("dir/a")) != nil)
	note("remove all", s.RemoveAll(in("dir/a")))
	note("remove all again", s.RemoveAll(in("dir/a")))
	_, err = s.Stat(in("dir/a"))
	note("removed", err)
	note("remove old", s.Remove(in("old/two.txt")) != nil)
	exists, err := afero.Exists(s, in("old/two.txt"))
	note("exists", exists, err)
	return log
}

// The suite has the same results under every wrapper, over OsFs and over these.
func TestWrappersOverEverything(t *testing.T) {
	for _, wrapper := range wrappers {
		t.Run(wrapper.name, func(t *testing.T) {
			var want []string
			for i, base := range bases {
				dir := filepath.Join(memoryDir(t), "folder-of-the-suite")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				s, folder := base.make(t, dir)
				if strings.HasPrefix(wrapper.name, "ReadOnly") || strings.HasPrefix(wrapper.name, "Regexp") || wrapper.name == "nothing" || strings.HasSuffix(wrapper.name, "BasePathFs") || wrapper.name == "HttpFs" {
					prepare(t, s, folder)
				}
				wrapped, within := wrapper.wrap(t, s, folder)
				log := suite(wrapped, within, filepath.ToSlash(dir))
				if runtime.GOOS == "windows" {
					for n := range log {
						log[n] = number.ReplaceAllString(log[n], "Errno")
					}
				}
				if i == 0 {
					want = log
					t.Logf("%d results", len(log))
					continue
				}
				for n := range max(len(want), len(log)) {
					if n >= len(want) || n >= len(log) {
						t.Errorf("over %s: %d results, %d over OsFs", base.name, len(log), len(want))
						break
					}
					// BasePathFs makes links absolute, and those are not followed by os.Root.
					if want[n] != log[n] && !(strings.HasPrefix(want[n], "link: ") && strings.HasPrefix(base.name, "NewRooted") && strings.Contains(log[n], "path escapes")) {
						t.Errorf("over %s:\nhas    %s\nOsFs   %s", base.name, log[n], want[n])
					}
				}
			}
		})
	}
}

// Files are *mmapio.File itself, and reached behind the wrappers of afero.
func TestFilesAreMmapioFiles(t *testing.T) {
	dir := memoryDir(t)
	for i, s := range []afero.Fs{afero.NewBasePathFs(aferofs.New(), dir), rooted(t, dir)} {
		name := fmt.Sprintf("/file%d", i)
		f, err := s.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if wrapped, ok := f.(*afero.BasePathFile); ok {
			f = wrapped.File
		}
		if _, ok := f.(*mmapio.File); !ok {
			t.Errorf("Create returns a %T", f)
		}
		// What afero.File does not have is there for who asks for it.
		if wide, ok := f.(interface {
			Chmod(fs.FileMode) error
			Fd() uintptr
			io.ReaderFrom
			io.WriterTo
			fs.ReadDirFile
		}); !ok {
			t.Errorf("%T lacks what os.File has", f)
		} else if err := wide.Chmod(0o600); err != nil {
			t.Error(err)
		}
		f.Close()
		for what, open := range map[string]func() (afero.File, error){
			"Open":     func() (afero.File, error) { return s.Open("missing") },
			"Create":   func() (afero.File, error) { return s.Create("missing/file") },
			"OpenFile": func() (afero.File, error) { return s.OpenFile("missing", os.O_RDWR, 0) },
		} {
			if f, err := open(); f != nil || err == nil {
				t.Errorf("%s of what is missing returns %#v, %v", what, f, err)
			}
		}
		for _, f := range []afero.File{must(s.Open(name)), must(s.Open("/"))} {
			if wrapped, ok := f.(*afero.BasePathFile); ok {
				f = wrapped.File
			}
			if _, ok := f.(*mmapio.File); !ok {
				t.Errorf("Open returns a %T", f)
			}
			f.Close()
		}
		union := afero.NewCacheOnReadFs(s, afero.NewMemMapFs(), 0)
		both, err := union.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f = both.(*afero.UnionFile).Base
		if wrapped, ok := f.(*afero.BasePathFile); ok {
			f = wrapped.File
		}
		if _, ok := f.(*mmapio.File); !ok {
			t.Errorf("the base of a UnionFile is a %T", f)
		}
		both.Close()
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Options are those of every file, those for writing of files for writing.
func TestOptionsOfFiles(t *testing.T) {
	dir := memoryDir(t)
	for name, s := range map[string]afero.Fs{
		"New":       afero.NewBasePathFs(aferofs.New(mmapio.ForWriting(mmapio.WithSize(4096))), dir),
		"NewRooted": rooted(t, dir, mmapio.ForWriting(mmapio.WithSize(4096))),
	} {
		f, err := s.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 4096 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		f.Close()
		if f, err = s.Open(name); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			f.Close()
		}
	}
	bad := []afero.Fs{aferofs.New(mmapio.WithSize(-1)), rooted(t, dir, mmapio.WithSize(-1))}
	for _, s := range bad {
		f, err := s.Create("made-in-spite-of-it")
		var failed *fs.PathError
		if f != nil || !errors.As(err, &failed) || failed.Op != "open" || failed.Path != "made-in-spite-of-it" || !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%v, %v", f, err)
		}
	}
	if _, err := os.Lstat("made-in-spite-of-it"); err == nil {
		t.Error("the file is there")
	}
	// The list of options is the file system's own.
	options := []mmapio.Option{nil}
	s := rooted(t, dir, options...)
	options[0] = mmapio.WithSize(-1)
	if f, err := s.Create("good"); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

// testing/fstest has nothing to say about IOFS over these.
func TestFSTest(t *testing.T) {
	dir := memoryDir(t)
	if err := grow(dir, false); err != nil {
		t.Fatal(err)
	}
	expected := []string{"file", "readonly", "dir/inner", "dir/sub/deep", "empty"}
	if err := fstest.TestFS(afero.NewIOFS(afero.NewBasePathFs(afero.NewOsFs(), dir)), expected...); err != nil {
		t.Skipf("IOFS over OsFs does not pass here: %v", err)
	}
	// What afero itself does not pass over OsFs is not asked of these.
	for name, wrap := range map[string]func(s afero.Fs) afero.Fs{
		"ReadOnlyFs":    afero.NewReadOnlyFs,
		"RegexpFs":      func(s afero.Fs) afero.Fs { return afero.NewRegexpFs(s, regexp.MustCompile(`.`)) },
		"CopyOnWriteFs": func(s afero.Fs) afero.Fs { return afero.NewCopyOnWriteFs(s, afero.NewMemMapFs()) },
		"CacheOnReadFs": func(s afero.Fs) afero.Fs { return afero.NewCacheOnReadFs(s, afero.NewMemMapFs(), 0) },
	} {
		t.Run("under "+name, func(t *testing.T) {
			for _, base := range bases {
				s, folder := base.make(t, dir)
				err := fstest.TestFS(afero.NewIOFS(wrap(afero.NewBasePathFs(s, folder))), expected...)
				if err != nil && base.name == "OsFs" {
					text, _, _ := strings.Cut(err.Error(), "\n\n")
					t.Skipf("does not pass over OsFs: %s", text)
				}
				if err != nil {
					t.Errorf("over %s: %v", base.name, err)
				}
			}
		})
	}
	for name, s := range map[string]afero.Fs{
		"NewRooted":                  rooted(t, dir),
		"NewRooted, mapped":          rooted(t, dir, mmapio.WithMapping(mmapio.MapAlways)),
		"New under BasePathFs":       afero.NewBasePathFs(aferofs.New(), dir),
		"NewRooted under BasePathFs": afero.NewBasePathFs(rooted(t, filepath.Dir(dir)), filepath.Base(dir)),
	} {
		if err := fstest.TestFS(afero.NewIOFS(s), expected...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Run("New", func(t *testing.T) {
		t.Chdir(dir)
		if err := fstest.TestFS(afero.NewIOFS(aferofs.New()), expected...); err != nil {
			t.Error(err)
		}
	})
	t.Run("with links", func(t *testing.T) {
		if !canLink(t) {
			t.Skip("no symbolic links can be made here")
		}
		if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if err := fstest.TestFS(afero.NewIOFS(rooted(t, dir)), append(expected, "link")...); err != nil {
			t.Error(err)
		}
	})
}

// A web server over these serves files, ranges and folders.
func TestHTTP(t *testing.T) {
	dir := memoryDir(t)
	if err := grow(dir, false); err != nil {
		t.Fatal(err)
	}
	for name, handler := range map[string]http.Handler{
		"New":                   http.FileServer(afero.NewHttpFs(aferofs.New()).Dir(dir)),
		"NewRooted":             http.FileServer(afero.NewHttpFs(rooted(t, dir)).Dir("/")),
		"NewRooted, io/fs":      http.FileServerFS(afero.NewIOFS(rooted(t, dir))),
		"NewRooted, BasePathFs": http.FileServer(afero.NewHttpFs(afero.NewBasePathFs(rooted(t, filepath.Dir(dir)), filepath.Base(dir))).Dir("")),
	} {
		get := func(url string, header ...string) (int, string) {
			request := httptest.NewRequest("GET", url, nil)
			for i := 0; i+1 < len(header); i += 2 {
				request.Header.Set(header[i], header[i+1])
			}
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			return answer.Code, answer.Body.String()
		}
		if code, body := get("/file"); code != 200 || body != "content" {
			t.Errorf("%s: %d %q", name, code, body)
		}
		if code, body := get("/dir/inner", "Range", "bytes=1-3"); code != 206 || body != "nne" {
			t.Errorf("%s: %d %q", name, code, body)
		}
		if code, body := get("/dir/"); code != 200 || !strings.Contains(body, `href="inner"`) || !strings.Contains(body, `href="sub/"`) {
			t.Errorf("%s: %d %q", name, code, body)
		}
		for _, url := range []string{"/missing", "/../" + filepath.Base(dir) + "/missing"} {
			if code, body := get(url); code != 404 {
				t.Errorf("%s: %s: %d %q", name, url, code, body)
			}
		}
	}
}
