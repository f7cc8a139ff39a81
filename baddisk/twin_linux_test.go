package baddisk_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/baddisk"
)

func TestMain(m *testing.M) {
	baddisk.ServeIfAsked()
	os.Exit(m.Run())
}

// newDisk mounts a disk for one test.
func newDisk(t testing.TB, mode baddisk.Mode) *baddisk.Disk {
	t.Helper()
	disk, err := baddisk.Mount(t.TempDir(), mode)
	if errors.Is(err, baddisk.ErrNoFUSE) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// order has the disk misbehave until the test ends or undo is called.
func order(t testing.TB, disk *baddisk.Disk, f baddisk.Fault) (o *baddisk.Order, undo func()) {
	t.Helper()
	o, err := disk.Order(f)
	if err != nil {
		t.Fatal(err)
	}
	undo = func() {
		if err := o.Cancel(); err != nil {
			t.Error(err)
		}
	}
	return o, undo
}

func hits(t testing.TB, o *baddisk.Order) int {
	t.Helper()
	n, err := o.Hits()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func evict(t testing.TB, disk *baddisk.Disk, name string, off, n int64) {
	t.Helper()
	if err := disk.Evict(name, off, n); err != nil {
		t.Fatal(err)
	}
}

// file is what os.File and mmapio.File have in common, as far as it is tested here.
type file interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.WriterAt
	io.ReaderFrom
	io.WriterTo
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// side is one half of a comparison: os.File, or mmapio.File in one of its ways.
type side struct {
	name string
	open func(name string, flag int) (file, error)
}

var osSide = side{"os", func(name string, flag int) (file, error) { return os.OpenFile(name, flag, 0o666) }}

func mmapioSide(name string, options ...mmapio.Option) side {
	return side{name, func(name string, flag int) (file, error) {
		f, err := mmapio.OpenFile(name, flag, 0o666, options...)
		if err != nil {
			return nil, err
		}
		return f, nil
	}}
}

var mmapioSides = []side{
	mmapioSide("mapped", mmapio.WithMapping(mmapio.MapAlways)),
	mmapioSide("auto"),
	mmapioSide("never mapped", mmapio.WithMapping(mmapio.MapNever)),
	mmapioSide("preallocating", mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(50_000)),
}

// describe renders an error so that two are equal only if callers cannot tell them apart.
func describe(err error) string {
	if err == nil || err == io.EOF {
		return fmt.Sprint(err)
	}
	if failed, ok := err.(*fs.PathError); ok {
		return fmt.Sprintf("*PathError{%s %s %s}", failed.Op, filepath.Base(failed.Path), describe(failed.Err))
	}
	if errno, ok := err.(syscall.Errno); ok {
		return fmt.Sprintf("errno %d %v", errno, errno)
	}
	return fmt.Sprintf("%T %v", err, err)
}

func patterned(n, seed int) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 12345
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x>>24) | 1
	}
	return b
}

func bytesOf(b []byte) string { return fmt.Sprintf("%d bytes %08x", len(b), crc32.ChecksumIEEE(b)) }

// isMapped reports whether the process has mapped the file.
func isMapped(t testing.TB, name string) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(maps), name)
}

const (
	page = 4096
	size = 100*page + 1234
	// The bad bytes: three pages, of which the operations touch both ends.
	badOff, badLen = 40 * page, 3 * page
)

// newFile makes a file of that many bytes on the disk that nothing in memory knows of.
func newFile(t testing.TB, disk *baddisk.Disk, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(disk.Dir, name)
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	evict(t, disk, name, 0, 0)
	return path
}

// goodAgain is noted when the fault has been cancelled.
const goodAgain = "the disk is good again\n"

// onTheDisk begins the last note.
const onTheDisk = "on the disk"

