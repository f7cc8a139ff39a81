package mmapio_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mmapio/mmapio"
)

// openPrivate opens a file copy-on-write and closes it at the end of the test.
func openPrivate(t testing.TB, name string, flag int, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(name, flag, 0, append(options, mmapio.WithCopyOnWrite())...)
	if !mmapio.SupportsMapping {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("without mappings: %v", err)
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	})
	return f
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// privateModel is what a copy-on-write File is compared with: the bytes it must show, those
// that the file on the disk must have, and the position.
type privateModel struct {
	t       testing.TB
	f       *mmapio.File
	name    string
	content []byte
	disk    []byte
	at      int64
	views   []*mmapio.View
	step    string
}

func (m *privateModel) fail(format string, arguments ...any) {
	m.t.Helper()
	m.t.Fatalf("%s: %s", m.step, fmt.Sprintf(format, arguments...))
}

// equal compares what was read at off.
func (m *privateModel) equal(got []byte, off int64) {
	m.t.Helper()
	if want := m.content[off : off+int64(len(got))]; !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				m.fail("%d bytes at %d: byte %d is %#x, must be %#x (on the disk %#x)", len(got), off, off+int64(i), got[i], want[i], m.disk[off+int64(i)])
			}
		}
	}
}

// upTo returns how many of n bytes at off there are.
func (m *privateModel) upTo(off, n int64) int64 {
	return max(0, min(n, int64(len(m.content))-off))
}

// read checks the result of reading n bytes at off.
func (m *privateModel) read(b []byte, off int64, n int, err, atEnd error) {
	m.t.Helper()
	want := m.upTo(off, int64(len(b)))
	wantErr := error(nil)
	if want < int64(len(b)) {
		wantErr = atEnd
	}
	if int64(n) != want || err != wantErr {
		m.fail("read %d bytes with %v, must be %d with %v", n, err, want, wantErr)
	}
	if n > 0 {
		m.equal(b[:n], off)
	}
}

// wrote checks the result of writing b at off.
func (m *privateModel) wrote(b []byte, off int64, n int, err error) bool {
	m.t.Helper()
	if len(b) > 0 && off+int64(len(b)) > int64(len(m.content)) {
		if n != 0 || !errors.Is(err, mmapio.ErrOutOfRange) || !strings.Contains(err.Error(), "do not grow") {
			m.fail("wrote %d bytes past the end with %v", n, err)
		}
		return false
	}
	if n != len(b) || err != nil {
		m.fail("wrote %d of %d bytes with %v", n, len(b), err)
	}
	copy(m.content[min(off, int64(len(m.content))):], b)
	return true
}

// onDisk compares the file on the disk.
func (m *privateModel) onDisk() {
	m.t.Helper()
	if sha256.Sum256(mustRead(m.t, m.name)) != sha256.Sum256(m.disk) {
		m.fail("the file on the disk has changed")
	}
}

