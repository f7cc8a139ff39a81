package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// state is a condition that a file can be in. open brings a new file into it; it
// is called once for every row of methodRows, on both sides.
type state struct {
	name    string
	open    func(s *side) (file, error)
	endless bool // reading to the end does not end
	foreign bool // not a file of this test: its mode and owner stay as they are
	unnamed bool // has no name to ask for
	direct  bool // O_DIRECT, which needs a file system on a disk
}

// errMissing says that the machine has no such file; the reason follows it.
var errMissing = errors.New("not to be had here")

// content is what the regular files of the states begin with: a bit more than two pages.
var content = patterned(2*4096+100, 1)

// regular writes content to a new file and opens it.
func regular(flag int) func(s *side) (file, error) {
	return func(s *side) (file, error) {
		if err := os.WriteFile(s.path("file"), content, 0o644); err != nil {
			return nil, err
		}
		return s.open(s.path("file"), flag, 0o644)
	}
}

// states lists what exists everywhere; files with a platform in their name add to it.
var states = []state{
	{name: "nil", unnamed: true, open: func(s *side) (file, error) {
		if s.name == "os" {
			return (*os.File)(nil), nil
		}
		return (*mmapio.File)(nil), nil
	}},
	{name: "zero", unnamed: true, open: func(s *side) (file, error) {
		if s.name == "os" {
			return (*os.File)(nil), nil // a zero os.File panics; a zero File is like a nil one
		}
		return new(mmapio.File), nil
	}},
	{name: "closed", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		return f, f.Close()
	}},
	{name: "closed after use", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		warm(f)
		if _, err := f.WriteAt([]byte("use"), 7); err != nil {
			return nil, err
		}
		return f, f.Close()
	}},
	{name: "closed twice", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		err = f.Close()
		f.Close()
		return f, err
	}},
	{name: "detached", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		mine, ok := f.(*mmapio.File)
		if !ok {
			return f, f.Close()
		}
		inner, err := mine.Detach()
		if err != nil {
			return nil, err
		}
		s.later(func() { inner.Close() })
		return f, nil
	}},
	{name: "read-only", open: regular(os.O_RDONLY)},
	{name: "write-only", open: regular(os.O_WRONLY)},
	{name: "read-write", open: regular(os.O_RDWR)},
	{name: "append", open: regular(os.O_RDWR | os.O_APPEND)},
	{name: "append write-only", open: regular(os.O_WRONLY | os.O_APPEND)},
	{name: "append read-only", open: regular(os.O_RDONLY | os.O_APPEND)},
	{name: "O_SYNC", open: regular(os.O_RDWR | os.O_SYNC)},
	{name: "O_CREATE on an existing one", open: regular(os.O_RDWR | os.O_CREATE)},
	{name: "O_TRUNC", open: regular(os.O_RDWR | os.O_TRUNC)},
	{name: "O_TRUNC write-only", open: regular(os.O_WRONLY | os.O_TRUNC)},
	{name: "O_TRUNC append", open: regular(os.O_RDWR | os.O_TRUNC | os.O_APPEND)},
	{name: "new with O_EXCL", open: func(s *side) (file, error) {
		return s.open(s.path("file"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}},
	{name: "empty", open: func(s *side) (file, error) {
		return s.open(s.path("file"), os.O_RDWR|os.O_CREATE, 0o644)
	}},
	{name: "one byte", open: func(s *side) (file, error) {
		if err := os.WriteFile(s.path("file"), []byte("1"), 0o644); err != nil {
			return nil, err
		}
		return s.open(s.path("file"), os.O_RDWR, 0)
	}},
	{name: "page exactly", open: func(s *side) (file, error) {
		if err := os.WriteFile(s.path("file"), patterned(os.Getpagesize(), 3), 0o644); err != nil {
			return nil, err
		}
		return s.open(s.path("file"), os.O_RDWR, 0)
	}},
	{name: "holes", open: func(s *side) (file, error) {
		f, err := os.Create(s.path("file"))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for _, at := range []int64{0, 40_000, 80_000} {
			if _, err := f.WriteAt([]byte("data"), at); err != nil {
				return nil, err
			}
		}
		if err := f.Truncate(100_000); err != nil {
			return nil, err
		}
		return s.open(s.path("file"), os.O_RDWR, 0)
	}},
	{name: "moved to the middle", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		_, err = f.Seek(4090, io.SeekStart)
		return f, err
	}},
	{name: "moved past the end", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		_, err = f.Seek(20_000, io.SeekStart)
		return f, err
	}},
	{name: "removed", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		if runtime.GOOS == "windows" {
			return f, nil // it cannot be removed while open
		}
		return f, os.Remove(s.path("file"))
	}},
	{name: "descriptor handed out", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(s)
		if err != nil {
			return nil, err
		}
		if _, err := f.Read(make([]byte, 10)); err != nil {
			return nil, err
		}
		if f.Fd() == ^uintptr(0) {
			return nil, errors.New("no descriptor")
		}
		return f, nil
	}},
	{name: "directory", open: func(s *side) (file, error) {
		for _, name := range []string{"one", "two", "three"} {
			if err := os.MkdirAll(s.path("folder/"+name), 0o755); err != nil {
				return nil, err
			}
		}
		return s.open(s.path("folder"), os.O_RDONLY, 0)
	}},
	{name: "empty directory", open: func(s *side) (file, error) {
		if err := os.Mkdir(s.path("folder"), 0o755); err != nil {
			return nil, err
		}
		return s.open(s.path("folder"), os.O_RDONLY, 0)
	}},
	{name: "null device", foreign: true, open: func(s *side) (file, error) {
		return s.open(os.DevNull, os.O_RDWR, 0)
	}},
	{name: "pipe to read from", open: func(s *side) (file, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if _, err := w.WriteString("through the pipe"); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		return s.wrap(r)
	}},
	{name: "pipe to write to", open: func(s *side) (file, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		go func() { // until w is closed: nobody shall have to wait for room in the pipe
			io.Copy(io.Discard, r)
			r.Close()
		}()
		return s.wrap(w)
	}},
	{name: "pipe without reader", open: func(s *side) (file, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
		return s.wrap(w)
	}},
}