// use does all there is to a file of size bytes, and notes what came out. Before each step
// the bad bytes are taken out of memory.
func use(t testing.TB, s side, disk *baddisk.Disk, name string, warm bool, f baddisk.Fault) (notes []string, met int) {
	t.Helper()
	path := newFile(t, disk, name, patterned(size, 1))
	note := func(what string, result ...any) {
		for i, value := range result {
			if err, ok := value.(error); ok || value == nil {
				result[i] = describe(err)
			}
		}
		notes = append(notes, what+": "+fmt.Sprintln(result...))
	}
	h, err := s.open(path, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	b := make([]byte, size)
	cold := func() { evict(t, disk, name, badOff, badLen) }
	if warm {
		warmUp(t, h)
		if s.name == "mapped" && !isMapped(t, path) {
			t.Fatal("not mapped")
		}
		cold()
	}
	o, undo := order(t, disk, f)
	everything := func() {
		readAt := func(off int64, n int) {
			cold()
			n, err := h.ReadAt(b[:n], off)
			note(fmt.Sprint("ReadAt ", off), n, err, bytesOf(b[:n]))
		}
		readAt(0, 64)
		readAt(badOff, 64)
		readAt(badOff-100, 64)
		readAt(badOff-32, 64)
		readAt(badOff+badLen-32, 64)
		readAt(badOff+badLen, 64)
		readAt(badOff-2*page, 20*page)
		readAt(size-10, 20)
		readAt(0, size)
		seek := func(off int64, whence int) {
			at, err := h.Seek(off, whence)
			note("Seek", at, err)
		}
		seek(badOff-5000, io.SeekStart)
		for range 4 {
			cold()
			n, err := h.Read(b[:3000])
			note("Read", n, err, bytesOf(b[:n]))
			seek(0, io.SeekCurrent)
		}
		for _, w := range []interface {
			io.Writer
			Sum(b []byte) []byte
		}{sha256.New(), &sumBuffer{}} {
			seek(5000, io.SeekStart)
			cold()
			n, err := h.WriteTo(w)
			note("WriteTo", n, err, fmt.Sprintf("%x", w.Sum(nil)))
			seek(0, io.SeekCurrent)
		}
		writeAt := func(off int64, n, seed int) {
			cold()
			n, err := h.WriteAt(patterned(n, seed), off)
			note(fmt.Sprint("WriteAt ", off), n, err)
		}
		writeAt(1000, 100, 2)
		writeAt(badOff+10, 100, 3)
		writeAt(badOff+badLen-50, 100, 4)
		writeAt(badOff-page, 20*page, 5)
		note("Sync", h.Sync())
		note("Sync", h.Sync())
		seek(badOff-100, io.SeekStart)
		for i := range 3 {
			cold()
			n, err := h.Write(patterned(90, i))
			note("Write", n, err)
		}
		seek(0, io.SeekCurrent)
		seek(badOff+100, io.SeekStart)
		n64, err := h.ReadFrom(bytes.NewReader(patterned(50_000, 8)))
		note("ReadFrom", n64, err)
		note("Sync", h.Sync())
		seek(0, io.SeekEnd)
		for i := range 5 {
			n, err := h.Write(patterned(3000, i))
			note("append", n, err)
		}
		readAt(size-100, 200)
		info, err := h.Stat()
		if err != nil {
			note("Stat", err)
		} else {
			note("Stat", info.Size())
		}
		note("Truncate", h.Truncate(size+5000))
		readAt(size-100, 200)
		note("Truncate", h.Truncate(size))
		readAt(badOff, 64)
		note("Sync", h.Sync())
	}
	everything()
	met = hits(t, o)
	undo()
	notes = append(notes, goodAgain)
	everything()
	note("Close", h.Close())
	content, err := disk.Content(name, false)
	note(onTheDisk, err, bytesOf(content))
	return notes, met
}

// sumBuffer is a Writer that is no hash.
type sumBuffer struct{ bytes.Buffer }

func (b *sumBuffer) Sum([]byte) []byte { return []byte(bytesOf(b.Bytes())) }

func firstDifference(want, got []string) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Sprintf("note %d:\n got %swant %s", i, got[i], want[i])
		}
	}
	if len(want) != len(got) {
		return fmt.Sprintf("%d notes, want %d", len(got), len(want))
	}
	return ""
}

// warmUp reads all of a file of size bytes until it is served from memory, where it ever is.
func warmUp(t testing.TB, f io.ReaderAt) {
	t.Helper()
	b := make([]byte, size)
	for range 3 {
		if n, err := f.ReadAt(b, 0); n != size || err != nil {
			t.Fatal(n, err)
		}
	}
}

// openWarm opens a file of size bytes that is mapped and known to be in memory.
func openWarm(t testing.TB, path string, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(path, os.O_RDWR, 0, append(options, mmapio.WithMapping(mmapio.MapAlways))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	warmUp(t, f)
	if !isMapped(t, path) {
		t.Fatal("not mapped")
	}
	return f
}