// privateOperations is what can be done to a copy-on-write File.
var privateOperations = []func(m *privateModel, off, n int64, seed int){
	func(m *privateModel, off, n int64, seed int) {
		b := make([]byte, n)
		got, err := m.f.ReadAt(b, off)
		m.read(b, off, got, err, io.EOF)
	},
	func(m *privateModel, off, n int64, seed int) {
		b := patterned(int(n), seed)
		got, err := m.f.WriteAt(b, off)
		m.wrote(b, off, got, err)
	},
	func(m *privateModel, off, n int64, seed int) {
		b := make([]byte, n)
		got, err := m.f.Read(b)
		atEnd := error(nil)
		if m.upTo(m.at, n) == 0 {
			atEnd = io.EOF
		}
		m.read(b, m.at, got, err, atEnd)
		m.at += int64(got)
	},
	func(m *privateModel, off, n int64, seed int) {
		b := patterned(int(n), seed)
		got, err := 0, error(nil)
		if seed%2 == 0 {
			got, err = m.f.Write(b)
		} else {
			got, err = m.f.WriteString(string(b))
		}
		m.wrote(b, m.at, got, err)
		m.at += int64(got)
	},
	func(m *privateModel, off, n int64, seed int) {
		want := []int64{off, m.at + off/2 - n, int64(len(m.content)) - off}[seed%3]
		at, err := m.f.Seek([]int64{off, off/2 - n, -off}[seed%3], seed%3)
		if want < 0 {
			if !isAnyPathError(err) || at != 0 {
				m.fail("seeking to %d: %d, %v", want, at, err)
			}
		} else if m.at = want; at != want || err != nil {
			m.fail("seeking to %d: %d, %v", want, at, err)
		}
	},
	func(m *privateModel, off, n int64, seed int) { // ReadFrom
		b := patterned(int(n), seed)
		fits := m.upTo(m.at, n)
		var source io.Reader = bytes.NewReader(b)
		if seed%2 == 0 {
			source = io.LimitReader(&endless{b: b}, n)
		}
		got, err := m.f.ReadFrom(source)
		if got != fits || (err == nil) != (fits == n) || err != nil && !errors.Is(err, mmapio.ErrOutOfRange) {
			m.fail("read %d of %d bytes from a Reader at %d with %v", got, n, m.at, err)
		}
		copy(m.content[min(m.at, int64(len(m.content))):], b[:fits])
		m.at += fits
	},
	func(m *privateModel, off, n int64, seed int) { // WriteTo
		left := m.upTo(m.at, math.MaxInt64)
		var buffer bytes.Buffer
		switch seed % 3 {
		case 0:
			got, err := m.f.WriteTo(&buffer)
			if got != left || err != nil {
				m.fail("WriteTo: %d with %v, must be %d", got, err, left)
			}
		case 1:
			name := m.name + ".copy"
			out, err := os.Create(name)
			if err != nil {
				m.t.Fatal(err)
			}
			got, err := io.Copy(out, m.f)
			if err := errors.Join(err, out.Close()); got != left || err != nil {
				m.fail("copying to a file: %d with %v, must be %d", got, err, left)
			}
			buffer.Write(mustRead(m.t, name))
		case 2:
			h := crc32.NewIEEE()
			got, err := io.Copy(h, m.f)
			if got != left || err != nil || h.Sum32() != crc32.ChecksumIEEE(m.content[int64(len(m.content))-left:]) {
				m.fail("copying to a hash: %d with %v, sum %#x", got, err, h.Sum32())
			}
			m.at += left
			return
		}
		if int64(buffer.Len()) != left {
			m.fail("%d bytes came, must be %d", buffer.Len(), left)
		}
		if left > 0 {
			m.equal(buffer.Bytes(), m.at)
		}
		m.at += left
	},
	func(m *privateModel, off, n int64, seed int) { // View
		v, err := m.f.View(off, n)
		if off+n > int64(len(m.content)) {
			if !errors.Is(err, mmapio.ErrOutOfRange) {
				m.fail("a View past the end: %v", err)
			}
			return
		}
		if err != nil {
			m.fail("View: %v", err)
		}
		if n > 0 {
			m.equal(v.Bytes(), off)
			if !v.Writable() {
				m.fail("the View is not writable")
			}
		}
		for i := range v.Bytes() {
			if (int(off)+i)%(1+seed%700) == 0 {
				v.Bytes()[i] = byte(seed)
				m.content[off+int64(i)] = byte(seed)
			}
		}
		if err := v.Flush(); err != nil {
			m.fail("Flush: %v", err)
		}
		if b := patterned(int(n)/2, seed); n > 1 && seed%2 == 0 {
			if _, err := v.WriteAt(b, n/2); err != nil {
				m.fail("WriteAt of a View: %v", err)
			}
			copy(m.content[off+n/2:], b)
		}
		if seed%3 != 0 {
			v.Release()
			return
		}
		m.views = append(m.views, v)
	},
	func(m *privateModel, off, n int64, seed int) { // an older View
		if len(m.views) == 0 {
			return
		}
		i := seed % len(m.views)
		v := m.views[i]
		if v.Len() > 0 {
			m.equal(v.Bytes(), v.Offset())
			at := int(off) % v.Len()
			v.Bytes()[at] = byte(seed)
			m.content[v.Offset()+int64(at)] = byte(seed)
		}
		if n%2 == 0 {
			v.Release()
			m.views = slices.Delete(m.views, i, i+1)
		}
	},
	func(m *privateModel, off, n int64, seed int) { // atomic words
		off &^= 7
		v, err := m.f.View(off, 8)
		if off+8 > int64(len(m.content)) {
			return
		}
		if err != nil {
			m.fail("View: %v", err)
		}
		defer v.Release()
		word, err := v.Uint64(0)
		if err != nil {
			m.fail("Uint64: %v", err)
		}
		binary.NativeEndian.PutUint64(m.content[off:], word.Add(uint64(seed)))
	},
	func(m *privateModel, off, n int64, seed int) { // chunks
		size := 1 + int(n) + len(m.content)/100
		var all []byte
		chunks := m.f.Chunks(size)
		for at, b := range chunks.All() {
			if at != int64(len(all)) {
				m.fail("a chunk at %d", at)
			}
			all = append(all, b...)
		}
		if err := chunks.Err(); err != nil || len(all) != len(m.content) {
			m.fail("%d bytes of chunks, %v", len(all), err)
		}
		m.equal(all, 0)
	},
	func(m *privateModel, off, n int64, seed int) {
		size, turn := 1+int(n)+len(m.content)/100, 0
		err := m.f.UpdateChunks(size, func(at int64, b []byte) error {
			m.equal(b, at)
			if turn++; turn%3 == 0 {
				b[0]++
				m.content[at]++
			}
			return nil
		})
		if err != nil {
			m.fail("UpdateChunks: %v", err)
		}
	},
	func(m *privateModel, off, n int64, seed int) {
		err := m.f.Discard(off, n)
		if off+n > int64(len(m.content)) {
			if !errors.Is(err, mmapio.ErrOutOfRange) {
				m.fail("Discard past the end: %v", err)
			}
			return
		}
		if err != nil {
			m.fail("Discard: %v", err)
		}
		copy(m.content[off:off+n], m.disk[off:])
	},
	func(m *privateModel, off, n int64, seed int) {
		err := m.f.Commit()
		if m.f.Mode() != mmapio.CopyOnWrite {
			m.fail("mode %v", m.f.Mode())
		}
		if m.disk == nil { // cannot be committed
			return
		}
		if errors.Is(err, fs.ErrPermission) {
			m.onDisk()
			return
		}
		if err != nil {
			m.fail("Commit: %v", err)
		}
		m.disk = slices.Clone(m.content)
		m.onDisk()
	},
	func(m *privateModel, off, n int64, seed int) { // what tells the size, and what must not matter
		info, err := m.f.Stat()
		if err != nil || info.Size() != int64(len(m.content)) {
			m.fail("Stat: %v, %v", info, err)
		}
		if size, err := m.f.Size(); err != nil || size != int64(len(m.content)) {
			m.fail("Size: %d, %v", size, err)
		}
		if err := m.f.Sync(); err != nil {
			m.fail("Sync: %v", err)
		}
		if err := m.f.Truncate(off); err == nil {
			m.fail("Truncate succeeds")
		}
		if seed%5 == 0 {
			m.f.Fd()
		}
		m.onDisk()
	},
	func(m *privateModel, off, n int64, seed int) { // nothing is known to be in memory
		mmapio.Forget(m.f)
		mmapio.Unmap(m.f)
	},
}

