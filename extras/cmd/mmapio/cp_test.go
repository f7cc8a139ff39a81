package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
)

func TestCp(t *testing.T) {
	for _, test := range []struct {
		name    string
		content []byte
	}{
		{"empty", nil},
		{"small", []byte("some text\n")},
		{"one step", random(stepOfFile)},
		{"two steps and a bit", random(2*stepOfFile + 77)},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
			write(t, src, test.content)
			for range 2 { // onto nothing, then onto the copy
				if out := succeed(t, "cp", src, dst); out != "" {
					t.Errorf("prints %q", out)
				}
				wantContent(t, dst, test.content)
				wantContent(t, src, test.content)
				wantNames(t, folder, "src", "dst")
			}
		})
	}
}

func TestCpHoles(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	content := make([]byte, stepOfFile+stepOfFile/2)
	copy(content[len(content)/2:], "in the middle")
	file, err := os.Create(src)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("in the middle"), int64(len(content)/2)); err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	succeed(t, "cp", src, dst)
	wantContent(t, dst, content)
}

func TestCpShorterOntoLonger(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	write(t, src, []byte("short"))
	write(t, dst, []byte("a longer text"))
	succeed(t, "cp", src, dst)
	wantContent(t, dst, []byte("short"))
}

func TestCpOntoFolder(t *testing.T) {
	folder, target := t.TempDir(), t.TempDir()
	src := filepath.Join(folder, "src")
	write(t, src, []byte("text"))
	succeed(t, "cp", src, target)
	wantNames(t, target, "src")
	wantContent(t, filepath.Join(target, "src"), []byte("text"))

	wantFailure(t, tool(t, "cp", src, folder), 1, "same file")
	wantContent(t, src, []byte("text"))

	if err := os.Mkdir(filepath.Join(target, "other"), 0o777); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(folder, "other")
	write(t, other, nil)
	wantFailure(t, tool(t, "cp", other, target), 1, "folder")
	wantNames(t, filepath.Join(target, "other"))
}

func TestCpPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits")
	}
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	for _, perm := range []os.FileMode{0o600, 0o755, 0o666, 0o440} {
		write(t, src, []byte("text"))
		if err := os.Chmod(src, perm); err != nil {
			t.Fatal(err)
		}
		succeed(t, "cp", src, dst)
		info, err := os.Stat(dst)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != perm {
			t.Errorf("the copy of a file of mode %v has mode %v", perm, info.Mode())
		}
		for _, path := range []string{src, dst} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// symlink is os.Symlink, with an error also where the system makes something that it
// cannot read afterwards, as Wine 8 does.
func symlink(target, link string) error {
	if err := os.Symlink(target, link); err != nil {
		return err
	}
	got, err := os.Readlink(link)
	if err == nil && got == target {
		return nil
	}
	return errors.Join(fmt.Errorf("the link reads %q: %w", got, errors.ErrUnsupported), err, os.Remove(link))
}

func TestCpOntoItself(t *testing.T) {
	folder := t.TempDir()
	src := filepath.Join(folder, "src")
	write(t, src, []byte("text"))
	names := []string{src, filepath.Join(folder, ".", "src")}
	for name, link := range map[string]func(string, string) error{"hard": os.Link, "symbolic": symlink} {
		path := filepath.Join(folder, name)
		if err := link(src, path); err != nil {
			t.Logf("without a %s link: %v", name, err)
			continue
		}
		names = append(names, path)
	}
	before := namesIn(t, folder)
	for _, dst := range names {
		wantFailure(t, tool(t, "cp", src, dst), 1, dst, "same file")
		wantContent(t, src, []byte("text"))
	}
	wantNames(t, folder, before...)
}

func TestCpFollowsLink(t *testing.T) {
	folder, elsewhere := t.TempDir(), t.TempDir()
	src, link := filepath.Join(folder, "src"), filepath.Join(folder, "link")
	target := filepath.Join(elsewhere, "target")
	write(t, src, []byte("text"))
	write(t, target, []byte("old"))
	if err := symlink(target, link); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	succeed(t, "cp", src, link)
	wantContent(t, target, []byte("text"))
	if got, err := os.Readlink(link); err != nil || got != target {
		t.Errorf("the link leads to %q, %v; want %q", got, err, target)
	}
	wantNames(t, elsewhere, "target")

	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, tool(t, "cp", src, link), 1, link, "symbolic link")
	wantNames(t, elsewhere)
}

