package mmapio

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func skipWithoutMappings(t testing.TB) {
	t.Helper()
	if !supportsMapping {
		t.Skip("no mappings on this system")
	}
}

// mapped returns a mapping of a new file of that size, not registered anywhere,
// and the file.
func mapped(t testing.TB, size int64, writable bool) (*mapping, *os.File) {
	t.Helper()
	skipWithoutMappings(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i/pageSize + 1)
	}
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	access := toRead
	if writable {
		access = toStore
	}
	var m *mapping
	if err := errors.Join(control(file, func(fd uintptr) {
		m, err = newMapping(fd, file.Name(), 0, alignUp(size, int64(pageSize)), size, access)
	}), err); err != nil {
		t.Fatal(err)
	}
	if pinsCopies {
		t.Cleanup(func() { // otherwise the file cannot be removed
			if m.entry.pins.Load() >= 0 { // the test has not retired it
				m.retire()
			}
		})
	}
	return m, file
}

func TestMappingLoads(t *testing.T) {
	page := pageSize
	m, _ := mapped(t, int64(2*page+100), false)
	b := make([]byte, 10)
	if m.load(b, 0) {
		t.Error("loaded what is not known to be in memory")
	}
	m.known.learn(0, uint64(2*page+100))
	for _, c := range []struct {
		off  int64
		n    int
		want bool
	}{
		{0, 10, true},
		{int64(2*page + 90), 10, true},
		{int64(2*page + 91), 10, false},
		{int64(2*page + 100), 1, false},
		{-1, 10, false},
		{-1 << 63, 10, false},
		{1<<63 - 1, 10, false},
		{1<<63 - 10, 10, false},
		{0, 0, false},
		{5, 0, false},
	} {
		if got := m.load(b[:c.n], c.off); got != c.want {
			t.Errorf("load of %d bytes at %d: %v, want %v", c.n, c.off, got, c.want)
		}
	}
	if !m.load(b, int64(page-5)) || b[4] != 1 || b[5] != 2 {
		t.Errorf("loaded %v across the page border", b)
	}
	runtime.KeepAlive(m)
}

// What is copied in pieces arrives whole, or not at all.
func TestLongCopies(t *testing.T) {
	const size = streamedStore + 100
	m, file := mapped(t, size, true)
	b := make([]byte, streamedFrom+streamedCopy+50)
	if m.load(b, 7) {
		t.Error("loaded what is not known to be in memory")
	}
	m.known.learn(0, size)
	want := make([]byte, len(b))
	for _, n := range []int{cachedCopy, cachedCopy + 1, 2 * cachedCopy, streamedCopy, streamedCopy + 1, streamedFrom, len(b)} {
		clear(b)
		if _, err := file.ReadAt(want[:n], 7); err != nil {
			t.Fatal(err)
		}
		if !m.load(b[:n], 7) || !bytes.Equal(b[:n], want[:n]) {
			t.Errorf("%d bytes were not loaded, or others were", n)
		}
		for i := range want[:n] {
			want[i] = byte(3*i + n)
		}
		if !m.copyIn(want[:n], 9) {
			t.Errorf("%d bytes were not stored", n)
		}
		if _, err := file.ReadAt(b[:n], 9); err != nil || !bytes.Equal(b[:n], want[:n]) {
			t.Errorf("after %d bytes were stored the file has others, %v", n, err)
		}
	}
	if m.load(b, size-int64(len(b))+1) || m.load(b, -1) || m.copyIn(b, int64(len(m.data)-len(b)+1)) {
		t.Error("copied beyond the file")
	}
	m.retire()
	if m.load(b, 0) || m.copyIn(b, 0) {
		t.Error("copied from or to a retired mapping")
	}
}

// Nobody waits for the end of a long copy who stops the world, as the collector does.
func TestLongCopiesCanBeInterrupted(t *testing.T) {
	if testing.Short() || runtime.GOMAXPROCS(0) < 2 {
		t.Skip("a matter of time: not when short, or on one processor")
	}
	const size = 64 << 20
	m, _ := mapped(t, size, false)
	m.known.learn(0, size)
	b := make([]byte, size)
	for name, load := range map[string]func() bool{
		"File":         func() bool { return m.load(b, 0) },
		"View":         func() bool { return guardedCopy("read", b, m.data) == nil },
		"private copy": func() bool { return new(File).copyPrivate("read", b, m.data) == nil },
	} {
		t.Run(name, func(t *testing.T) {
			least := time.Hour
			for range 5 {
				start := time.Now()
				if !load() {
					t.Fatal("not loaded")
				}
				least = min(least, time.Since(start))
			}
			var over atomic.Bool
			var copying sync.WaitGroup
			copying.Go(func() {
				for !over.Load() {
					load()
				}
			})
			waits := make([]time.Duration, 51)
			for i := range waits {
				start := time.Now()
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats) // stops the world
				waits[i] = time.Since(start)
				time.Sleep(time.Duration(i) * 100 * time.Microsecond) // the copy is somewhere else then
			}
			over.Store(true)
			copying.Wait()
			slices.Sort(waits) // those of a machine that has other things to do come last
			if quarter := waits[len(waits)/4]; quarter > least/8 {
				t.Errorf("three quarters waited %v and more, of a copy that takes %v", quarter, least)
			}
		})
	}
}