// endless yields b over and over.
type endless struct {
	b  []byte
	at int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.b[e.at:])
	e.at = (e.at + n) % len(e.b)
	return n, nil
}

// privateList is a list of operations in bytes, five for each.
func runPrivateList(t testing.TB, dir string, size int, flag int, list []byte) {
	name := filepath.Join(dir, "file")
	disk := patterned(size, size)
	if err := os.WriteFile(name, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	m := &privateModel{t: t, f: openPrivate(t, name, flag), name: name, disk: disk, content: slices.Clone(disk)}
	for i := 0; len(list) >= 5; i, list = i+1, list[5:] {
		kind := int(list[0]) % len(privateOperations)
		off, n := int64(binary.LittleEndian.Uint16(list[1:]))*2, int64(binary.LittleEndian.Uint16(list[3:]))
		if size > 100_000 {
			off *= int64(size) / 120_000
		} else {
			off, n = off%int64(size+20), n%int64(size+20)
		}
		if kind > 0 && n > 20_000 {
			n %= 20_000
		}
		m.step = fmt.Sprintf("step %d, operation %d, offset %d, length %d", i, kind, off, n)
		privateOperations[kind](m, off, n, i)
	}
	m.step = "at the end"
	b := make([]byte, size)
	if _, err := m.f.ReadAt(b, 0); err != nil {
		m.fail("%v", err)
	}
	m.equal(b, 0)
	if err := m.f.Close(); err != nil {
		m.fail("Close: %v", err)
	}
	for _, v := range m.views {
		if v.Len() > 0 {
			m.equal(v.Bytes(), v.Offset())
			v.Bytes()[0]++
			m.content[v.Offset()]++
		}
		v.Release()
	}
	m.onDisk()
}

// Whatever is done to a copy-on-write File, it shows what bytes in memory would show, and
// the file on the disk is as before until Commit.
func TestCopyOnWriteAgainstBytes(t *testing.T) {
	lists := 40
	if raceEnabled || testing.Short() {
		lists = 10
	}
	sizes := []int{0, 1, 4095, 4096, 4097, 70_000, 3<<20 + 77}
	for seed := range lists {
		random := rand.New(rand.NewPCG(uint64(seed), 5))
		list := make([]byte, 5*150)
		for i := range list {
			list[i] = byte(random.Uint32())
		}
		flag := []int{os.O_RDONLY, os.O_RDWR}[seed%2]
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if seed%4 == 3 { // what only helps is refused now and then
				var count atomic.Int64
				defer mmapio.Intercept(func(name string) error {
					if name != "mapFile" && name != "writeAt" && name != "sync" && name != "unmap" && count.Add(1)%3 == 0 {
						return errors.New("not this time")
					}
					return nil
				})()
			}
			runPrivateList(t, memoryDir(t), sizes[seed%len(sizes)], flag, list)
		})
	}
}