// warm reads the beginning of f until it pays to map it.
func warm(f file) {
	b := make([]byte, 64)
	for range 20 {
		f.ReadAt(b, 0)
	}
}

// methodRow calls one method, or two that belong together, and renders what came out.
type methodRow struct {
	name  string
	toEnd bool // reads up to the end
	named bool // asks for the name
	mode  bool // changes mode or owner
	run   func(s *side, f file) string
}

func readRow(n int) func(*side, file) string {
	return func(s *side, f file) string {
		b := alignedBuffer(n)
		n, err := f.Read(b)
		return fmt.Sprintf("%d %s %s", n, s.describe(err), bytesOf(b[:max(n, 0)]))
	}
}

func readAtRow(n int, off int64) func(*side, file) string {
	return func(s *side, f file) string {
		b := alignedBuffer(n)
		n, err := f.ReadAt(b, off)
		return fmt.Sprintf("%d %s %s", n, s.describe(err), bytesOf(b[:max(n, 0)]))
	}
}

func writeAtRow(n int, off int64) func(*side, file) string {
	return func(s *side, f file) string {
		n, err := f.WriteAt(patterned(n, 5), off)
		return fmt.Sprintf("%d %s", n, s.describe(err))
	}
}

func seekRow(offset int64, whence int) func(*side, file) string {
	return func(s *side, f file) string {
		at, err := f.Seek(offset, whence)
		return fmt.Sprintf("%d %s", at, s.describe(err))
	}
}

func errorRow(call func(f file) error) func(*side, file) string {
	return func(s *side, f file) string { return s.describe(call(f)) }
}

// namesRow renders the names that list returned, in order: the order of a folder
// need not be the same twice.
func namesRow[T any](list func(f file) ([]T, error), name func(T) string) func(*side, file) string {
	return func(s *side, f file) string {
		entries, err := list(f)
		names := make([]string, 0, len(entries))
		for _, entry := range entries {
			names = append(names, name(entry))
		}
		slices.Sort(names)
		return fmt.Sprintf("%q nil %v %s", names, entries == nil, s.describe(err))
	}
}

// workingDirectory is held by who changes it.
var workingDirectory sync.Mutex