func TestCpBadInput(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	write(t, src, []byte("text"))
	write(t, dst, []byte("old"))
	missing := filepath.Join(folder, "missing")
	wantFailure(t, tool(t, "cp", missing, dst), 1, missing)
	wantFailure(t, tool(t, "cp", folder, dst), 1, folder, "folder")
	wantFailure(t, tool(t, "cp", src, filepath.Join(missing, "dst")), 1, filepath.Join(missing, "dst"))
	wantFailure(t, tool(t, "cp", src, missing+string(filepath.Separator)), 1, missing, "no such folder")
	wantFailure(t, tool(t, "cp", src, ""), 1)
	wantContent(t, dst, []byte("old"))
	wantContent(t, src, []byte("text"))
	wantNames(t, folder, "src", "dst")
}

func TestCpOntoReadOnly(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	write(t, src, []byte("text"))
	write(t, dst, []byte("old"))
	if err := os.Chmod(dst, 0o444); err != nil {
		t.Fatal(err)
	}
	if file, err := os.OpenFile(dst, os.O_WRONLY, 0); err == nil {
		file.Close()
		t.Skip("this user may write files of mode 0444")
	}
	wantFailure(t, tool(t, "cp", src, dst), 1, dst)
	wantContent(t, dst, []byte("old"))
	wantNames(t, folder, "src", "dst")
}

func TestCpReadError(t *testing.T) {
	const unreadable = "/proc/self/mem" // at offset 0, that is
	if info, err := os.Stat(unreadable); err != nil || !info.Mode().IsRegular() {
		t.Skipf("no file whose reading fails: %s: %v", unreadable, err)
	}
	folder := t.TempDir()
	dst := filepath.Join(folder, "dst")
	wantFailure(t, tool(t, "cp", unreadable, dst), 1, unreadable, "the partial copy was removed\n")
	wantNames(t, folder)
	write(t, dst, []byte("old"))
	wantFailure(t, tool(t, "cp", unreadable, dst), 1, unreadable, "the partial copy was removed", dst+" is as it was")
	wantContent(t, dst, []byte("old"))
	wantNames(t, folder, "dst")
}

// TestCpWithoutSize copies a file that has content and the size 0.
func TestCpWithoutSize(t *testing.T) {
	const src = "/proc/version"
	content, err := os.ReadFile(src)
	if err != nil || len(content) == 0 {
		t.Skipf("no such file: %s: %v", src, err)
	}
	dst := filepath.Join(t.TempDir(), "dst")
	succeed(t, "cp", src, dst)
	wantContent(t, dst, content)
}

// TestTransferInterrupted looks for the signal before a step of a copy.
func TestTransferInterrupted(t *testing.T) {
	folder := t.TempDir()
	src := filepath.Join(folder, "src")
	write(t, src, random(2*stepOfFile))
	source, err := mmapio.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	file, err := mmapio.Create(filepath.Join(folder, "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := transfer(ctx, file, source); err != errInterrupted {
		t.Errorf("got %v, want %v", err, errInterrupted)
	}
}

// endingContext ends when it has been asked n times whether it has.
type endingContext struct {
	context.Context
	n *int
}

func (c endingContext) Err() error {
	if *c.n--; *c.n < 0 {
		return context.Canceled
	}
	return nil
}

// TestCopyFileInterrupted has a signal arrive at every step of the copy of a file.
func TestCopyFileInterrupted(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	content := random(2*stepOfFile + 1)
	write(t, src, content)
	write(t, dst, []byte("old"))
	existing, err := os.Stat(dst)
	if err != nil {
		t.Fatal(err)
	}
	partial := 0
	for step := 0; ; step++ {
		n := step
		_, err := copyFile(endingContext{t.Context(), &n}, dst, existing, src)
		if err == nil {
			break
		}
		if !errors.Is(err, errInterrupted) {
			t.Errorf("step %d: %v", step, err)
		}
		if strings.Contains(err.Error(), "the partial copy was removed, "+dst+" is as it was") {
			partial++
		} else if err != errInterrupted {
			t.Errorf("step %d: %v", step, err)
		}
		wantContent(t, dst, []byte("old"))
		wantNames(t, folder, "src", "dst")
	}
	wantContent(t, dst, content)
	if partial == 0 {
		t.Error("no copy was interrupted in the middle")
	}
}
