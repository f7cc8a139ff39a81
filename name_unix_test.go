//go:build unix

package mmapio_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// Another name changes nothing about the descriptor: a pipe has deadlines, a folder lists,
// a terminal opens, programs that are started do not inherit it, and there is only one.
func TestWithNameKeepsTheDescriptor(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o666); err != nil {
		t.Skipf("no pipe can be made: %v", err)
	}
	f, err := mmapio.OpenFile(pipe, os.O_RDWR, 0, mmapio.WithName("a pipe"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("through")); err != nil {
		t.Error(err)
	}
	b := make([]byte, 100)
	if n, err := f.Read(b); string(b[:n]) != "through" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	inner, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	want := inner.SetReadDeadline(time.Now())
	if err := f.SetReadDeadline(time.Now()); (err == nil) != (want == nil) {
		t.Errorf("SetReadDeadline: %v, os has %v", err, want)
	}
	if want == nil {
		_, err := f.Read(b)
		var failed *fs.PathError
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &failed) || failed.Path != "a pipe" {
			t.Errorf("after the deadline: %v", err)
		}
	}
	for _, file := range []interface{ Fd() uintptr }{f, inner} {
		flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the descriptor has flags %#x, %v: others inherit it", flags, err)
		}
	}
	mine, _ := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	theirs, _ := unix.FcntlInt(inner.Fd(), unix.F_GETFL, 0)
	if mine != theirs {
		t.Errorf("the descriptor has status %#x, that of os %#x", mine, theirs)
	}
	f.Close()

	folder, err := mmapio.Open(dir, mmapio.WithName("a folder"))
	if err != nil {
		t.Fatal(err)
	}
	if names, err := folder.Readdirnames(-1); len(names) != 1 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
	folder.Close()

	terminal, err := mmapio.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0, mmapio.WithName("a terminal"))
	if err != nil {
		t.Logf("no terminal can be opened: %v", err)
		return
	}
	defer terminal.Close()
	if err := terminal.SetDeadline(time.Now()); err == nil {
		if _, err := terminal.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the terminal: %v", err)
		}
	}
}

// The option wins over the name that NewFile is given.
func TestWithNameNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	f := mmapio.NewFile(uintptr(fd), path, mmapio.WithName("name"))
	if f == nil {
		t.Fatal("no file")
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); f.Name() != "name" {
		t.Errorf("the name is %s", f.Name())
	} else {
		checkName(t, "ReadAt", err, "name", path)
	}
	f.Close()
}

// Opening with another name costs one descriptor, and Close gives it back.
func TestWithNameLeaksNothing(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/dev/fd")
		if err != nil {
			t.Skipf("descriptors cannot be counted: %v", err)
		}
		return len(entries)
	}
	path := filepath.Join(t.TempDir(), "file")
	before := count()
	var open []*mmapio.File
	for range 20 {
		f, err := mmapio.Create(path, mmapio.WithName("name"))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	if got := count() - before; got != len(open) {
		t.Errorf("%d files have %d descriptors", len(open), got)
	}
	for _, f := range open {
		f.Close()
	}
	if got := count(); got != before {
		t.Errorf("%d descriptors, there were %d", got, before)
	}
}