// methodRows has at least one row for every method of os.File.
var methodRows = []methodRow{
	{name: "Read", run: readRow(10)},
	{name: "Read nothing", run: readRow(0)},
	{name: "Read into nil", run: func(s *side, f file) string {
		n, err := f.Read(nil)
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "Read more than there is", run: readRow(20_000)},
	{name: "Read a page", run: readRow(4096)},
	{name: "Read twice", run: func(s *side, f file) string {
		return readRow(9_000)(s, f) + " then " + readRow(10)(s, f)
	}},
	{name: "ReadAt", run: readAtRow(10, 5)},
	{name: "ReadAt over a page border", run: readAtRow(5000, 4000)},
	{name: "ReadAt a page", run: readAtRow(4096, 4096)},
	{name: "ReadAt nothing", run: readAtRow(0, 5)},
	{name: "ReadAt nothing past the end", run: readAtRow(0, 50_000)},
	{name: "ReadAt nothing at a negative offset", run: readAtRow(0, -1)},
	{name: "ReadAt the last byte", run: readAtRow(1, int64(len(content))-1)},
	{name: "ReadAt up to the end", run: readAtRow(100, int64(len(content))-100)},
	{name: "ReadAt over the end", run: readAtRow(100, int64(len(content))-50)},
	{name: "ReadAt at the end", run: readAtRow(1, int64(len(content)))},
	{name: "ReadAt past the end", run: readAtRow(100, 50_000)},
	{name: "ReadAt at a negative offset", run: readAtRow(1, -1)},
	{name: "ReadAt at the largest offset", run: readAtRow(1, 1<<63-1)},
	{name: "Write", run: func(s *side, f file) string {
		n, err := f.Write([]byte("written"))
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "Write nothing", run: func(s *side, f file) string {
		n, err := f.Write(nil)
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "Write past the end", run: func(s *side, f file) string {
		n, err := f.Write(patterned(12_345, 2))
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "Write a page", run: func(s *side, f file) string {
		n, err := f.Write(patterned(4096, 6))
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "Write twice", run: func(s *side, f file) string {
		n, err := f.Write([]byte("first "))
		m, err2 := f.Write([]byte("second"))
		return fmt.Sprint(n, s.describe(err), m, s.describe(err2))
	}},
	{name: "Read and Write", run: func(s *side, f file) string {
		read := readRow(7)(s, f)
		n, err := f.Write([]byte("written"))
		return fmt.Sprint(read, n, s.describe(err))
	}},
	{name: "WriteAt", run: writeAtRow(20, 10)},
	{name: "WriteAt a page", run: writeAtRow(4096, 4096)},
	{name: "WriteAt over a page border", run: writeAtRow(5000, 4000)},
	{name: "WriteAt over the end", run: writeAtRow(100, int64(len(content))-50)},
	{name: "WriteAt past the end", run: writeAtRow(100, 30_000)},
	{name: "WriteAt nothing", run: writeAtRow(0, 10)},
	{name: "WriteAt nothing past the end", run: writeAtRow(0, 30_000)},
	{name: "WriteAt nothing at a negative offset", run: writeAtRow(0, -1)},
	{name: "WriteAt at a negative offset", run: writeAtRow(1, -1)},
	{name: "WriteAt at the largest offset", run: writeAtRow(1, 1<<63-1)},
	{name: "WriteString", run: func(s *side, f file) string {
		n, err := f.WriteString("a string")
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "WriteString of nothing", run: func(s *side, f file) string {
		n, err := f.WriteString("")
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "Seek from the start", run: seekRow(100, io.SeekStart)},
	{name: "Seek from here", run: seekRow(100, io.SeekCurrent)},
	{name: "Seek from the end", run: seekRow(-1, io.SeekEnd)},
	{name: "Seek past the end", run: seekRow(1<<40, io.SeekStart)},
	{name: "Seek before the start", run: seekRow(-1, io.SeekStart)},
	{name: "Seek before the start from here", run: seekRow(-50_000, io.SeekCurrent)},
	{name: "Seek before the start from the end", run: seekRow(-1<<40, io.SeekEnd)},
	{name: "Seek with overflow", run: func(s *side, f file) string {
		return seekRow(1, io.SeekCurrent)(s, f) + seekRow(1<<63-1, io.SeekCurrent)(s, f)
	}},
	{name: "Seek from nowhere", run: seekRow(0, 77)},
	{name: "Seek from a negative whence", run: seekRow(0, -1)},
	{name: "Seek and Read", run: func(s *side, f file) string {
		return seekRow(int64(len(content))-5, io.SeekStart)(s, f) + " then " + readRow(10)(s, f)
	}},
	{name: "Truncate shorter", run: errorRow(func(f file) error { return f.Truncate(10) })},
	{name: "Truncate longer", run: errorRow(func(f file) error { return f.Truncate(30_000) })},
	{name: "Truncate to nothing", run: errorRow(func(f file) error { return f.Truncate(0) })},
	{name: "Truncate to a negative size", run: errorRow(func(f file) error { return f.Truncate(-1) })},
	{name: "Stat", run: func(s *side, f file) string {
		info, err := f.Stat()
		return infoOf(info) + " " + s.describe(err)
	}},
	{name: "Sync", run: errorRow(func(f file) error { return f.Sync() })},
	{name: "Close", run: errorRow(func(f file) error { return f.Close() })},
	{name: "Name", named: true, run: func(s *side, f file) string { return strings.ReplaceAll(f.Name(), s.dir, "DIR") }},
	{name: "Name after Close", named: true, run: func(s *side, f file) string {
		f.Close()
		return strings.ReplaceAll(f.Name(), s.dir, "DIR")
	}},
	{name: "Fd", run: func(s *side, f file) string { return fmt.Sprint(f.Fd() == ^uintptr(0)) }},
	{name: "Fd after Close", run: func(s *side, f file) string {
		f.Close()
		return fmt.Sprint(f.Fd() == ^uintptr(0))
	}},
	{name: "Chdir", run: func(s *side, f file) string {
		workingDirectory.Lock()
		defer workingDirectory.Unlock()
		before, err := os.Getwd()
		if err != nil {
			return "no working directory"
		}
		result := s.describe(f.Chdir())
		if now, err := os.Getwd(); err != nil || now != before {
			result += " moved"
		}
		if err := os.Chdir(before); err != nil {
			panic(err)
		}
		return result
	}},
	{name: "Chmod", mode: true, run: errorRow(func(f file) error { return f.Chmod(0o400) })},
	{name: "Chown", mode: true, run: errorRow(func(f file) error { return f.Chown(-1, -1) })},
	{name: "ReadDir", run: namesRow(func(f file) ([]fs.DirEntry, error) { return f.ReadDir(-1) }, fs.DirEntry.Name)},
	{name: "ReadDir 0", run: namesRow(func(f file) ([]fs.DirEntry, error) { return f.ReadDir(0) }, fs.DirEntry.Name)},
	{name: "ReadDir 5", run: namesRow(func(f file) ([]fs.DirEntry, error) { return f.ReadDir(5) }, fs.DirEntry.Name)},
	{name: "ReadDir to the end", run: func(s *side, f file) string {
		result := ""
		for range 4 {
			entries, err := f.ReadDir(2)
			result += fmt.Sprint(len(entries), s.describe(err), ";")
		}
		return result
	}},
	{name: "Readdir", run: namesRow(func(f file) ([]fs.FileInfo, error) { return f.Readdir(-1) }, fs.FileInfo.Name)},
	{name: "Readdir 5", run: namesRow(func(f file) ([]fs.FileInfo, error) { return f.Readdir(5) }, fs.FileInfo.Name)},
	{name: "Readdirnames", run: namesRow(func(f file) ([]string, error) { return f.Readdirnames(-1) }, strings.Clone)},
	{name: "Readdirnames 5", run: namesRow(func(f file) ([]string, error) { return f.Readdirnames(5) }, strings.Clone)},
	{name: "SetDeadline", run: errorRow(func(f file) error { return f.SetDeadline(time.Now().Add(time.Hour)) })},
	{name: "SetDeadline to none", run: errorRow(func(f file) error { return f.SetDeadline(time.Time{}) })},
	{name: "SetReadDeadline", run: errorRow(func(f file) error { return f.SetReadDeadline(time.Now().Add(time.Hour)) })},
	{name: "SetWriteDeadline", run: errorRow(func(f file) error { return f.SetWriteDeadline(time.Now().Add(time.Hour)) })},
	{name: "Read after the deadline", run: func(s *side, f file) string {
		err := f.SetReadDeadline(time.Now().Add(-time.Second))
		return s.describe(err) + " " + readRow(10)(s, f)
	}},
	{name: "Write after the deadline", run: func(s *side, f file) string {
		err := f.SetWriteDeadline(time.Now().Add(-time.Second))
		n, err2 := f.Write([]byte("late"))
		return fmt.Sprint(s.describe(err), n, s.describe(err2))
	}},
	{name: "Write after the deadline of both", run: func(s *side, f file) string {
		err := f.SetDeadline(time.Now().Add(-time.Second))
		n, err2 := f.Write([]byte("late"))
		return fmt.Sprint(s.describe(err), n, s.describe(err2))
	}},
	{name: "SyscallConn", run: func(s *side, f file) string {
		c, err := f.SyscallConn()
		if err != nil {
			return s.describe(err)
		}
		valid := false
		err = c.Control(func(fd uintptr) { valid = fd != ^uintptr(0) })
		return fmt.Sprint(valid, s.describe(err))
	}},
	{name: "SyscallConn to read", run: func(s *side, f file) string {
		return throughConn(s, f, func(c syscall.RawConn) error {
			return c.Read(func(uintptr) bool { return true })
		})
	}},
	{name: "SyscallConn to write", run: func(s *side, f file) string {
		return throughConn(s, f, func(c syscall.RawConn) error {
			return c.Write(func(uintptr) bool { return true })
		})
	}},
	{name: "SyscallConn kept over Close", run: func(s *side, f file) string {
		return throughConn(s, f, func(c syscall.RawConn) error {
			f.Close()
			return c.Control(func(uintptr) { panic("called for a closed file") })
		})
	}},
	{name: "ReadFrom memory", run: func(s *side, f file) string {
		r := bytes.NewReader(patterned(9_000, 4))
		n, err := f.ReadFrom(r)
		return fmt.Sprint(n, s.describe(err), r.Len())
	}},
	{name: "ReadFrom nothing", run: func(s *side, f file) string {
		n, err := f.ReadFrom(bytes.NewReader(nil))
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "ReadFrom a plain reader", run: func(s *side, f file) string {
		r := &brokenReader{data: patterned(9_000, 4), err: io.EOF}
		n, err := f.ReadFrom(r)
		return fmt.Sprint(n, s.describe(err), len(r.data))
	}},
	{name: "ReadFrom a broken reader", run: func(s *side, f file) string {
		r := &brokenReader{data: patterned(9_000, 4), err: errBrokenReader}
		n, err := f.ReadFrom(r)
		return fmt.Sprint(n, s.describe(err), len(r.data))
	}},
	{name: "ReadFrom a file", run: func(s *side, f file) string {
		from := s.plainFile("from", patterned(9_000, 4))
		n, err := f.ReadFrom(from)
		return fmt.Sprint(n, s.describe(err), tell(s, from))
	}},
	{name: "ReadFrom a file of its own kind", run: func(s *side, f file) string {
		from := s.ownFile("from", patterned(9_000, 4))
		n, err := f.ReadFrom(from)
		return fmt.Sprint(n, s.describe(err), tell(s, from))
	}},
	{name: "ReadFrom part of a file of its own kind", run: func(s *side, f file) string {
		from := s.ownFile("from", patterned(9_000, 4))
		limited := &io.LimitedReader{R: from, N: 5_000}
		n, err := f.ReadFrom(limited)
		return fmt.Sprint(n, s.describe(err), limited.N, tell(s, from))
	}},
	{name: "ReadFrom a closed file", run: func(s *side, f file) string {
		from := s.ownFile("from", patterned(9_000, 4))
		from.Close()
		n, err := f.ReadFrom(from)
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "ReadFrom a directory", run: func(s *side, f file) string {
		from, err := s.open(s.dir, os.O_RDONLY, 0)
		if err != nil {
			return s.describe(err)
		}
		s.later(func() { from.Close() })
		n, err := f.ReadFrom(from)
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "WriteTo memory", toEnd: true, run: func(s *side, f file) string {
		var w bytes.Buffer
		n, err := f.WriteTo(&w)
		return fmt.Sprint(n, s.describe(err), bytesOf(w.Bytes()))
	}},
	{name: "WriteTo a plain writer", toEnd: true, run: func(s *side, f file) string {
		w := &brokenWriter{left: 1 << 30}
		n, err := f.WriteTo(w)
		return fmt.Sprint(n, s.describe(err), bytesOf(w.taken.Bytes()))
	}},
	{name: "WriteTo a broken writer", run: func(s *side, f file) string {
		w := &brokenWriter{left: 5_000}
		n, err := f.WriteTo(w)
		if f.Name() == os.DevNull || n == 0 {
			return fmt.Sprint(n, s.describe(err))
		}
		return fmt.Sprint(n, s.describe(err), bytesOf(w.taken.Bytes()))
	}, named: true},
	{name: "WriteTo a file", toEnd: true, run: func(s *side, f file) string {
		to := s.plainFile("to", nil)
		n, err := f.WriteTo(to)
		return fmt.Sprint(n, s.describe(err), tell(s, to), s.contentOf("to"))
	}},
	{name: "WriteTo a file of its own kind", toEnd: true, run: func(s *side, f file) string {
		to := s.ownFile("to", nil)
		n, err := f.WriteTo(to)
		return fmt.Sprint(n, s.describe(err), tell(s, to), s.contentOf("to"))
	}},
	{name: "WriteTo a closed file", run: func(s *side, f file) string {
		to := s.ownFile("to", nil)
		to.Close()
		n, err := f.WriteTo(to)
		return fmt.Sprint(n, s.describe(err))
	}, toEnd: true},
	{name: "WriteTo a pipe", toEnd: true, run: func(s *side, f file) string {
		var (
			n   int64
			err error
		)
		got := throughPipe(func(w *os.File) { n, err = f.WriteTo(w) })
		return fmt.Sprint(n, s.describe(err), got)
	}},
	{name: "io.Copy out", toEnd: true, run: func(s *side, f file) string {
		var w bytes.Buffer
		n, err := io.Copy(&w, f)
		return fmt.Sprint(n, s.describe(err), bytesOf(w.Bytes()))
	}},
	{name: "io.CopyN out", run: func(s *side, f file) string {
		var w bytes.Buffer
		n, err := io.CopyN(&w, f, 10)
		return fmt.Sprint(n, s.describe(err), bytesOf(w.Bytes()))
	}},
	{name: "io.Copy in", run: func(s *side, f file) string {
		n, err := io.Copy(f, strings.NewReader("copied in"))
		return fmt.Sprint(n, s.describe(err))
	}},
	{name: "io.CopyN in", run: func(s *side, f file) string {
		n, err := io.CopyN(f, strings.NewReader("copied in"), 5)
		return fmt.Sprint(n, s.describe(err))
	}},
}

func throughConn(s *side, f file, use func(c syscall.RawConn) error) string {
	c, err := f.SyscallConn()
	if err != nil {
		return s.describe(err)
	}
	return s.describe(use(c))
}

// throughPipe returns what write wrote into a pipe.
func throughPipe(write func(w *os.File)) string {
	r, w, err := os.Pipe()
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	got := make(chan string)
	go func() {
		b, err := io.ReadAll(r)
		got <- fmt.Sprint(bytesOf(b), err)
	}()
	write(w)
	w.Close()
	return <-got
}

// plainFile opens a new os.File with that content for reading and writing.
func (s *side) plainFile(name string, content []byte) *os.File {
	if err := os.WriteFile(s.path(name), content, 0o644); err != nil {
		panic(err)
	}
	f, err := os.OpenFile(s.path(name), os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	s.later(func() { f.Close() })
	return f
}

// ownFile opens a new file of the kind that is compared.
func (s *side) ownFile(name string, content []byte) file {
	if err := os.WriteFile(s.path(name), content, 0o644); err != nil {
		panic(err)
	}
	f, err := s.open(s.path(name), os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	s.later(func() { f.Close() })
	return f
}

// contentOf renders what a new look at the named file shows.
func (s *side) contentOf(name string) string {
	info, err := os.Lstat(s.path(name))
	if err != nil || !info.Mode().IsRegular() {
		return "no regular file"
	}
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		return s.describe(err)
	}
	return fmt.Sprint(info.Mode(), bytesOf(b))
}

// tell renders the position of f.
func tell(s *side, f io.Seeker) string {
	at, err := f.Seek(0, io.SeekCurrent)
	return fmt.Sprint("at ", at, s.describe(err))
}

// A stateVariant is a way for the mmapio side to get at a file.
type stateVariant struct {
	name    string
	options []mmapio.Option
	adopt   bool // by FromFile
	warm    bool // read often before the row, so that a file that can be mapped is
}

var stateVariants = []stateVariant{
	{name: "MapNever", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}},
	{name: "MapAlways", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}},
	{name: "MapAlways warm", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, warm: true},
	{name: "MapAuto"},
	{name: "MapAuto warm", warm: true},
	{name: "FromFile", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, adopt: true},
	{name: "FromFile warm", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, adopt: true, warm: true},
}

func init() {
	if runtime.GOOS == "windows" {
		// Files take their time there: no more than the variants that differ most.
		stateVariants = slices.DeleteFunc(stateVariants, func(v stateVariant) bool {
			return v.name != "MapAlways warm" && v.name != "FromFile warm"
		})
	}
}

// Every method gives in every state what it gives in os.
func TestEveryMethodInEveryState(t *testing.T) {
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			wanted := make(map[string]string) // by row, and whether it was warm
			for _, variant := range stateVariants {
				t.Run(variant.name, func(t *testing.T) {
					dir := memoryDir(t)
					if state.direct {
						if variant.warm || variant.adopt {
							return // never mapped: there is nothing to warm
						}
						dir = t.TempDir()
					}
					for _, row := range methodRows {
						if row.toEnd && state.endless || row.mode && state.foreign || row.named && state.unnamed {
							continue
						}
						key := fmt.Sprint(row.name, variant.warm)
						want, ok := wanted[key]
						if !ok {
							var err error
							want, err = runRow(osSide(dir+"/os/side"), state, variant, row)
							if errors.Is(err, errMissing) {
								t.Skip(err)
							}
							if err != nil {
								t.Fatalf("os: %v", err)
							}
							wanted[key] = want
						}
						mine := mmapioSide(dir+"/mm/side", variant.options...)
						if variant.adopt {
							mine.open = func(name string, flag int, perm fs.FileMode) (file, error) {
								inner, err := os.OpenFile(name, flag, perm)
								if err != nil {
									return nil, err
								}
								return mine.wrap(inner)
							}
						}
						got, err := runRow(mine, state, variant, row)
						if err != nil {
							t.Fatalf("mmapio: %v", err)
						}
						if got != want {
							t.Errorf("%s:\n got %s\nwant %s", row.name, got, want)
						}
					}
				})
			}
		})
	}
}

// runRow brings a file into the state, runs the row, and renders what came out
// and what is left behind.
func runRow(s *side, state state, variant stateVariant, row methodRow) (result string, err error) {
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return "", err
	}
	defer os.RemoveAll(s.dir)
	defer s.finish()
	f, err := state.open(s)
	if err != nil {
		return "", fmt.Errorf("opening: %w", err)
	}
	defer f.Close()
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%s: panic: %v", row.name, cause)
		}
	}()
	if variant.warm && !state.endless {
		warm(f)
	}
	result = row.run(s, f)
	at := tell(s, f)
	if state.direct && strings.Contains(result, "invalid argument") {
		// How much of an unaligned write arrives is up to the moment.
		return fmt.Sprint(result, at), nil
	}
	left := s.contentOf("file") // before Close: others see it at once
	closed := s.describe(f.Close())
	again := s.describe(f.Close())
	return fmt.Sprintf("%s\n     %s, file %s\n     close %s, again %s, file then %s",
		result, at, left, closed, again, s.contentOf("file")), nil
}

// Every method of os.File has a row: the name of a row begins with its method.
func TestMethodRowsAreComplete(t *testing.T) {
	for _, name := range methodNames() {
		if !slices.ContainsFunc(methodRows, func(row methodRow) bool {
			return row.name == name || strings.HasPrefix(row.name, name+" ")
		}) {
			t.Errorf("no row for %s", name)
		}
	}
}

// What File has beyond os.File answers in every state as the methods that it is made of.
func TestOwnMethodsInEveryState(t *testing.T) {
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) {
			for _, warmed := range []bool{false, true} {
				func() {
					s := mmapioSide(t.TempDir())
					defer s.finish()
					opened, err := state.open(s)
					if errors.Is(err, errMissing) {
						t.Skip(err)
					}
					if err != nil {
						t.Fatal(err)
					}
					f := opened.(*mmapio.File)
					defer f.Close()
					if warmed && !state.endless {
						warm(f)
					}
					info, want := f.Stat()
					size, err := f.Size()
					if s.describe(err) != s.describe(want) {
						t.Errorf("Size: %v; Stat: %v", err, want)
					}
					if want == nil && size != info.Size() {
						t.Errorf("Size says %d, Stat %d", size, info.Size())
					}
					if inner := f.OSFile(); (inner == nil) != state.unnamed {
						t.Errorf("OSFile returned %v", inner)
					}
					_, closed := f.SyscallConn()
					if closed == nil {
						if c, err := f.SyscallConn(); err == nil {
							closed = c.Control(func(uintptr) {})
						}
					}
					inner, err := f.Detach()
					if (err == nil) != (closed == nil) {
						t.Fatalf("Detach: %v; the descriptor: %v", err, closed)
					}
					if err != nil {
						if inner != nil {
							t.Error("Detach returned a file and an error")
						}
						return
					}
					defer inner.Close()
					if _, err := inner.Stat(); s.describe(err) != s.describe(want) {
						t.Errorf("Stat of the detached file: %v; before: %v", err, want)
					}
					if _, err := f.Detach(); !errors.Is(err, os.ErrClosed) {
						t.Errorf("second Detach: %v", err)
					}
					if err := f.Close(); !errors.Is(err, os.ErrClosed) {
						t.Errorf("Close after Detach: %v", err)
					}
				}()
			}
		})
	}
}

