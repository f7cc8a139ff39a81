package aferofs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"

	"github.com/mmapio/mmapio/aferofs"
)

// This file is what the comparing tests share: a tree of files, things to do with a name
// in it, and renderings of results that are equal only if a caller cannot tell them apart.

// entry is a file of the tree.
type entry struct {
	name, content, target string
	dir                   bool
	mode                  fs.FileMode
}

var tree = []entry{
	{name: "file", content: "content", mode: 0o644},
	{name: "readonly", content: "for reading", mode: 0o444},
	{name: "dir", dir: true, mode: 0o755},
	{name: "dir/inner", content: "inner", mode: 0o600},
	{name: "dir/sub", dir: true, mode: 0o700},
	{name: "dir/sub/deep", content: "deep", mode: 0o644},
	{name: "empty", dir: true, mode: 0o755},
}

var links = []entry{
	{name: "link", target: "file"},
	{name: "dirlink", target: "dir"},
	{name: "emptylink", target: "empty"},
	{name: "dangling", target: "nowhere"},
	{name: "loop1", target: "loop2"},
	{name: "loop2", target: "loop1"},
	{name: "chain1", target: "chain2"},
	{name: "chain2", target: "./dir/up"},
	{name: "dir/up", target: "../file"},
}

// made are names that the calls can make, beside those of the tree.
var made = []string{"new", "missing", "nowhere", "x", strings.Repeat("l", 200)}