// Each call to the system that a private copy can do without fails at each of its
// occurrences, and always: the bytes are the same.
func TestCopyOnWriteSystemCallsFail(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 6))
	list := make([]byte, 5*80)
	for i := range list {
		list[i] = byte(random.Uint32())
	}
	run := func(fail func(name string, count int) error) (counts map[string]int) {
		var mu sync.Mutex
		counts = make(map[string]int)
		defer mmapio.Intercept(func(name string) error {
			mu.Lock()
			defer mu.Unlock()
			counts[name]++
			return fail(name, counts[name])
		})()
		runPrivateList(t, memoryDir(t), 70_000, os.O_RDWR, list)
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(counts)
	}
	usual := run(func(string, int) error { return nil })
	t.Log("calls: ", usual)
	for _, name := range []string{"populateWrite", "discard", "privatePages"} {
		asked := name != "privatePages" || mmapio.PageSize() == os.Getpagesize() // and not as if pages were longer
		if usual[name] == 0 && mmapio.SupportsMapping && (mmapio.Populates || name != "populateWrite") && asked {
			t.Errorf("%s was never called, so it never failed", name)
		}
	}
	step := 1
	if raceEnabled || testing.Short() {
		step = 20
	}
	for name, count := range usual {
		switch name {
		case "mapFile", "writeAt", "sync", "unmap": // whose failure is an error: see TestCopyOnWriteFaults
			continue
		}
		for nth := 0; nth <= count; nth += step { // 0 is always
			run(func(called string, count int) error {
				if called == name && (nth == 0 || count == nth) {
					return errNotNow
				}
				return nil
			})
			if t.Failed() {
				t.Fatalf("when %s fails at call %d of %d", name, nth, count)
			}
		}
	}
}

// FuzzCopyOnWrite runs the lists of TestCopyOnWriteAgainstBytes that the fuzzer makes up.
func FuzzCopyOnWrite(f *testing.F) {
	f.Add(uint16(9000), true, []byte{1, 0, 1, 50, 0, 12, 0, 0, 0, 1, 13, 0, 0, 0, 0})
	f.Add(uint16(5000), false, []byte{7, 0, 1, 0, 16, 6, 0, 0, 0, 0, 5, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, size uint16, toCommit bool, list []byte) {
		flag := os.O_RDONLY
		if toCommit {
			flag = os.O_RDWR
		}
		runPrivateList(t, memoryDir(t), int(size), flag, list[:min(len(list), 500)])
	})
}

// Each option and flag that makes no sense is an error, and nothing is opened or created.
func TestCopyOnWriteOptions(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings here")
	}
	dir := t.TempDir()
	private := mmapio.WithCopyOnWrite()
	for _, row := range []struct {
		name    string
		flag    int
		options []mmapio.Option
	}{
		{"O_WRONLY", os.O_WRONLY, nil},
		{"O_TRUNC", os.O_RDWR | os.O_TRUNC, nil},
		{"O_APPEND", os.O_RDWR | os.O_APPEND, nil},
		{"WithSize", os.O_RDWR, []mmapio.Option{mmapio.WithSize(5)}},
		{"WithPreallocate", os.O_RDWR, []mmapio.Option{mmapio.WithPreallocate(5)}},
		{"WithFlushPolicy", os.O_RDWR, []mmapio.Option{mmapio.WithFlushPolicy(mmapio.Always())}},
		{"MapNever", os.O_RDWR, []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}},
	} {
		name := filepath.Join(dir, row.name)
		f, err := mmapio.OpenFile(name, row.flag|os.O_CREATE, 0o600, append(row.options, private)...)
		if f != nil || !isAnyPathError(err) || !strings.Contains(err.Error(), "WithCopyOnWrite") {
			t.Errorf("%s: %v, %v", row.name, f, err)
		}
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the file was created: %v", row.name, err)
		}
	}
	if f, err := mmapio.Create(filepath.Join(dir, "created"), private); f != nil || err == nil {
		t.Errorf("Create: %v, %v", f, err)
	}
	if f, err := mmapio.Open(dir, private); f != nil || !isAnyPathError(err) {
		t.Errorf("a directory: %v, %v", f, err)
	}
	if mmapio.CopyOnWrite.String() != "copy-on-write" {
		t.Errorf("the mode is %q", mmapio.CopyOnWrite)
	}
}

// privateConstructor opens a file copy-on-write; the position is then at.
type privateConstructor struct {
	name string
	open func(name string) (*mmapio.File, error)
	at   int64
}

var privateConstructors = []privateConstructor{
	{name: "Open", open: func(name string) (*mmapio.File, error) { return mmapio.Open(name, mmapio.WithCopyOnWrite()) }},
	{name: "OpenFile", open: func(name string) (*mmapio.File, error) {
		return mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithCopyOnWrite())
	}},
	{name: "OpenInRoot", open: func(name string) (*mmapio.File, error) {
		return mmapio.OpenInRoot(filepath.Dir(name), filepath.Base(name), mmapio.WithCopyOnWrite())
	}},
	{name: "FromFile", at: 100, open: func(name string) (*mmapio.File, error) {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		if _, err := file.Seek(100, io.SeekStart); err != nil {
			return nil, err
		}
		return mmapio.FromFile(file, mmapio.WithCopyOnWrite())
	}},
}