// What was retired gives nothing away and takes nothing.
func TestMappingRetires(t *testing.T) {
	m, file := mapped(t, int64(3*pageSize), true)
	m.known.learn(0, uint64(3*pageSize))
	b := []byte("new")
	if !m.copyIn(b, 5) || !m.load(make([]byte, 8), 5) {
		t.Fatal("not usable before it is retired")
	}
	m.retire()
	if m.load(b, 5) {
		t.Error("copied from a retired mapping")
	}
	if m.copyIn([]byte("lost"), 5) {
		t.Error("copied into a retired mapping")
	}
	got := make([]byte, 3)
	if _, err := file.ReadAt(got, 5); err != nil || string(got) != "new" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

// The guard leaves the goroutine as it found it, and hands on what is no fault.
func TestCopiesRestorePanicOnFault(t *testing.T) {
	m, _ := mapped(t, int64(pageSize), true)
	for _, setting := range []bool{false, true} {
		m.known.learn(0, 1)
		for _, retired := range []bool{false, true} {
			if retired {
				m.retire()
			}
			for _, copying := range []func([]byte, int64) bool{m.load, m.copyIn} {
				before := debug.SetPanicOnFault(setting)
				ok := copying(make([]byte, 10), 0)
				after := debug.SetPanicOnFault(before)
				if after != setting {
					t.Errorf("retired %v: set to %v after a copy, was %v", retired, after, setting)
				}
				if ok == retired && !(pinsCopies && setting) {
					t.Errorf("retired %v: copied %v", retired, ok)
				}
			}
		}
		m, _ = mapped(t, int64(pageSize), true)
	}
}

func TestOtherPanicsGoOn(t *testing.T) {
	m, _ := mapped(t, int64(pageSize), false)
	before := debug.SetPanicOnFault(false)
	defer debug.SetPanicOnFault(before)
	for _, cause := range []any{"text", errors.New("an error"), 7} {
		func() {
			defer func() {
				if got := recover(); got != cause {
					t.Errorf("recovered %v, want %v", got, cause)
				}
			}()
			m.pin() // as before a copy
			m.faulted(false, cause)
			t.Errorf("%v was taken for a fault", cause)
		}()
	}
	// A programmer's mistake is a runtime.Error too, but no fault.
	defer func() {
		if _, ok := recover().(runtime.Error); !ok {
			t.Error("an offset outside the window did not panic")
		}
	}()
	m.copyIn(make([]byte, 1), -1)
}

// A file that was cut underneath faults, and the guard says so.
func TestCopyFaultsBehindTheEnd(t *testing.T) {
	m, file := mapped(t, int64(3*pageSize), true)
	if err := file.Truncate(int64(pageSize)); mustUnmapToResize && err != nil {
		t.Skipf("a mapped file cannot be cut here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	m.known.learn(0, uint64(3*pageSize))
	b := make([]byte, 10)
	for _, off := range []int64{int64(pageSize), int64(3*pageSize - 10), int64(pageSize - 5)} {
		if m.load(b, off) || m.copyIn(b, off) {
			t.Errorf("copied at %d, behind the end", off)
		}
	}
	if !m.load(b, 0) || b[0] != 1 {
		t.Error("what is left of the file cannot be read")
	}
}

func TestGlimpseGrowsUnlessCut(t *testing.T) {
	m, _ := mapped(t, 100, false)
	g := glimpseOf(m)
	g.grow(50)
	if got := m.extent.Load(); got != 100 {
		t.Errorf("extent %d after growing to less", got)
	}
	g.grow(200)
	if got := m.extent.Load(); got != 200 {
		t.Errorf("extent %d, want 200", got)
	}
	if m.cutTo(200) {
		t.Error("a cut to 200 retires what reaches to 200")
	}
	g.grow(300)
	if got := m.extent.Load(); got != 199 {
		t.Errorf("extent %d, want one less than before: grew on what was seen before the cut", got)
	}
	glimpseOf(m).grow(300)
	if got := m.extent.Load(); got != 300 {
		t.Errorf("extent %d, want 300", got)
	}
	if !m.cutTo(299) {
		t.Error("a cut to 299 keeps what reaches to 300")
	}
	if glimpseOf(nil).mapping != nil {
		t.Error("a glimpse of nothing")
	}
	runtime.KeepAlive(m)
}

// The addresses of a mapping are given back when nobody holds it any more, and not before.
func TestMappingIsGivenBackWhenUnreachable(t *testing.T) {
	if pinsCopies {
		t.Skip("the last copy unmaps here")
	}
	m, _ := mapped(t, int64(pageSize), false)
	address := m.address()
	returned := make(chan bool, 1)
	observeUnmap(t, address, returned)
	m.retire()
	for range 3 {
		runtime.GC()
	}
	select {
	case <-returned:
		t.Fatal("given back while it is held")
	default:
	}
	runtime.KeepAlive(m)
	m = nil
	deadline := time.After(10 * time.Second)
	for {
		runtime.GC()
		select {
		case <-returned:
			return
		case <-deadline:
			t.Fatal("not given back")
		case <-time.After(time.Millisecond):
		}
	}
}

// A mapping of a file that cannot be mapped is an error and no mapping.
func TestNewMappingErrors(t *testing.T) {
	skipWithoutMappings(t)
	if m, err := newMapping(^uintptr(0), "none", 0, int64(pageSize), 1, toRead); m != nil || err == nil {
		t.Errorf("mapped no file: %v", err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := control(dir, func(fd uintptr) {
		if m, err := newMapping(fd, "none", 0, int64(pageSize), 1, toRead); m != nil || err == nil {
			t.Errorf("mapped a directory: %v", err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Read(nil); errors.Is(err, io.EOF) || errors.Is(err, fs.ErrClosed) {
		t.Errorf("the directory suffered: %v", err)
	}
}

// observeUnmap sends to returned when the mapping at address is given back.
func observeUnmap(t *testing.T, address uintptr, returned chan<- bool) {
	t.Helper()
	observer := func(at uintptr) {
		if at == address {
			select {
			case returned <- true:
			default:
			}
		}
	}
	unmapObserver.Store(&observer)
	t.Cleanup(func() { unmapObserver.Store(nil) })
}