// The mode says what the file was opened for.
func TestMode(t *testing.T) {
	for _, row := range []struct {
		flag int
		want mmapio.Mode
		text string
	}{
		{os.O_RDONLY, mmapio.ReadOnly, "read-only"},
		{os.O_WRONLY, mmapio.WriteOnly, "write-only"},
		{os.O_RDWR, mmapio.ReadWrite, "read-write"},
		{os.O_RDWR | os.O_APPEND, mmapio.ReadWrite, "read-write"},
		{os.O_WRONLY | os.O_APPEND | os.O_SYNC, mmapio.WriteOnly, "write-only"},
		{os.O_RDONLY | os.O_CREATE, mmapio.ReadOnly, "read-only"},
	} {
		s := mmapioSide(t.TempDir())
		opened, err := regular(row.flag)(s)
		if err != nil {
			t.Fatal(err)
		}
		f := opened.(*mmapio.File)
		if got := f.Mode(); got != row.want || got.String() != row.text {
			t.Errorf("flag %#x: mode %v, want %v", row.flag, got, row.want)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := (*mmapio.File)(nil).Mode(); got != mmapio.ReadOnly {
		t.Errorf("nil: mode %v", got)
	}
	if got := mmapio.Mode(77).String(); got != "unknown mode" {
		t.Errorf("unknown mode: %q", got)
	}
}

// The functions that open a file fail as those of os do, and change as much.
func TestOpenErrors(t *testing.T) {
	flags := map[string]int{
		"read":             os.O_RDONLY,
		"write":            os.O_WRONLY,
		"both":             os.O_RDWR,
		"append":           os.O_WRONLY | os.O_APPEND,
		"create":           os.O_RDWR | os.O_CREATE,
		"exclusive":        os.O_RDWR | os.O_CREATE | os.O_EXCL,
		"truncate":         os.O_RDWR | os.O_TRUNC,
		"truncate to read": os.O_RDONLY | os.O_TRUNC,
		"truncate write":   os.O_WRONLY | os.O_TRUNC,
		"truncate append":  os.O_RDWR | os.O_TRUNC | os.O_APPEND,
		"create truncate":  os.O_RDWR | os.O_CREATE | os.O_TRUNC,
		"everything":       os.O_RDWR | os.O_CREATE | os.O_TRUNC | os.O_EXCL,
		"sync":             os.O_RDWR | os.O_CREATE | os.O_SYNC,
		"both directions":  os.O_RDWR | os.O_WRONLY,
	}
	names := []string{
		"file", "missing", "folder", "folder/", "file/", "file/below", "missing/below", "", ".", "loop", "dangling",
		"link", "bad\x00name", strings.Repeat("long", 100), strings.Repeat("long/", 2000),
	}
	dir := memoryDir(t)
	for _, option := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways} {
		for flagName, flag := range flags {
			for _, name := range names {
				outcome := func(s *side) string {
					if err := os.Mkdir(s.dir, 0o777); err != nil {
						t.Fatal(err)
					}
					defer os.RemoveAll(s.dir)
					defer s.finish()
					s.plainFile("file", content)
					os.Mkdir(s.path("folder"), 0o777)
					for link, target := range map[string]string{"loop": "loop", "dangling": "nothing", "link": "file"} {
						os.Symlink(target, s.path(link)) // where there are none, the name is missing
					}
					path := s.dir + "/" + name
					if name == "" {
						path = ""
					}
					f, err := s.open(path, flag, 0o640)
					result := fmt.Sprint(f != nil, s.describe(err))
					if err == nil {
						info, err := f.Stat()
						size := int64(-1)
						if err == nil {
							size = info.Size()
						}
						if err == nil && info.IsDir() {
							size = 0
						}
						result += fmt.Sprint(size, s.describe(err), tell(s, f), strings.ReplaceAll(f.Name(), s.dir, "DIR"))
						result += " close " + s.describe(f.Close())
					}
					return result + " file " + s.contentOf("file") + " dangling " + s.contentOf("nothing")
				}
				want := outcome(osSide(dir + "/os"))
				got := outcome(mmapioSide(dir+"/mm", mmapio.WithMapping(option)))
				if got != want {
					t.Errorf("%s %.30q:\n got %s\nwant %s", flagName, name, got, want)
				}
			}
		}
	}
}

// The shorter ways to open fail as in os, too.
func TestOtherConstructorErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", content, 0o644); err != nil {
		t.Fatal(err)
	}
	s := &side{dir: filepath.Clean(dir)}
	compare := func(name string, got *mmapio.File, gotErr error, want *os.File, wantErr error) {
		t.Helper()
		if (got == nil) != (want == nil) || s.describe(gotErr) != s.describe(wantErr) {
			t.Errorf("%s: got %v, %s; want %v, %s", name, got != nil, s.describe(gotErr), want != nil, s.describe(wantErr))
		}
		if got != nil {
			got.Close()
		}
		if want != nil {
			want.Close()
		}
	}
	for _, name := range []string{dir + "/file", dir + "/missing", dir, "", dir + "/missing/below", dir + "/\x00"} {
		want, wantErr := os.Open(name)
		got, gotErr := mmapio.Open(name)
		compare("Open "+name, got, gotErr, want, wantErr)
	}
	for _, name := range []string{dir + "/new", dir, "", dir + "/missing/below", dir + "/\x00"} {
		want, wantErr := os.Create(name)
		got, gotErr := mmapio.Create(name)
		compare("Create "+name, got, gotErr, want, wantErr)
	}
	for _, name := range []string{"file", "missing", "../file", "/file", "", "."} {
		want, wantErr := os.OpenInRoot(dir, name)
		got, gotErr := mmapio.OpenInRoot(dir, name)
		compare("OpenInRoot "+name, got, gotErr, want, wantErr)
	}
	compareTemp := func(dir, pattern string) {
		t.Helper()
		want, wantErr := os.CreateTemp(dir, pattern)
		got, gotErr := mmapio.CreateTemp(dir, pattern)
		if (wantErr == nil) != (gotErr == nil) || (wantErr != nil && !temporaryAlike(s, wantErr, gotErr)) {
			t.Errorf("CreateTemp %q: got %v, want %v", pattern, gotErr, wantErr)
		}
		if want != nil {
			want.Close()
		}
		if got != nil {
			if !strings.HasPrefix(got.Name(), dir) || got.Mode() != mmapio.ReadWrite {
				t.Errorf("CreateTemp made %s, %v", got.Name(), got.Mode())
			}
			got.Close()
		}
	}
	compareTemp(dir, "a*b")
	compareTemp(dir, "")
	compareTemp(dir, "a/b")
	compareTemp(dir+"/missing", "a*b")

	if f := mmapio.NewFile(^uintptr(0), "none"); f != nil {
		t.Error("NewFile of no descriptor returned a File")
	}
	if f, err := mmapio.FromFile(nil); f != nil || err != os.ErrInvalid {
		t.Errorf("FromFile(nil) returned %v, %v", f, err)
	}
}

