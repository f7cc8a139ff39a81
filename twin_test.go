package mmapio_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/mmapio/mmapio"
)

// This file is what the comparing tests share: two sides that do the same thing,
// one through os.File and one through mmapio.File, each in a folder of its own,
// and renderings of results that are equal only if a caller cannot tell them apart.

// file is the method set of os.File, which mmapio.File has as well.
type file interface {
	Chdir() error
	Chmod(mode fs.FileMode) error
	Chown(uid, gid int) error
	Close() error
	Fd() uintptr
	Name() string
	Read(b []byte) (n int, err error)
	ReadAt(b []byte, off int64) (n int, err error)
	ReadDir(n int) ([]fs.DirEntry, error)
	ReadFrom(r io.Reader) (n int64, err error)
	Readdir(n int) ([]fs.FileInfo, error)
	Readdirnames(n int) (names []string, err error)
	Seek(offset int64, whence int) (ret int64, err error)
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Stat() (fs.FileInfo, error)
	Sync() error
	SyscallConn() (syscall.RawConn, error)
	Truncate(size int64) error
	Write(b []byte) (n int, err error)
	WriteAt(b []byte, off int64) (n int, err error)
	WriteString(s string) (n int, err error)
	WriteTo(w io.Writer) (n int64, err error)
}

var (
	_ file = (*os.File)(nil)
	_ file = (*mmapio.File)(nil)
)

// side is one half of a comparison.
type side struct {
	name   string // "os" or "mmapio"
	dir    string // its folder, which is left out of what is compared
	open   func(name string, flag int, perm fs.FileMode) (file, error)
	wrap   func(inner *os.File) (file, error)
	closed []func()
}

// osSide is the truth.
func osSide(dir string) *side {
	return &side{
		name: "os",
		dir:  filepath.Clean(dir),
		open: func(name string, flag int, perm fs.FileMode) (file, error) {
			f, err := os.OpenFile(name, flag, perm)
			if f == nil {
				return nil, err
			}
			return f, err
		},
		wrap: func(inner *os.File) (file, error) { return inner, nil },
	}
}

// mmapioSide is what is tested.
func mmapioSide(dir string, options ...mmapio.Option) *side {
	return &side{
		name: "mmapio",
		dir:  filepath.Clean(dir),
		open: func(name string, flag int, perm fs.FileMode) (file, error) {
			f, err := mmapio.OpenFile(name, flag, perm, options...)
			if f == nil {
				return nil, err
			}
			return f, err
		},
		wrap: func(inner *os.File) (file, error) {
			f, err := mmapio.FromFile(inner, options...)
			if f == nil {
				return nil, err
			}
			return f, err
		},
	}
}

// path returns the name of a file of this side.
func (s *side) path(name string) string { return filepath.Join(s.dir, name) }

// later registers what must be undone when the side is no longer needed.
func (s *side) later(undo func()) { s.closed = append(s.closed, undo) }

// finish undoes what was registered, last first.
func (s *side) finish() {
	for len(s.closed) > 0 {
		last := len(s.closed) - 1
		undo := s.closed[last]
		s.closed = s.closed[:last]
		undo()
	}
}

// sentinels are the errors that callers compare with ==.
var sentinels = map[error]string{
	io.EOF:                 "io.EOF",
	io.ErrUnexpectedEOF:    "io.ErrUnexpectedEOF",
	io.ErrShortWrite:       "io.ErrShortWrite",
	io.ErrNoProgress:       "io.ErrNoProgress",
	io.ErrClosedPipe:       "io.ErrClosedPipe",
	os.ErrInvalid:          "os.ErrInvalid",
	os.ErrClosed:           "os.ErrClosed",
	os.ErrExist:            "os.ErrExist",
	os.ErrNotExist:         "os.ErrNotExist",
	os.ErrPermission:       "os.ErrPermission",
	os.ErrNoDeadline:       "os.ErrNoDeadline",
	os.ErrDeadlineExceeded: "os.ErrDeadlineExceeded",
	errors.ErrUnsupported:  "errors.ErrUnsupported",
	errBrokenReader:        "errBrokenReader",
	errBrokenWriter:        "errBrokenWriter",
}

// describe renders an error: the type, the fields and the text at each level of
// wrapping. The folder of the side is left out.
func (s *side) describe(err error) string {
	if err == nil {
		return "nil"
	}
	hide := func(text string) string {
		if s.dir == "" {
			return text
		}
		return strings.ReplaceAll(text, s.dir, "DIR")
	}
	switch e := err.(type) {
	case *fs.PathError:
		return fmt.Sprintf("*PathError{%q, %q, %s}(%s)", e.Op, hide(e.Path), s.describe(e.Err), hide(e.Error()))
	case *os.SyscallError:
		return fmt.Sprintf("*SyscallError{%q, %s}", e.Syscall, s.describe(e.Err))
	case *os.LinkError:
		return fmt.Sprintf("*LinkError{%q, %q, %q, %s}", e.Op, hide(e.Old), hide(e.New), s.describe(e.Err))
	}
	if number := reflect.ValueOf(err); number.Kind() == reflect.Uintptr { // syscall.Errno, where there is one
		return fmt.Sprintf("Errno(%d)(%s)", number.Uint(), err.Error())
	}
	for sentinel, name := range sentinels {
		if err == sentinel {
			return name
		}
	}
	text := fmt.Sprintf("%T(%s)", err, hide(err.Error()))
	if inner := errors.Unwrap(err); inner != nil {
		text += "{" + s.describe(inner) + "}"
	}
	return text
}

