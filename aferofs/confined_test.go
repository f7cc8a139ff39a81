package aferofs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"

	"github.com/mmapio/mmapio/aferofs"
)

// outsideOf makes a folder beside the one that is confined, with a secret in it, and
// returns both. At the end of the test the secret must be as it was.
func outsideOf(t testing.TB) (inside, outside string) {
	t.Helper()
	dir := memoryDir(t)
	inside, outside = filepath.Join(dir, "app"), filepath.Join(dir, "app-secret")
	for _, folder := range []string{inside, outside, filepath.Join(outside, "sub")} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"secret", "sub/secret", "file", "sub/file"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(outside, name), treeTime, treeTime); err != nil {
			t.Fatal(err)
		}
	}
	before := picture(outside)
	if !strings.Contains(before, `sub/secret -rw`) || !strings.Contains(before, "untouched") {
		t.Fatalf("not what was made: %s", before)
	}
	t.Cleanup(func() {
		if after := picture(outside); after != before {
			t.Errorf("outside of the folder something has changed:\n%s\nwas:\n%s", after, before)
		}
	})
	return inside, outside
}

// Names and links of every kind do not lead out of the folder.
func TestRootedIsConfined(t *testing.T) {
	withLinks := canLink(t)
	dir, outside := outsideOf(t)
	escapes := []string{
		"..", "../", "/..", "/../", "../app-secret", "/../app-secret", "//..//app-secret", "../app-secret/secret", "/../app-secret/secret",
		"./../app-secret/secret", "sub/../../app-secret/secret", "/sub/../../app-secret/secret", "sub/./.././../app-secret/sub", "../app/../app-secret/file",
		outside, outside + "/secret", "/" + outside + "/secret", strings.TrimPrefix(outside, "/") + "/secret",
	}
	if filepath.Separator == '\\' {
		escapes = append(escapes, `..\app-secret\secret`, `\..\app-secret\secret`, `sub\..\..\app-secret\secret`, `sub/..\../app-secret\secret`,
			`\\?\`+outside+`\secret`, `\\.\`+outside+`\secret`, filepath.VolumeName(outside)+`app-secret\secret`, `NUL`, `CON`, `COM1`, `sub\NUL`)
	}
	links := map[string]string{
		"absolute": outside, "absolute-file": filepath.Join(outside, "secret"), "relative": "../app-secret", "relative-file": "../app-secret/secret",
		"up": "..", "sub/upup": "../..", "chain-a": "chain-b", "chain-b": "sub/../chain-c", "chain-c": "../app-secret", "sub/out": "upup/app-secret",
		"made-file": "../app-secret/made", "made-absolute": filepath.Join(outside, "made"), "dots": "sub/../../app-secret/secret",
	}
	if withLinks {
		for name := range links {
			escapes = append(escapes, name, name+"/", name+"/secret", name+"/made", name+"/sub/file", name+"/../app-secret/secret")
		}
	}
	before := picture(outside)
	s := rooted(t, dir)
	for i, name := range escapes {
		for j, call := range calls {
			if (i+j)%min(sample, 4) != 0 {
				continue
			}
			// What is inside may be removed, renamed or replaced.
			entries, err := os.ReadDir(dir)
			for _, entry := range entries {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
			}
			if err = errors.Join(err, os.Mkdir(filepath.Join(dir, "sub"), 0o755)); err != nil {
				t.Fatal(err)
			}
			for name, target := range links {
				if !withLinks {
					break
				}
				if err := os.Symlink(filepath.FromSlash(target), filepath.Join(dir, filepath.FromSlash(name))); err != nil {
					t.Fatal(err)
				}
			}
			result := call.do(s, name, "")
			for _, hint := range []string{`"ecre"`, `"secr"`, `"secret"`, " 6 bytes"} {
				if strings.Contains(result, hint) {
					t.Errorf("%s %q reached out: %s", call.name, name, result)
				}
			}
			if after := picture(outside); after != before {
				t.Fatalf("%s %q changed what is outside: %s", call.name, name, after)
			}
		}
	}
}

// An error about what leads out is the one of os.Root, with the name that was asked for.
func TestRootedEscapeErrors(t *testing.T) {
	dir, _ := outsideOf(t)
	s := rooted(t, dir)
	_, err := os.OpenInRoot(dir, "../app-secret/secret")
	var theirs, mine *fs.PathError
	if !errors.As(err, &theirs) {
		t.Fatal(err)
	}
	f, err := s.Open("/../app-secret/secret")
	if f != nil || !errors.As(err, &mine) || mine.Op != "open" || mine.Path != "/../app-secret/secret" || mine.Err != theirs.Err {
		t.Errorf("got %v, %v; wanted what os.Root says: %v", f, err, theirs.Err)
	}
}

// A BasePathFs is left through a symbolic link; NewRooted is not. The first half shows
// that the second one can fail.
func TestBasePathIsLeftAndRootedIsNot(t *testing.T) {
	if !canLink(t) {
		t.Skip("no symbolic links can be made here")
	}
	dir, outside := outsideOf(t)
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	content, err := afero.ReadFile(afero.NewBasePathFs(afero.NewOsFs(), dir), "out/secret")
	if err != nil || string(content) != "secret" {
		t.Fatalf("BasePathFs holds: %q, %v", content, err)
	}
	s := rooted(t, dir)
	if content, err := afero.ReadFile(s, "out/secret"); err == nil {
		t.Errorf("read %q", content)
	}
	// Nor does an error say where the folder is.
	_, err = s.Open("missing")
	if err == nil || strings.Contains(err.Error(), filepath.Base(dir)) || strings.Contains(err.Error(), filepath.Dir(dir)) {
		t.Errorf("the error is %v", err)
	}
}

// The folder itself can be read, and neither removed nor renamed nor emptied.
func TestRootedFolderItself(t *testing.T) {
	dir := memoryDir(t)
	if err := grow(dir, false); err != nil {
		t.Fatal(err)
	}
	before := picture(dir)
	s := rooted(t, dir)
	for _, name := range []string{"/", ".", "./", "//", "/.", "dir/.."} {
		if infos, err := afero.ReadDir(s, name); err != nil || len(infos) != 4 || infos[0].Name() != "dir" {
			t.Errorf("ReadDir(%q): %v, %v", name, infos, err)
		}
		if info, err := s.Stat(name); err != nil || !info.IsDir() {
			t.Errorf("Stat(%q): %v, %v", name, info, err)
		}
		if err := s.MkdirAll(name, 0o755); err != nil {
			t.Errorf("MkdirAll(%q): %v", name, err)
		}
		if err := s.Mkdir(name, 0o755); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Mkdir(%q): %v", name, err)
		}
		for what, err := range map[string]error{"Remove": s.Remove(name), "RemoveAll": s.RemoveAll(name), "Rename": s.Rename(name, "other"), "Rename to it": s.Rename("dir", name)} {
			if err == nil {
				t.Errorf("%s(%q) succeeded", what, name)
			}
		}
	}
	if after := picture(dir); after != before {
		t.Errorf("the folder is now\n%s\nit was\n%s", after, before)
	}
}

// What a directory lists is described by what is in it, also when the name of the folder
// means something else outside: a file of os that was given another name would look there.
func TestRootedListsWhatIsInside(t *testing.T) {
	dir, outside := outsideOf(t)
	// The same names exist outside, at the place that the name inside would mean there.
	if err := os.MkdirAll(filepath.Join(dir, outside[len(filepath.VolumeName(outside)):]), 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.ToSlash(outside[len(filepath.VolumeName(outside)):])
	s := rooted(t, dir)
	if err := afero.WriteFile(s, name+"/secret", []byte("inside, and longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := s.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := f.(fs.ReadDirFile).ReadDir(-1)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Size() != 18 {
		t.Errorf("ReadDir describes %v, %v: a file of 18 bytes was wanted", info, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if infos, err := f.Readdir(-1); err != nil || len(infos) != 1 || infos[0].Size() != 18 {
		t.Errorf("Readdir describes %v, %v: a file of 18 bytes was wanted", infos, err)
	}
}

// No method of a file of NewRooted shows where the folder is: not of one that is open, for
// reading only, for writing only, a directory, closed or detached.
func TestRootedFilesShowNoFolder(t *testing.T) {
	dir := memoryDir(t)
	if err := grow(dir, false); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := errors.Join(os.Chdir(here), os.Chmod(filepath.Join(dir, "dir"), 0o700), os.Chmod(filepath.Join(dir, "dir", "inner"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(restore) // Windows does not remove what is for reading only, or where one is
	s := rooted(t, dir)
	private := rooted(t, dir, mmapio.WithCopyOnWrite())
	always := rooted(t, dir, mmapio.ForWriting(mmapio.WithFlushPolicy(mmapio.Always())), mmapio.WithMapping(mmapio.MapAlways))
	states := map[string]func() *mmapio.File{
		"reading": func() *mmapio.File { return open(t, s, "/dir/inner", os.O_RDONLY) },
		"writing": func() *mmapio.File { return open(t, s, "/dir/inner", os.O_WRONLY) },
		"append":  func() *mmapio.File { return open(t, s, "/dir/inner", os.O_RDWR|os.O_APPEND) },
		"both":    func() *mmapio.File { return open(t, s, "/dir/inner", os.O_RDWR) },
		"private": func() *mmapio.File { return open(t, private, "/dir/inner", os.O_RDWR) },
		"flushed": func() *mmapio.File { return open(t, always, "/dir/inner", os.O_RDWR) },
		"folder":  func() *mmapio.File { return open(t, s, "/dir", os.O_RDONLY) },
		"closed": func() *mmapio.File {
			f := open(t, s, "/dir/inner", os.O_RDWR)
			f.Close()
			return f
		},
		"detached": func() *mmapio.File {
			f := open(t, s, "/dir/inner", os.O_RDWR)
			inner, err := f.Detach()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { inner.Close() })
			return f
		},
	}
	methods := reflect.TypeFor[*mmapio.File]()
	failures := 0
	for state, make := range states {
		for i := range methods.NumMethod() {
			method := methods.Method(i)
			switch method.Name {
			case "OSFile", "Detach": // these return the os.File, on purpose
				continue
			}
			for _, arguments := range arguments(t, method.Type) {
				restore() // what a call may have changed
				f := make()
				for _, result := range method.Func.Call(append([]reflect.Value{reflect.ValueOf(f)}, arguments...)) {
					if view, ok := result.Interface().(*mmapio.View); ok {
						view.Release()
					}
					err, ok := result.Interface().(error)
					if !ok {
						continue
					}
					failures++
					if text := fmt.Sprintf("%+v %#v", err, err); strings.Contains(text, dir) {
						t.Errorf("%s of a file in state %s: %s", method.Name, state, text)
					}
				}
				if state != "closed" {
					f.Close()
				}
			}
		}
	}
	if failures < 50 {
		t.Errorf("only %d errors seen", failures)
	}
	t.Logf("%d errors seen", failures)
}

func open(t testing.TB, s afero.Fs, name string, flag int) *mmapio.File {
	t.Helper()
	f, err := s.OpenFile(name, flag, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	mine, ok := f.(*mmapio.File)
	if !ok {
		t.Fatalf("%s is a %T", name, f)
	}
	if mine.Name() != name {
		t.Errorf("the name of %s is %s", name, mine.Name())
	}
	return mine
}

// arguments returns things to call a method with, few of them good ones.
func arguments(t testing.TB, method reflect.Type) [][]reflect.Value {
	one, other := make([]reflect.Value, 0, 4), make([]reflect.Value, 0, 4)
	for i := 1; i < method.NumIn(); i++ {
		if method.IsVariadic() && i == method.NumIn()-1 {
			break
		}
		of := method.In(i)
		a, b := reflect.Zero(of), reflect.Zero(of)
		switch of.Kind() {
		case reflect.Slice:
			a, b = reflect.MakeSlice(of, 8, 8), reflect.MakeSlice(of, 8, 8)
		case reflect.Int, reflect.Int64:
			a, b = reflect.ValueOf(1).Convert(of), reflect.ValueOf(-1).Convert(of)
		case reflect.Func:
			a = reflect.MakeFunc(of, func([]reflect.Value) []reflect.Value {
				var results []reflect.Value
				for i := range of.NumOut() {
					results = append(results, reflect.Zero(of.Out(i)))
				}
				return results
			})
			b = a
		case reflect.Interface:
			switch of {
			case reflect.TypeFor[io.Reader]():
				a, b = reflect.ValueOf(strings.NewReader("text")), reflect.ValueOf(io.LimitReader(strings.NewReader("text"), 2))
			case reflect.TypeFor[io.Writer]():
				a, b = reflect.ValueOf(io.Discard), reflect.ValueOf(new(strings.Builder))
			default:
				t.Logf("%v is called with a nil %v", method, of)
				return nil
			}
		}
		if of == reflect.TypeFor[time.Time]() {
			a = reflect.ValueOf(time.Now().Add(time.Hour))
		}
		one, other = append(one, a), append(other, b)
	}
	return [][]reflect.Value{one, other}
}

// After Close everything fails with fs.ErrClosed, and files that are open go on.
func TestRootedClose(t *testing.T) {
	dir := memoryDir(t)
	if err := grow(dir, false); err != nil {
		t.Fatal(err)
	}
	s, err := aferofs.NewRooted(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, s, "file", os.O_RDWR)
	defer f.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	before := picture(dir)
	_, statErr := s.Stat("file")
	_, openErr := s.Open("file")
	_, createErr := s.Create("new")
	for what, err := range map[string]error{
		"Stat": statErr, "Open": openErr, "Create": createErr, "Mkdir": s.Mkdir("new", 0o777), "MkdirAll": s.MkdirAll("new/x", 0o777),
		"Remove": s.Remove("file"), "RemoveAll": s.RemoveAll("dir"), "Rename": s.Rename("file", "new"), "Chmod": s.Chmod("file", 0), "Chtimes": s.Chtimes("file", treeTime, treeTime),
		"Symlink": s.SymlinkIfPossible("file", "new"),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := picture(dir); after != before {
		t.Errorf("changed:\n%s", after)
	}
	b := make([]byte, 7)
	if n, err := f.ReadAt(b, 0); string(b[:n]) != "content" || err != nil {
		t.Errorf("an open file reads %q, %v", b[:n], err)
	}
}

// A folder that is no folder, or not there, is an error of os.OpenRoot.
func TestNewRootedErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"missing", "file"} {
		_, want := os.OpenRoot(filepath.Join(dir, name))
		s, err := aferofs.NewRooted(filepath.Join(dir, name))
		if s != nil || want == nil || describe(err, "") != describe(want, "") {
			t.Errorf("%s: %v, %v; wanted %v", name, s, err, want)
		}
	}
}

// A folder that is moved, and whose name is given to another one, stays the folder.
func TestRootedStaysWhereItWas(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "js" {
		t.Skipf("%s cannot move a folder that is open, or goes by its name", runtime.GOOS)
	}
	dir, outside := outsideOf(t)
	s := rooted(t, dir)
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := afero.WriteFile(s, "new", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir+"-moved", "new")); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("in the other folder: %v, %v", entries, err)
	}
	_ = outside
}