// Every constructor makes private copies.
func TestCopyOnWriteConstructors(t *testing.T) {
	body := patterned(10_000, 1)
	for _, row := range privateConstructors {
		t.Run(row.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(name, body, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := row.open(name)
			if !mmapio.SupportsMapping || errors.Is(err, errors.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil || f == nil {
				t.Fatalf("%v, %v", f, err)
			}
			defer f.Close()
			if f.Mode() != mmapio.CopyOnWrite {
				t.Errorf("mode %v", f.Mode())
			}
			b := make([]byte, 10)
			if n, err := f.Read(b); n != 10 || err != nil || !bytes.Equal(b, body[row.at:row.at+10]) {
				t.Errorf("read %q, %v", b[:n], err)
			}
			if _, err := f.Write([]byte("changed")); err != nil {
				t.Error(err)
			}
			if _, err := f.ReadAt(b[:7], row.at+10); err != nil || string(b[:7]) != "changed" {
				t.Errorf("reads %q, %v", b[:7], err)
			}
			if !bytes.Equal(mustRead(t, name), body) {
				t.Errorf("the file has changed")
			}
			file, err := f.Detach()
			if err != nil {
				t.Fatal(err)
			}
			if n, err := file.Read(b); n != 10 || err != nil || !bytes.Equal(b, body[row.at+17:row.at+27]) {
				t.Errorf("the detached file is not at %d of the file: %q, %v", row.at+17, b[:n], err)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("Anonymous", func(t *testing.T) {
		f := newAnonymous(t, 100, mmapio.WithCopyOnWrite())
		if _, err := f.WriteAt([]byte("private"), 0); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 7)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "private" {
			t.Errorf("reads %q, %v", b, err)
		}
		if _, err := f.OSFile().ReadAt(b, 0); err != nil || string(b) == "private" {
			t.Errorf("the descriptor reads %q, %v", b, err)
		}
	})
}

// What it means to be closed.
func TestCopyOnWriteClosed(t *testing.T) {
	f := openPrivate(t, newFilled(t, 10_000, 1), os.O_RDWR)
	v, err := f.View(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for name, do := range map[string]func() error{
		"Read":     func() error { _, err := f.Read(b); return err },
		"ReadAt":   func() error { _, err := f.ReadAt(b, 0); return err },
		"Write":    func() error { _, err := f.Write(b); return err },
		"WriteAt":  func() error { _, err := f.WriteAt(b, 0); return err },
		"Seek":     func() error { _, err := f.Seek(0, io.SeekEnd); return err },
		"Stat":     func() error { _, err := f.Stat(); return err },
		"Size":     func() error { _, err := f.Size(); return err },
		"Sync":     f.Sync,
		"Commit":   f.Commit,
		"Discard":  func() error { return f.Discard(0, 1) },
		"Truncate": func() error { return f.Truncate(1) },
		"View":     func() error { _, err := f.View(0, 1); return err },
		"WriteTo":  func() error { _, err := f.WriteTo(io.Discard); return err },
		"ReadFrom": func() error { _, err := f.ReadFrom(strings.NewReader("a")); return err },
		"Update":   func() error { return f.UpdateChunks(10, func(int64, []byte) error { return nil }) },
		"Close":    f.Close,
	} {
		if err := do(); !isAnyPathError(err) || !errors.Is(err, fs.ErrClosed) && !isStatOfClosed(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v.Bytes()[0] != 'x' {
		t.Errorf("the View has lost the change")
	}
}

// Discard and Commit are for copy-on-write Files, Commit for those that may be written.
func TestCopyOnWriteOnly(t *testing.T) {
	name := newFilled(t, 10_000, 1)
	shared, err := mmapio.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	if err := shared.Discard(0, 1); !isAnyPathError(err) || !strings.Contains(err.Error(), "WithCopyOnWrite") {
		t.Errorf("Discard: %v", err)
	}
	if err := shared.Commit(); !isAnyPathError(err) || !strings.Contains(err.Error(), "WithCopyOnWrite") {
		t.Errorf("Commit: %v", err)
	}
	var none *mmapio.File
	if err := errors.Join(none.Commit(), none.Discard(0, 1)); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("nil: %v", err)
	}
	reading := openPrivate(t, name, os.O_RDONLY)
	if err := reading.Commit(); !isAnyPathError(err) || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "O_RDWR") {
		t.Errorf("Commit without permission: %v", err)
	}
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, 10_001}, {10_001, 0}, {math.MaxInt64, math.MaxInt64}} {
		if err := reading.Discard(r[0], r[1]); !isAnyPathError(err) || !errors.Is(err, mmapio.ErrOutOfRange) {
			t.Errorf("Discard of %d: %v", r, err)
		}
		if n, err := reading.WriteAt([]byte("x"), r[0]); r[0] != 0 && (n != 0 || !isAnyPathError(err)) {
			t.Errorf("WriteAt of %d: %d, %v", r, n, err)
		}
	}
}

// Other Files of this process, and os.File, see what was committed and nothing before.
func TestCopyOnWriteCommit(t *testing.T) {
	name := newFilled(t, 3<<20, 1)
	before := mustRead(t, name)
	other, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	warm(other)
	f := openPrivate(t, name, os.O_RDWR)
	want := slices.Clone(before)
	for i := range 50 {
		off, b := int64(i)*60_000+100, patterned(3000, i+100)
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
		copy(want[off:], b)
	}
	got := make([]byte, len(before))
	if _, err := other.ReadAt(got, 0); err != nil || !bytes.Equal(got, before) {
		t.Errorf("another File sees changes before Commit (%v)", err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another File does not see what was committed (%v)", err)
	}
	if !bytes.Equal(mustRead(t, name), want) {
		t.Error("the file does not have what was committed")
	}
	// What others write now to pages that went back may be seen, and is on Linux.
	if _, err := other.WriteAt([]byte("theirs"), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(got[:6], 100); err != nil || string(got[:6]) != "theirs" && runtime.GOOS == "linux" {
		t.Errorf("reads %q, %v", got[:6], err)
	}
}

// Only what differs is written, whatever could have been changed.
func TestCommitWritesWhatDiffers(t *testing.T) {
	name := newFilled(t, 1<<20, 1)
	f := openPrivate(t, name, os.O_RDWR)
	v, err := f.View(0, 1<<20) // could change everything
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for _, at := range []int{3, 4, 5, 9} {
		v.Bytes()[at*page+7] ^= 0xff
	}
	v.Bytes()[20*page] = v.Bytes()[20*page] // a page of its own that does not differ
	v.Release()
	var writes atomic.Int64
	restore := mmapio.Intercept(func(name string) error {
		if name == "writeAt" {
			writes.Add(1)
		}
		return nil
	})
	err = f.Commit()
	restore()
	if err != nil || writes.Load() != 2 {
		t.Errorf("%d writes for 2 runs of pages, %v", writes.Load(), err)
	}
	if err := f.Commit(); err != nil {
		t.Error(err)
	}
}

// A Commit that fails half-way leaves everything as it was in this File, and the next one
// does all of it.
func TestCopyOnWriteFaults(t *testing.T) {
	name := newFilled(t, 1<<20, 1)
	want := mustRead(t, name)
	for _, failing := range []string{"writeAt", "sync"} {
		f := openPrivate(t, name, os.O_RDWR)
		for i := range 8 {
			b := patterned(5000, i+len(failing))
			if _, err := f.WriteAt(b, int64(i)*100_000); err != nil {
				t.Fatal(err)
			}
			copy(want[i*100_000:], b)
		}
		broken := errors.New("the disk is broken")
		for nth := range 6 {
			count := 0
			restore := mmapio.Intercept(func(name string) error {
				if name == failing {
					if count++; count > nth {
						return broken
					}
				}
				return nil
			})
			err := f.Commit()
			restore()
			if failing == "sync" && nth > 0 {
				break
			}
			if !isAnyPathError(err) || !errors.Is(err, broken) {
				t.Fatalf("%s fails at call %d: %v", failing, nth, err)
			}
			got := make([]byte, len(want))
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s fails at call %d: the changes are lost (%v)", failing, nth, err)
			}
		}
		var writes atomic.Int64
		restore := mmapio.Intercept(func(name string) error {
			if name == "writeAt" {
				writes.Add(1)
			}
			return nil
		})
		err := f.Commit()
		restore()
		if err != nil || failing == "writeAt" && writes.Load() != 8 {
			t.Errorf("after %s failed: %d writes, %v", failing, writes.Load(), err)
		}
		if !bytes.Equal(mustRead(t, name), want) {
			t.Errorf("after %s failed: the file does not have what was committed", failing)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	// What cannot be mapped cannot be opened.
	defer mmapio.Intercept(func(name string) error {
		if name == "mapFile" {
			return mmapio.NoAddresses
		}
		return nil
	})()
	if f, err := mmapio.Open(name, mmapio.WithCopyOnWrite()); f != nil || !isAnyPathError(err) {
		t.Errorf("without a mapping: %v, %v", f, err)
	}
}

// Others cut the file and make it longer: the size stays, what is gone is an error.
func TestCopyOnWriteOthersResize(t *testing.T) {
	needKernel(t, "bringing in what is not there is no error")
	name := newFilled(t, 1<<20, 1)
	body := mustRead(t, name)
	f := openPrivate(t, name, os.O_RDWR)
	if _, err := f.WriteAt([]byte("mine"), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("mine"), 900_000); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	sizes := func(when string) {
		t.Helper()
		info, err := f.Stat()
		size, err2 := f.Size()
		end, err3 := f.Seek(0, io.SeekEnd)
		if err := errors.Join(err, err2, err3); err != nil || info.Size() != 1<<20 || size != 1<<20 || end != 1<<20 {
			t.Errorf("%s: sizes %v, %d, %d, %v", when, info, size, end, err)
		}
	}
	if err := appendTo(name, 5000); err != nil {
		t.Fatal(err)
	}
	sizes("longer")
	if n, err := f.ReadAt(b, 1<<20-50); n != 50 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if err := f.Commit(); err != nil {
		t.Errorf("longer: %v", err)
	}
	err := os.Truncate(name, 500_000)
	if mmapio.MustUnmapToResize {
		if err == nil {
			t.Error("the file was cut although it is mapped")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	sizes("cut")
	for _, off := range []int64{700_000, 900_000} {
		for range 2 {
			if n, err := f.ReadAt(b, off); n != 0 || !errors.Is(err, mmapio.ErrFault) {
				t.Errorf("reading what was cut off at %d: %d, %v", off, n, err)
			}
		}
		if n, err := f.WriteAt(b, off); n != 0 || !errors.Is(err, mmapio.ErrFault) {
			t.Errorf("writing to what was cut off at %d: %d, %v", off, n, err)
		}
		v, err := f.View(off, 10)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Do(func(b []byte) error { b[0] = 1; return nil }); !errors.Is(err, mmapio.ErrFault) {
			t.Errorf("a View of what was cut off: %v", err)
		}
		v.Release()
	}
	if n, err := f.ReadAt(make([]byte, 300_000), 400_000); n != 100_000 && n != 98_304 || !errors.Is(err, mmapio.ErrFault) {
		t.Errorf("reading across the cut: %d, %v", n, err)
	}
	if _, err := f.WriteTo(io.Discard); err != nil {
		t.Errorf("from the end: %v", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Error(err)
	}
	if n, err := f.WriteTo(io.Discard); n > 503_808 || !errors.Is(err, mmapio.ErrFault) {
		t.Errorf("copying what was cut: %d, %v", n, err)
	}
	chunks := f.Chunks(10_000)
	err = mmapio.Guard(func() error {
		for range chunks.All() {
		}
		return chunks.Err()
	})
	if !errors.Is(err, mmapio.ErrFault) {
		t.Errorf("chunks of what was cut: %v", err)
	}
	if err := f.Commit(); !errors.Is(err, mmapio.ErrFault) {
		t.Errorf("Commit after a cut: %v", err)
	}
	if info, err := os.Stat(name); err != nil || info.Size() != 500_000 {
		t.Errorf("Commit after a cut changed the file: %v, %v", info, err)
	}
	if err := f.Discard(0, 1<<20); !errors.Is(err, mmapio.ErrFault) && err != nil {
		t.Errorf("Discard after a cut: %v", err)
	}
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b[:10], body[:10]) {
		t.Errorf("before the cut: %v", err)
	}
}

func appendTo(name string, n int) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(patterned(n, 9))
	return errors.Join(err, file.Close())
}

// Several goroutines store, read, discard other parts, commit, and open Views: no store is
// lost.
func TestCopyOnWriteRace(t *testing.T) {
	const parts, partSize, rounds = 6, 40_000, 60
	name := newFilled(t, parts*partSize, 1)
	f := openPrivate(t, name, os.O_RDWR)
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := f.Commit(); err != nil {
					t.Error(err)
				}
				mmapio.Forget(f)
				runtime.Gosched()
			}
		}
	})
	var writers sync.WaitGroup
	for part := range parts {
		writers.Go(func() {
			from := int64(part * partSize)
			got := make([]byte, partSize)
			for round := range rounds {
				body := patterned(partSize, part*1000+round)
				if round%3 == 0 {
					v, err := f.View(from, partSize)
					if err != nil {
						t.Error(err)
						return
					}
					copy(v.Bytes(), body)
					v.Release()
				} else if _, err := f.WriteAt(body, from); err != nil {
					t.Error(err)
					return
				}
				if _, err := f.ReadAt(got, from); err != nil || !bytes.Equal(got, body) {
					t.Errorf("part %d, round %d: a store is lost (%v)", part, round, err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	group.Wait()
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	disk := mustRead(t, name)
	for part := range parts {
		if !bytes.Equal(disk[part*partSize:(part+1)*partSize], patterned(partSize, part*1000+rounds-1)) {
			t.Errorf("part %d was not committed", part)
		}
	}
}

// Close while others read and write: they finish or return that it is closed.
func TestCopyOnWriteRaceWithClose(t *testing.T) {
	name := newFilled(t, 100_000, 1)
	body := mustRead(t, name)
	for range 30 {
		f := openPrivate(t, name, os.O_RDONLY)
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				b := make([]byte, 5000)
				for off := int64(i) * 100; ; off = (off + 5000) % 90_000 {
					var err error
					if i == 0 {
						_, err = f.WriteAt(body[off:off+5000], off)
					} else if _, err = f.ReadAt(b, off); err == nil && !bytes.Equal(b, body[off:off+5000]) {
						t.Error("foreign bytes")
					}
					if errors.Is(err, fs.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		runtime.Gosched()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
}

// Whoever the bytes go to, they are those of the File and not those of the descriptor.
func TestCopyOnWriteStreams(t *testing.T) {
	const size = 300_000
	name := newFilled(t, size, 1)
	f := openPrivate(t, name, os.O_RDWR)
	want := patterned(size, 2)
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	mmapio.Forget(f)
	dir := t.TempDir()
	toFile := func(copyTo func(to *os.File) error) ([]byte, error) {
		to, err := os.Create(filepath.Join(dir, "to"))
		if err != nil {
			return nil, err
		}
		if err := errors.Join(copyTo(to), to.Close()); err != nil {
			return nil, err
		}
		return os.ReadFile(to.Name())
	}
	toMapped := func(copyTo func(to *mmapio.File) error) ([]byte, error) {
		to, err := mmapio.Create(filepath.Join(dir, "mapped"))
		if err != nil {
			return nil, err
		}
		if err := errors.Join(copyTo(to), to.Close()); err != nil {
			return nil, err
		}
		return os.ReadFile(to.Name())
	}
	for way, do := range map[string]func() ([]byte, error){
		"io.Copy to an os.File": func() ([]byte, error) {
			return toFile(func(to *os.File) error { _, err := io.Copy(to, f); return err })
		},
		"ReadFrom of an os.File": func() ([]byte, error) {
			return toFile(func(to *os.File) error { _, err := to.ReadFrom(f); return err })
		},
		"io.CopyN to an os.File": func() ([]byte, error) {
			return toFile(func(to *os.File) error { _, err := io.CopyN(to, f, size); return err })
		},
		"io.Copy to a File": func() ([]byte, error) {
			return toMapped(func(to *mmapio.File) error { _, err := io.Copy(to, f); return err })
		},
		"io.CopyN to a File": func() ([]byte, error) {
			return toMapped(func(to *mmapio.File) error { _, err := io.CopyN(to, f, size); return err })
		},
		"to a connection": func() ([]byte, error) {
			return throughConnection(func(w io.Writer) error { _, err := io.Copy(w, f); return err })
		},
		"so many bytes to a connection": func() ([]byte, error) {
			return throughConnection(func(w io.Writer) error { _, err := io.CopyN(w, f, size); return err })
		},
		"to a pipe": func() ([]byte, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			failed := make(chan error, 1)
			go func() {
				_, err := io.Copy(w, f)
				failed <- errors.Join(err, w.Close())
			}()
			b, err := io.ReadAll(r)
			return b, errors.Join(err, <-failed, r.Close())
		},
	} {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := do()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes arrive (%d, %v)", way, len(got), err)
		}
		if at, err := f.Seek(0, io.SeekCurrent); at != size || err != nil {
			t.Errorf("%s: the position is %d, %v", way, at, err)
		}
	}
}

// throughConnection returns what arrives at the other end of a TCP connection.
func throughConnection(send func(io.Writer) error) ([]byte, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	failed := make(chan error, 1)
	go func() {
		connection, err := net.Dial("tcp", listener.Addr().String())
		if err == nil {
			err = errors.Join(send(connection), connection.Close())
		}
		failed <- err
	}()
	connection, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	b, err := io.ReadAll(connection)
	return b, errors.Join(err, <-failed)
}

// Memory of the caller that cannot be accessed is an error, and the File goes on.
func TestCopyOnWriteCallersMemory(t *testing.T) {
	if mmapio.PinsCopies {
		t.Skip("faults are not relied upon here")
	}
	cut := newFilled(t, 100_000, 1)
	other, err := mmapio.Open(cut)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	v, err := other.View(50_000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if err := os.Truncate(cut, 10); err != nil {
		t.Fatal(err)
	}
	f := openPrivate(t, newFilled(t, 10_000, 1), os.O_RDONLY)
	if n, err := f.WriteAt(v.Bytes(), 0); n != 0 || !isAnyPathError(err) || !strings.Contains(err.Error(), cut) {
		t.Errorf("writing memory that is gone: %d, %v", n, err)
	}
	if n, err := f.ReadAt(v.Bytes(), 0); n != 0 || !isAnyPathError(err) {
		t.Errorf("reading into memory that is gone: %d, %v", n, err)
	}
	if _, err := f.WriteAt([]byte("ok"), 0); err != nil {
		t.Error(err)
	}
}

// A View goes on after Discard: what is stored to it then is seen however it is read.
func TestDiscardUnderView(t *testing.T) {
	f := openPrivate(t, newFilled(t, 1<<20, 1), os.O_RDWR)
	v, err := f.View(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	v.Bytes()[500_000] ^= 0xff
	if err := f.Discard(0, 1<<20); err != nil {
		t.Fatal(err)
	}
	mine := v.Bytes()[500_000] ^ 0xff
	v.Bytes()[500_000] = mine
	mmapio.Forget(f)
	var b [1]byte
	if _, err := f.ReadAt(b[:], 500_000); err != nil || b[0] != mine {
		t.Errorf("a store to a View after Discard is not seen (%v)", err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, f.Name())[500_000]; got != mine {
		t.Error("a store to a View after Discard is not committed")
	}
}