// bytesOf renders data: all of it when it is short, otherwise length, checksum and beginning.
func bytesOf(b []byte) string {
	if len(b) <= 24 {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%d bytes, CRC %08x, %q...", len(b), crc32.ChecksumIEEE(b), b[:12])
}

// isStatOfClosed reports whether err is what os.File.Stat says of a closed file: on Windows
// that is not os.ErrClosed.
func isStatOfClosed(err error) bool {
	file, openErr := os.Open(os.DevNull)
	if openErr != nil {
		return false
	}
	file.Close()
	_, want := file.Stat()
	return errors.Is(err, errors.Unwrap(want))
}

// infoOf renders what Stat returned, without the times.
func infoOf(info fs.FileInfo) string {
	if info == nil {
		return "no info"
	}
	return fmt.Sprintf("%s, %d bytes, %v, dir %v", info.Name(), info.Size(), info.Mode(), info.IsDir())
}

// pattern fills b with bytes that depend on seed and are rarely zero.
func pattern(b []byte, seed int) {
	x := uint32(seed)*2654435761 + 12345
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x>>24) | 1
	}
}

// patterned returns n such bytes, beginning at a page border.
func patterned(n, seed int) []byte {
	b := alignedBuffer(n)
	pattern(b, seed)
	return b
}

// alignedBuffer returns n bytes that begin at a page border, as O_DIRECT wants it.
func alignedBuffer(n int) []byte {
	page := os.Getpagesize()
	b := make([]byte, n+page)
	skip := 0
	if over := int(uintptr(unsafe.Pointer(&b[0])) % uintptr(page)); over != 0 {
		skip = page - over
	}
	return b[skip : skip+n : skip+n]
}

// memoryDir returns a folder for one test, in memory where the system has a place
// for that: some tests make thousands of small files. TMPDIR, where it is set, has
// the last word.
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
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

var (
	errBrokenReader = errors.New("the reader broke")
	errBrokenWriter = errors.New("the writer broke")
)

// brokenWriter takes left bytes and then fails.
type brokenWriter struct {
	taken bytes.Buffer
	left  int
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	if len(b) <= w.left {
		w.left -= len(b)
		return w.taken.Write(b)
	}
	n, _ := w.taken.Write(b[:w.left])
	w.left = 0
	return n, errBrokenWriter
}

// brokenHash is a hash that takes left bytes and then fails.
type brokenHash struct {
	hash.Hash32
	left int64
}

func (h *brokenHash) Write(b []byte) (int, error) {
	if int64(len(b)) <= h.left {
		h.left -= int64(len(b))
		return h.Hash32.Write(b)
	}
	n, _ := h.Hash32.Write(b[:h.left])
	h.left = 0
	return n, errBrokenWriter
}

// brokenReader yields data and then fails with an error other than io.EOF. It is
// nothing but a Reader.
type brokenReader struct {
	data []byte
	err  error
}

func (r *brokenReader) Read(b []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, r.err
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

// The assistant is another process, this test binary started again, which changes
// files on request. Each request is answered when it has been carried out.

const assistantVariable = "MMAPIO_TEST_ASSISTANT"

type request struct {
	Do     string // "write", "append", "truncate" or "read"
	Path   string
	Offset int64
	Length int
	Seed   int
}

type answer struct {
	N    int
	Data string
	Err  string
}

// assistant is a running helper process; start it with newAssistant.
type assistant struct {
	mu      sync.Mutex
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// newAssistant starts the process; it ends when the test ends.
func newAssistant(t testing.TB) *assistant {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &assistant{command: exec.Command(executable, "-test.run=^TestAssistantProcess$")}
	a.command.Env = append(os.Environ(), assistantVariable+"=1")
	a.command.Stderr = os.Stderr
	if a.in, err = a.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := a.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.out = bufio.NewReader(out)
	if err := a.command.Start(); err != nil {
		t.Skipf("no second process here: %v", err)
	}
	t.Cleanup(func() {
		a.in.Close()
		if err := a.command.Wait(); err != nil {
			t.Errorf("the other process ended badly: %v", err)
		}
	})
	return a
}

// do has the process carry out r.
func (a *assistant) do(r request) (answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	if _, err := a.in.Write(append(line, '\n')); err != nil {
		return answer{}, err
	}
	reply, err := a.out.ReadBytes('\n')
	if err != nil {
		return answer{}, fmt.Errorf("the other process does not answer: %w", err)
	}
	var result answer
	err = json.Unmarshal(reply, &result)
	return result, err
}

// TestAssistantProcess is the other process. It does nothing in a normal run.
func TestAssistantProcess(t *testing.T) {
	if os.Getenv(assistantVariable) == "" {
		t.Skip("this is the body of a helper process")
	}
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if err := out.Encode(carryOut(r)); err != nil {
			t.Fatal(err)
		}
	}
	os.Exit(0) // no "PASS" behind the answers
}

// carryOut does what r asks for with an os.File of its own.
func carryOut(r request) answer {
	var a answer
	err := func() error {
		flag := os.O_RDWR
		if r.Do == "append" {
			flag |= os.O_APPEND
		}
		f, err := os.OpenFile(r.Path, flag, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		switch r.Do {
		case "write":
			a.N, err = f.WriteAt(patterned(r.Length, r.Seed), r.Offset)
		case "append":
			a.N, err = f.Write(patterned(r.Length, r.Seed))
		case "truncate":
			err = f.Truncate(r.Offset)
		case "read":
			b := make([]byte, r.Length)
			a.N, err = f.ReadAt(b, r.Offset)
			a.Data = bytesOf(b[:a.N])
		default:
			err = fmt.Errorf("unknown request %q", r.Do)
		}
		return err
	}()
	if err != nil {
		a.Err = strings.ReplaceAll(err.Error(), filepath.Dir(r.Path), "DIR")
	}
	return a
}