// temporaryAlike compares errors of CreateTemp, whose names are random.
func temporaryAlike(s *side, want, got error) bool {
	var wantPath, gotPath *fs.PathError
	if !errors.As(want, &wantPath) || !errors.As(got, &gotPath) {
		return false
	}
	return wantPath.Op == gotPath.Op && s.describe(wantPath.Err) == s.describe(gotPath.Err)
}

// A detached file goes on where the File was, and is the caller's.
func TestDetachGoesOn(t *testing.T) {
	for _, mapping := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways, mmapio.MapNever} {
		s := mmapioSide(t.TempDir(), mmapio.WithMapping(mapping))
		opened, err := regular(os.O_RDWR)(s)
		if err != nil {
			t.Fatal(err)
		}
		f := opened.(*mmapio.File)
		warm(f)
		if _, err := f.Seek(4000, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 200)
		if n, err := f.Read(got); n != len(got) || err != nil {
			t.Fatalf("Read: %d, %v", n, err)
		}
		if n, err := f.WriteAt([]byte("before"), 4200); n != 6 || err != nil {
			t.Fatalf("WriteAt: %d, %v", n, err)
		}
		inner, err := f.Detach()
		if err != nil {
			t.Fatal(err)
		}
		if inner.Name() != s.path("file") {
			t.Errorf("the detached file is called %s", inner.Name())
		}
		if n, err := inner.Read(got[:6]); n != 6 || err != nil || string(got[:6]) != "before" {
			t.Errorf("Read of the detached file: %d, %v, %q", n, err, got[:6])
		}
		if n, err := f.Read(got); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("Read after Detach: %d, %v", n, err)
		}
		if err := inner.Close(); err != nil {
			t.Errorf("Close of the detached file: %v", err)
		}
	}
}

// A File and the os.File inside have one position.
func TestOSFileSharesThePosition(t *testing.T) {
	for _, variant := range stateVariants {
		s := mmapioSide(t.TempDir(), variant.options...)
		opened, err := regular(os.O_RDWR)(s)
		if err != nil {
			t.Fatal(err)
		}
		f := opened.(*mmapio.File)
		if variant.warm {
			warm(f)
		}
		b := make([]byte, 100)
		want := content
		for i := range 8 {
			var reader io.Reader = f
			if i%2 == 1 {
				reader = f.OSFile()
			}
			if n, err := reader.Read(b); n != len(b) || err != nil || !bytes.Equal(b, want[:len(b)]) {
				t.Fatalf("%s: read %d returned %d, %v, or other bytes", variant.name, i, n, err)
			}
			want = want[len(b):]
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