// treeTime is when everything was changed last.
var treeTime = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// grow makes the tree in dir, where an old one may be.
func grow(dir string, withLinks bool) error {
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	for _, list := range [][]entry{tree, links} {
		for _, e := range list {
			if !strings.Contains(e.name, "/") {
				if err := clear(filepath.Join(dir, e.name)); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range made {
		if err := clear(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, e := range tree {
		path := filepath.Join(dir, e.name)
		var err error
		if e.dir {
			err = os.Mkdir(path, 0o777)
		} else {
			err = os.WriteFile(path, []byte(e.content), 0o666)
		}
		if err = errors.Join(err, os.Chmod(path, e.mode), os.Chtimes(path, treeTime, treeTime)); err != nil {
			return err
		}
	}
	if !withLinks {
		return nil
	}
	for _, e := range links {
		if err := os.Symlink(filepath.FromSlash(e.target), filepath.Join(dir, e.name)); err != nil {
			return err
		}
	}
	return nil
}

// clear removes path and all that is in it, folders that cannot be written to as well.
func clear(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.Type() != fs.ModeSymlink {
			_ = os.Chmod(path, 0o700) // before what is in it is read
		}
		return nil
	})
	return os.RemoveAll(path)
}

// picture renders everything in dir.
func picture(dir string) string {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if strings.HasPrefix(name, ".mark") {
			return nil
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", filepath.ToSlash(name), info.Mode())
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			line += fmt.Sprintf(" %q %s", content, describe(err, filepath.ToSlash(dir)))
		case info.Mode().Type() == fs.ModeSymlink:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		if info.ModTime().Equal(treeTime) && name != "." {
			line += " untouched"
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

// describe renders an error: the type and the fields at each level, without dir.
func describe(err error, dir string) string {
	hide := func(text string) string {
		if dir == "" {
			return text
		}
		return strings.ReplaceAll(text, dir, "DIR")
	}
	switch e := err.(type) {
	case nil:
		return "nil"
	case *fs.PathError:
		return fmt.Sprintf("*PathError{%s %q %s}", e.Op, hide(e.Path), describe(e.Err, dir))
	case *os.LinkError:
		return fmt.Sprintf("*LinkError{%s %q %q %s}", e.Op, hide(e.Old), hide(e.New), describe(e.Err, dir))
	case *os.SyscallError:
		return fmt.Sprintf("*SyscallError{%s %s}", e.Syscall, describe(e.Err, dir))
	}
	if number := reflect.ValueOf(err); number.Kind() == reflect.Uintptr {
		return fmt.Sprintf("Errno(%d %s)", number.Uint(), err)
	}
	return fmt.Sprintf("%T(%s)", err, hide(err.Error()))
}

func describeInfo(info fs.FileInfo) string {
	if info == nil {
		return "no info"
	}
	text := fmt.Sprintf("%s %v", info.Name(), info.Mode())
	if info.Mode().IsRegular() {
		text += fmt.Sprintf(" %d bytes", info.Size())
	}
	if info.ModTime().Equal(treeTime) {
		text += " untouched"
	}
	return text
}

// describeFile renders what can be done with an open file, which is closed then.
func describeFile(f afero.File, err error, dir string) string {
	if err != nil {
		return fmt.Sprint(describe(err, dir), ", file is nil: ", f == nil)
	}
	name := f.Name()
	if dir != "" {
		name = strings.ReplaceAll(name, dir, "DIR")
	}
	info, err := f.Stat()
	text := fmt.Sprintf("%q, %s %s", name, describeInfo(info), describe(err, dir))
	b := make([]byte, 4)
	n, err := f.ReadAt(b, 1)
	text += fmt.Sprintf(", ReadAt %q %s", b[:n], describe(err, dir))
	n, err = f.Read(b)
	text += fmt.Sprintf(", Read %q %s", b[:n], describe(err, dir))
	if info != nil && !info.IsDir() {
		n, err = f.Write([]byte("new"))
		text += fmt.Sprintf(", Write %d %s", n, describe(err, dir))
		position, err := f.Seek(0, io.SeekCurrent) // behind what was there, if it was appended
		text += fmt.Sprintf(", position %d %s", position, describe(err, dir))
		n, err = f.WriteAt([]byte("N"), 0)
		text += fmt.Sprintf(", WriteAt %d %s", n, describe(err, dir))
		text += ", Truncate " + describe(f.Truncate(9), dir)
		at, err := f.Seek(-2, io.SeekEnd)
		text += fmt.Sprintf(", Seek %d %s", at, describe(err, dir))
		rest, err := io.ReadAll(f)
		text += fmt.Sprintf(", rest %q %s", rest, describe(err, dir))
	}
	names, err := f.Readdirnames(-1)
	sort.Strings(names)
	text += fmt.Sprintf(", names %q %s", names, describe(err, dir))
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		text += ", Seek " + describe(err, dir)
	}
	infos, err := f.Readdir(-1)
	var listed []string
	for _, info := range infos {
		listed = append(listed, describeInfo(info))
	}
	sort.Strings(listed)
	text += fmt.Sprintf(", infos %q %s", listed, describe(err, dir))
	text += ", Close " + describe(f.Close(), dir)
	text += ", Close again " + describe(f.Close(), dir)
	_, err = f.ReadAt(b, 0)
	return text + ", ReadAt closed " + describe(err, dir)
}

// calls are the methods of a file system, each with what can be told apart about it. dir is
// what has to be left out of the result, if anything.
var calls = []struct {
	name string
	do   func(s afero.Fs, name, dir string) string
}{
	{"Open", func(s afero.Fs, name, dir string) string {
		f, err := s.Open(name)
		return describeFile(f, err, dir)
	}},
	{"Create", func(s afero.Fs, name, dir string) string {
		f, err := s.Create(name)
		return describeFile(f, err, dir)
	}},
	opening("RDWR", os.O_RDWR, 0),
	opening("WRONLY", os.O_WRONLY, 0),
	opening("RDONLY with a mode", os.O_RDONLY, fs.ModeDir|fs.ModeSticky|0o755),
	opening("EXCL alone", os.O_RDWR|os.O_EXCL, 0),
	opening("APPEND", os.O_RDWR|os.O_APPEND, 0),
	opening("CREATE", os.O_RDWR|os.O_CREATE, 0o640),
	opening("CREATE without reading", os.O_WRONLY|os.O_CREATE, 0o600),
	opening("CREATE without access", os.O_RDWR|os.O_CREATE, 0),
	opening("CREATE EXCL", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666),
	opening("CREATE TRUNC", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644),
	opening("CREATE APPEND", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644),
	opening("CREATE with special bits", os.O_RDWR|os.O_CREATE, fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|0o711),
	opening("CREATE EXCL with special bits", os.O_RDWR|os.O_CREATE|os.O_EXCL, fs.ModeSetuid|0o700),
	opening("TRUNC", os.O_RDWR|os.O_TRUNC, 0),
	opening("SYNC", os.O_RDWR|os.O_SYNC, 0),
	{"Mkdir", func(s afero.Fs, name, dir string) string { return describe(s.Mkdir(name, 0o750), dir) }},
	{"Mkdir sticky", func(s afero.Fs, name, dir string) string {
		return describe(s.Mkdir(name, fs.ModeSticky|fs.ModeDir|0o777), dir)
	}},
	{"MkdirAll", func(s afero.Fs, name, dir string) string { return describe(s.MkdirAll(name, 0o755), dir) }},
	{"MkdirAll below", func(s afero.Fs, name, dir string) string {
		if name == "" {
			name = "." // not the root of the machine
		}
		return describe(s.MkdirAll(name+"/x/y", fs.ModeSetgid|fs.ModeSticky|0o755), dir)
	}},
	{"Remove", func(s afero.Fs, name, dir string) string { return describe(s.Remove(name), dir) }},
	{"RemoveAll", func(s afero.Fs, name, dir string) string { return describe(s.RemoveAll(name), dir) }},
	{"Rename to new", func(s afero.Fs, name, dir string) string { return describe(s.Rename(name, beside(name, "new")), dir) }},
	{"Rename to new/", func(s afero.Fs, name, dir string) string { return describe(s.Rename(name, beside(name, "new/")), dir) }},
	{"Rename to itself", func(s afero.Fs, name, dir string) string { return describe(s.Rename(name, name), dir) }},
	{"Rename to nothing", func(s afero.Fs, name, dir string) string { return describe(s.Rename(name, ""), dir) }},
	{"Rename file", func(s afero.Fs, name, dir string) string { return describe(s.Rename(beside(name, "file"), name), dir) }},
	{"Rename empty", func(s afero.Fs, name, dir string) string { return describe(s.Rename(beside(name, "empty"), name), dir) }},
	{"Stat", func(s afero.Fs, name, dir string) string {
		info, err := s.Stat(name)
		return describeInfo(info) + " " + describe(err, dir)
	}},
	{"Lstat", func(s afero.Fs, name, dir string) string {
		info, possible, err := s.(afero.Lstater).LstatIfPossible(name)
		return fmt.Sprint(describeInfo(info), " ", possible, " ", describe(err, dir))
	}},
	{"Chmod", func(s afero.Fs, name, dir string) string { return describe(s.Chmod(name, 0o500), dir) }},
	{"Chmod special", func(s afero.Fs, name, dir string) string {
		return describe(s.Chmod(name, fs.ModeSticky|fs.ModeSetgid|0o751), dir)
	}},
	{"Chown", func(s afero.Fs, name, dir string) string { return describe(s.Chown(name, os.Getuid(), -1), dir) }},
	{"Chtimes", func(s afero.Fs, name, dir string) string {
		return describe(s.Chtimes(name, time.Time{}, treeTime.Add(time.Hour)), dir)
	}},
	{"Symlink", func(s afero.Fs, name, dir string) string {
		return describe(s.(afero.Symlinker).SymlinkIfPossible("dir", name), dir)
	}},
	{"Symlink to nothing", func(s afero.Fs, name, dir string) string {
		return describe(s.(afero.Symlinker).SymlinkIfPossible("", name), dir)
	}},
	{"Readlink", func(s afero.Fs, name, dir string) string {
		target, err := s.(afero.Symlinker).ReadlinkIfPossible(name)
		return target + " " + describe(err, dir)
	}},
}

func opening(name string, flag int, perm fs.FileMode) struct {
	name string
	do   func(s afero.Fs, name, dir string) string
} {
	return struct {
		name string
		do   func(s afero.Fs, name, dir string) string
	}{"OpenFile " + name, func(s afero.Fs, name, dir string) string {
		f, err := s.OpenFile(name, flag, perm)
		return describeFile(f, err, dir)
	}}
}

// beside returns other as a name of the same kind as name: from the root or not, or in the
// folder that twins have.
func beside(name, other string) string {
	if at := strings.Index(name, twinFolder); at >= 0 {
		return name[:at+len(twinFolder)] + other
	}
	if strings.HasPrefix(name, "/") {
		return "/" + other
	}
	return other
}

const twinFolder = "tree-of-twins/"

// names are what the calls are tried with.
var names = []string{
	"", ".", "./", "./.", "file", "file/", "./file", "file/.", "file/..", "file/x", "file/x/y", "readonly",
	"dir", "dir/", "dir//", "dir/.", "dir/./", "dir/..", "dir/sub/..", "dir//inner", "dir/inner", "dir/../file", "dir/sub/../../file", "dir/sub/deep",
	"empty", "empty/", "empty/.", "missing", "missing/", "missing/x", "missing/..", "missing/../file",
	"link", "link/", "link/x", "dirlink", "dirlink/", "dirlink/.", "dirlink/inner", "dirlink/../file", "emptylink", "emptylink/",
	"dangling", "dangling/", "dangling/x", "loop1", "loop1/", "loop1/x", "chain1", "chain1/", "dir/up",
	"nul\x00byte", strings.Repeat("l", 200), strings.Repeat("l", 300), "missing/" + strings.Repeat("l", 300),
}

// mutating calls and what they leave behind are compared on a tree of their own; the
// others share one.
func mutating(call string) bool {
	for _, prefix := range []string{"Open", "Stat", "Lstat", "Readlink"} {
		if strings.HasPrefix(call, prefix) && (call == "Open" || prefix != "Open") {
			return false
		}
	}
	return true
}

// sample is which of the calls are done: Windows under Wine takes a tenth of a second for a
// tree. MMAPIO_LONG does all.
var sample = func() int {
	if runtime.GOOS == "windows" && os.Getenv("MMAPIO_LONG") == "" {
		return 16
	}
	return 1
}()

// results does every call with every name, on a tree in dir, and returns what came out.
func results(s afero.Fs, dir, hide string, withLinks bool, names []string) (map[string]string, error) {
	all := make(map[string]string)
	fresh := ""
	for i, call := range calls {
		for j, name := range names {
			if sample > 1 && (i+j)%sample != 0 {
				continue
			}
			if !withLinks && strings.HasPrefix(call.name, "Symlink") {
				continue
			}
			if fresh == "" {
				if err := grow(dir, withLinks); err != nil {
					return nil, err
				}
				fresh = picture(dir)
			}
			result := call.do(s, name, hide)
			if mutating(call.name) {
				after := picture(dir)
				result += "\n" + after
				if after != fresh {
					fresh = ""
				}
			}
			all[strings.ReplaceAll(fmt.Sprintf("%s %q", call.name, name), strings.Repeat("l", 200), "200l")] = strings.ReplaceAll(result, strings.Repeat("l", 200), "200l")
		}
	}
	return all, nil
}

// compare reports every difference but those that are expected.
func compare(t *testing.T, want, got map[string]string, expected func(call, want, got string) bool) {
	t.Helper()
	if len(want) != len(got) || len(want) == 0 {
		t.Fatalf("%d results to compare with %d", len(want), len(got))
	}
	calls := make([]string, 0, len(want))
	for call := range want {
		calls = append(calls, call)
	}
	sort.Strings(calls)
	different := 0
	for _, call := range calls {
		if want[call] == got[call] || expected != nil && expected(call, want[call], got[call]) {
			continue
		}
		if different++; different <= 60 {
			t.Errorf("%s:\nOsFs:   %s\nmmapio: %s", call, firstDifference(want[call], got[call]), firstDifference(got[call], want[call]))
		}
	}
	t.Logf("%d calls compared, %d differ", len(calls), different)
}

// firstDifference returns the first line of text that is not in other.
func firstDifference(text, other string) string {
	in := make(map[string]bool)
	for line := range strings.Lines(other) {
		in[strings.TrimSuffix(line, "\n")] = true
	}
	for line := range strings.Lines(text) {
		if line := strings.TrimSuffix(line, "\n"); !in[line] {
			return line
		}
	}
	return "(nothing else)"
}

// memoryDir returns a folder for one test, in memory where the system has a place for that.
func memoryDir(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getenv("TMPDIR") != "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "mmapio-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := clear(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// canLink reports whether symbolic links can be made here.
func canLink(t testing.TB) bool {
	t.Helper()
	dir := t.TempDir()
	err := os.Symlink("there", filepath.Join(dir, "link"))
	if err == nil {
		_, err = os.Readlink(filepath.Join(dir, "link"))
	}
	if err != nil {
		t.Logf("without symbolic links: %v", err)
	}
	return err == nil
}

// rooted returns dir as a file system; it is closed when the test ends.
func rooted(t testing.TB, dir string, options ...mmapio.Option) *aferofs.RootedFs {
	t.Helper()
	s, err := aferofs.NewRooted(dir, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Every method of New with every kind of name does what OsFs does.
func TestNewEqualsOsFs(t *testing.T) {
	withLinks := canLink(t)
	var sides [2]map[string]string
	for i, s := range []afero.Fs{afero.NewOsFs(), aferofs.New()} {
		dir := filepath.Join(memoryDir(t), strings.TrimSuffix(twinFolder, "/"))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		hide := filepath.ToSlash(dir)
		var absolute []string
		for _, name := range names {
			if name != "" {
				name = hide + "/" + name
			}
			absolute = append(absolute, name)
		}
		all, err := results(s, dir, hide, withLinks, absolute)
		if err != nil {
			t.Fatal(err)
		}
		sides[i] = make(map[string]string)
		for call, result := range all {
			sides[i][strings.ReplaceAll(call, hide, "DIR")] = result
		}
	}
	compare(t, sides[0], sides[1], nil)
}

// Every method of NewRooted with every kind of name does what OsFs does in that folder.
func TestRootedEqualsOsFsInFolder(t *testing.T) {
	withLinks := canLink(t)
	dir := memoryDir(t)
	mine, err := results(rooted(t, dir), dir, "", withLinks, names)
	if err != nil {
		t.Fatal(err)
	}
	for call, result := range mine {
		if strings.Contains(result, dir) {
			t.Errorf("%s shows where the folder is: %s", call, result)
		}
	}
	dir = memoryDir(t)
	t.Chdir(dir)
	want, err := results(afero.NewOsFs(), dir, "", withLinks, names)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "windows" {
		forgetNumbers(want)
		forgetNumbers(mine)
	}
	compare(t, want, mine, documented)
}

// number is why something failed, as it is described.
var number = regexp.MustCompile(`Errno\([^)]*\)|\*errors.errorString\([^)]*\)`)

// forgetNumbers leaves out why something failed: os.Root asks Windows by other calls, which
// answer with other numbers.
func forgetNumbers(results map[string]string) {
	for call, result := range results {
		results[call] = number.ReplaceAllString(result, "Errno")
	}
}

// documented reports whether results may differ: the documentation of RootedFs says so.
func documented(call, want, got string) bool {
	method, name := call[:strings.Index(call, " \"")], call[strings.Index(call, " \"")+2:len(call)-1]
	name = strings.TrimLeft(name, "/")
	failed := func(result, kind string) bool { return strings.HasPrefix(result, kind) }
	slashed, dots := strings.HasSuffix(name, "/"), strings.HasSuffix(name, "..")
	switch {
	case runtime.GOOS == "windows" && (strings.Contains(name, `\x00`) || strings.HasPrefix(method, "Rename") && slashed):
		return true
	case method == "RemoveAll":
		// The name is another one, and RemoveAll(".") has more forms.
		return (dots || failed(want, "*PathError{")) && failed(got, "*PathError{")
	case method == "Remove" && dots:
		return failed(want, "*PathError{remove ") && failed(got, "*PathError{remove ")
	case strings.HasPrefix(method, "Rename") && (slashed || dots || method == "Rename to nothing"):
		return failed(want, "*LinkError{rename ") && failed(got, "*LinkError{rename ")
	case strings.HasPrefix(method, "Symlink") && (slashed || method == "Symlink to nothing"):
		return failed(want, "*LinkError{symlink ") && failed(got, "*LinkError{symlink ")
	case method == "OpenFile CREATE with special bits" && strings.HasPrefix(name, "dangling"):
		special := regexp.MustCompile(`[-ugt]+rwx--x--x`) // a write may take some of them away
		return special.ReplaceAllString(want, "-rwx--x--x") == got
	}
	return false
}
