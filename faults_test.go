package mmapio_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mmapio/mmapio"
)

// Every call to the system that the mapping needs is made to fail, once at each of
// its occurrences and always, in a list of operations that uses everything. What
// the caller sees must stay what os.File shows.

const faultySize = 3<<20 + 123

// useEverything does all there is to a file of faultySize bytes and notes what
// came out.
func useEverything(s *side) (notes []string) {
	note := func(what string, result ...any) {
		for i, value := range result {
			if err, ok := value.(error); ok || value == nil {
				result[i] = s.describe(err)
			}
		}
		notes = append(notes, fmt.Sprint(what, ": ", fmt.Sprintln(result...)))
	}
	f, err := s.open(s.path("file"), os.O_RDWR, 0)
	if err != nil {
		note("open", err)
		return notes
	}
	defer func() { f.Close() }()
	b := make([]byte, 100_000)
	readAt := func(off int64, n int) {
		n, err := f.ReadAt(b[:n], off)
		note(fmt.Sprint("ReadAt ", off), n, err, bytesOf(b[:n]))
	}
	// control does all there is to control memory. Whether that succeeds, nobody can
	// tell from what is read and written.
	control := func() {
		f, ok := f.(*mmapio.File)
		if !ok {
			return
		}
		for _, advice := range []mmapio.Advice{mmapio.AdviceSequential, mmapio.AdviceWillNeed, mmapio.AdviceDontNeed, mmapio.AdviceNormal} {
			_ = f.Advise(0, 1<<20, advice)
		}
		_ = f.Prefault(1<<20, 1<<20)
		_ = f.Lock(100, 10_000)
		_, _ = f.Resident(0, 1<<20)
		_, _ = f.HugePages()
		_ = f.Unlock(100, 5000)
	}
	readAll := func() {
		control()
		for range 3 {
			for off := int64(0); off < faultySize; off += 300_000 {
				readAt(off, 64)
			}
			readAt(faultySize-10, 20)
			readAt(0, len(b))
		}
	}
	writeAt := func(off int64, n, seed int) {
		n, err := f.WriteAt(patterned(n, seed), off)
		note(fmt.Sprint("WriteAt ", off), n, err)
	}
	size := func() {
		info, err := os.Stat(s.path("file"))
		note("others see", info.Size(), err)
		info, err = f.Stat()
		note("Stat", infoOf(info), err)
	}
	sum := func(wrap func(h hash.Hash) io.Writer) {
		at, err := f.Seek(5000, io.SeekStart)
		note("Seek", at, err)
		h := sha256.New()
		n, err := f.WriteTo(wrap(h))
		note("WriteTo", n, err, fmt.Sprintf("%x", h.Sum(nil)))
		at, err = f.Seek(0, io.SeekCurrent)
		note("Seek", at, err)
	}
	asHash := func(h hash.Hash) io.Writer { return h }
	asWriter := func(h hash.Hash) io.Writer { return struct{ io.Writer }{h} }

	readAll()
	sum(asHash)
	writeAt(1000, 100, 1)
	writeAt(999_000, 5000, 2)
	readAt(998_000, 8000)
	for i := range 20 { // where WriteTo ended
		n, err := f.Write(patterned(100, 3+i))
		note("Write", n, err)
	}
	at, err := f.Seek(100, io.SeekStart)
	note("Seek", at, err)
	for i := range 5 {
		n, err := f.Read(b[:1000])
		note("Read", n, err, bytesOf(b[:n]))
		n, err = f.Write(patterned(50, i))
		note("Write", n, err)
	}
	size()
	note("Sync", f.Sync())

	at, err = f.Seek(0, io.SeekEnd)
	note("Seek", at, err)
	for i := range 60 { // growth, in steps
		n, err := f.Write(patterned(3000, i))
		note("append", n, err)
	}
	readAt(faultySize-100, 5000)
	total := 0
	for range 600 { // up to the end, which only the system knows
		n, err := f.ReadAt(b[:20], faultySize+182_000-10)
		if total += n; err != io.EOF {
			note("ReadAt the end", n, err)
		}
	}
	note("ReadAt the end", total)
	writeAt(faultySize+200_000, 100, 4) // behind the end
	readAt(faultySize+190_000, 20_000)
	note("Sync", f.Sync())
	writeAt(faultySize+200_100, 100, 5)
	size()
	note("Truncate", f.Truncate(1_000_000))
	readAt(999_000, 5000)
	writeAt(999_990, 50, 6)
	size()
	note("Truncate", f.Truncate(2_000_000))
	readAt(999_000, 5000)
	readAll()

	second, err := s.open(s.path("file"), os.O_RDWR, 0)
	note("open", err)
	defer second.Close()
	for range 3 {
		n, err := second.ReadAt(b[:5000], 1_500_000)
		note("second ReadAt", n, err, bytesOf(b[:n]))
	}
	note("second Truncate", second.Truncate(1_200_000))
	readAt(1_190_000, 20_000)
	n, err := second.WriteAt(patterned(2000, 7), 1_198_000) // only one File may make a file longer that is preallocated
	note("second WriteAt", n, err)
	readAt(1_197_000, 20_000)
	sum(asHash)
	sum(asWriter)

	n64, err := f.ReadFrom(bytes.NewReader(patterned(50_000, 8)))
	note("ReadFrom", n64, err)
	at, err = f.Seek(1_150_000, io.SeekStart)
	note("Seek", at, err)
	f.Fd()
	for range 3 {
		n, err = f.Read(b)
		note("Read", n, err, bytesOf(b[:n]))
	}
	note("Close", f.Close())
	readAt(0, 10)
	writeAt(0, 10, 9)
	note("Close", f.Close())
	note("second Close", second.Close())
	note("content", s.contentOf("file"))
	return notes
}

var faultyContent = sync.OnceValue(func() []byte { return patterned(faultySize, 77) })

// undisturbed returns what useEverything notes on a new file of this side.
func undisturbed(t testing.TB, s *side) []string {
	t.Helper()
	if err := os.WriteFile(s.path("file"), faultyContent(), 0o666); err != nil {
		t.Fatal(err)
	}
	return useEverything(s)
}

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

var faultyWays = []struct {
	name    string
	options []mmapio.Option
}{
	{"always", []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}},
	{"auto", nil},
	{"preallocating", []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(50_000)}},
	{"flushing", []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways), mmapio.WithFlushPolicy(mmapio.EveryWrites(7))}},
}

// settled waits until the collector has given back what is of no use any more, so
// that the calls of one run are not counted in another one.
func settled(t testing.TB) {
	t.Helper()
	for range 1000 {
		runtime.GC()
		if _, all := mmapio.Mappings(); all == 0 {
			return
		}
	}
	t.Fatal("mappings are left")
}

// tellsOfDisk reports whether a failure of the function is one of the disk, which is for
// the caller to know.
func tellsOfDisk(name string) bool {
	return slices.Contains([]string{"writeBack", "datasync", "startFlush", "sync"}, name)
}

// exactSizes leaves out the notes of what others see, which preallocation changes.
func exactSizes(notes []string, preallocating bool) []string {
	if !preallocating {
		return notes
	}
	return slices.DeleteFunc(slices.Clone(notes), func(note string) bool { return strings.HasPrefix(note, "others see") })
}

func TestSystemCallsFail(t *testing.T) {
	dir := memoryDir(t)
	makeSide := func(name string, options []mmapio.Option) *side {
		s := mmapioSide(dir+"/"+name, options...)
		if name == "os" {
			s = osSide(dir + "/os")
		}
		if err := os.Mkdir(s.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		return s
	}
	truth := undisturbed(t, makeSide("os", nil))
	seen := make(map[string]bool)
	for _, way := range faultyWays {
		t.Run(way.name, func(t *testing.T) {
			defer mmapio.KeepBudget()()
			s := makeSide(way.name, way.options)
			preallocating := way.name == "preallocating"
			want := exactSizes(truth, preallocating)
			var mu sync.Mutex
			counts := make(map[string]int)
			// attempt has the calls that fail says so fail, and compares.
			attempt := func(label string, fail func(name string, count int) error) {
				t.Helper()
				restoreBudget := mmapio.KeepBudget()
				mu.Lock()
				clear(counts)
				mu.Unlock()
				restore := mmapio.Intercept(func(name string) error {
					mu.Lock()
					counts[name]++
					count := counts[name]
					mu.Unlock()
					return fail(name, count)
				})
				got := exactSizes(undisturbed(t, s), preallocating)
				runtime.GC() // gives back addresses
				restore()
				restoreBudget()
				if difference := firstDifference(want, got); difference != "" {
					t.Errorf("%s: %s", label, difference)
				}
			}
			settled(t)
			attempt("nothing fails", func(name string, count int) error { return nil })
			usual := make(map[string]int)
			mu.Lock()
			for name, count := range counts {
				usual[name] = count
				seen[name] = true
			}
			mu.Unlock()
			t.Log("calls: ", usual)
			for _, name := range mmapio.SysNames() {
				if tellsOfDisk(name) {
					continue // Sync must say so: see TestFlushFails
				}
				if name == "unmap" && mmapio.MustUnmapToResize {
					continue // without it no size can be set
				}
				if testing.Short() && usual[name] == 0 {
					continue // its failures would change nothing
				}
				failures := []error{errors.New("not this time"), mmapio.NoAddresses}
				if name == "resident" || name == "majorFaults" {
					failures = append(failures, mmapio.ErrLie)
				}
				if name == "allocate" {
					failures = append(failures, errors.ErrUnsupported)
				}
				for _, failure := range failures {
					attempt(fmt.Sprintf("%s always fails with %v", name, failure), func(called string, _ int) error {
						if called == name {
							return failure
						}
						return nil
					})
				}
				step := 1 + usual[name]/12
				switch {
				case os.Getenv("MMAPIO_LONG") != "":
					step = 1
				case raceEnabled || testing.Short():
					step = 1 + usual[name]/2
				}
				for nth := 1; nth <= usual[name]; nth += step {
					attempt(fmt.Sprintf("%s fails at call %d", name, nth), func(called string, count int) error {
						if called == name && count == nth {
							return failures[0]
						}
						return nil
					})
				}
			}
			attempt("everything always fails", func(name string, _ int) error {
				if tellsOfDisk(name) || name == "unmap" && mmapio.MustUnmapToResize {
					return nil
				}
				return errors.New("never")
			})
		})
	}
	for _, name := range mmapio.SysNames() {
		switch {
		case !mmapio.SupportsMapping,
			tellsOfDisk(name),
			name == "seal" && mmapio.PinsCopies,
			name == "majorFaults" && !mmapio.SeesFaults,
			// Only copy-on-write Files call these: see TestCopyOnWriteFaults.
			slices.Contains([]string{"populateWrite", "discard", "privatePages", "writeAt", "sync"}, name),
			name == "mapAt", // for large files: see TestGrowsAnew
			!mmapio.Populates && slices.Contains([]string{"resident", "populateRead", "mapWindow", "readAhead"}, name),
			!mmapio.AdvisesFiles && name == "adviseFile",
			!mmapio.TellsResidency && name == "pageStates",
			!mmapio.TellsHuge && name == "hugeBytes":
			continue
		}
		if !seen[name] {
			t.Errorf("%s was never called, so it never failed", name)
		}
	}
}

// Before every call to the system somebody else cuts the file to nothing and makes
// it whole again, byte for byte. The File never notices, or it does and nobody can tell.
func TestCutsBetweenSystemCalls(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings on this system")
	}
	skipUncuttable(t)
	dir := memoryDir(t)
	truth := osSide(dir)
	want := undisturbed(t, truth)
	content := make([]byte, 2*faultySize)
	for _, way := range faultyWays {
		t.Run(way.name, func(t *testing.T) {
			s := mmapioSide(dir, way.options...)
			preallocating := way.name == "preallocating"
			cuts := 0
			var mu sync.Mutex
			restore := mmapio.Intercept(func(name string) error {
				if name == "unmap" || name == "stamp" || name == "majorFaults" || name == "allocate" {
					return nil // on other goroutines, or while the size is being set
				}
				mu.Lock()
				defer mu.Unlock()
				if cuts++; raceEnabled && cuts%7 != 1 {
					return nil // each of them takes a tenth of a second there
				}
				if err := cutAndRestore(s.path("file"), content); err != nil {
					t.Error(err)
				}
				return nil
			})
			got := undisturbed(t, s)
			restore()
			if difference := firstDifference(exactSizes(want, preallocating), exactSizes(got, preallocating)); difference != "" {
				t.Errorf("after %d cuts: %s", cuts, difference)
			}
			if cuts < 5 {
				t.Errorf("only %d cuts", cuts)
			}
		})
	}
}

// cutAndRestore empties the file and fills it again, by way of b.
func cutAndRestore(name string, b []byte) error {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := file.ReadAt(b, 0)
	if err != io.EOF {
		return fmt.Errorf("longer than %d bytes, or %w", len(b), err)
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err = file.WriteAt(b[:n], 0)
	return err
}

// newFilled returns the name of a new file with n bytes of a pattern.
func newFilled(t testing.TB, n, seed int) string {
	t.Helper()
	name := memoryDir(t) + "/file"
	if err := os.WriteFile(name, patterned(n, seed), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// openWarm opens the file for reading and writing; it is mapped and known to be in memory.
func openWarm(t testing.TB, name string, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, append(options, mmapio.WithMapping(mmapio.MapAlways))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	for range 2 {
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	// Faults of other tests may have made it forget what is in memory.
	for range 10 {
		if !mmapio.SupportsMapping || mmapio.IsKnown(f, 0, len(b)) {
			return f
		}
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("not served from memory")
	return nil
}

// skipUncuttable skips the test where others cannot cut a file that is mapped.
func skipUncuttable(t testing.TB) {
	t.Helper()
	if err := cutByOthers(t); err != nil {
		t.Skipf("others cannot cut a file that is mapped here: %v", err)
	}
}

// cutByOthers cuts a file that is mapped, through another handle, and returns the error.
func cutByOthers(t testing.TB) error {
	t.Helper()
	f := openWarm(t, newFilled(t, 10_000, 1))
	defer f.Close()
	return os.Truncate(f.Name(), 10)
}

// Others can cut a file that is mapped, except where the documentation says that they
// cannot: it stays whole then.
func TestOthersCut(t *testing.T) {
	err := cutByOthers(t)
	if mmapio.MustUnmapToResize != (err != nil) {
		t.Errorf("cut by others: %v", err)
	}
	f := openWarm(t, newFilled(t, 10_000, 1))
	want, left := io.EOF, 0
	if os.Truncate(f.Name(), 0) != nil {
		want, left = nil, 10
	}
	if n, err := f.ReadAt(make([]byte, 10), 9000); n != left || err != want {
		t.Errorf("then %d, %v", n, err)
	}
	// The File itself cuts it everywhere.
	if err := f.Truncate(0); err != nil {
		t.Error(err)
	}
	if n, err := f.ReadAt(make([]byte, 10), 0); n != 0 || err != io.EOF {
		t.Errorf("in the end %d, %v", n, err)
	}
}

// meddler is a hash that does something else when it is first written to.
type meddler struct {
	hash.Hash
	calls int
	then  func(call int, b []byte) (int, error)
}

func (w *meddler) Write(b []byte) (int, error) {
	w.calls++
	if n, err := w.then(w.calls, b); n != 0 || err != nil {
		return n, err
	}
	return w.Hash.Write(b)
}

// A file that is cut while a hash is looking at its mapped bytes is an error, and
// nothing worse.
func TestCutUnderHash(t *testing.T) {
	skipUncuttable(t)
	const size = 3 << 20
	for i, to := range []int64{0, 1, 100_000, 1 << 20, size - 1, 0, 1, 100_000, 1 << 20, size - 1} {
		name := newFilled(t, size, 2)
		f := openWarm(t, name) // whose mapping is not handed over, because it can be written to
		if i >= 5 {
			var err error
			if f, err = mmapio.Open(name, mmapio.WithMapping(mmapio.MapAlways)); err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			mmapio.MapNow(f)
		}
		w := &meddler{Hash: sha256.New(), then: func(call int, b []byte) (int, error) {
			if call == 2 {
				return 0, os.Truncate(name, to)
			}
			return 0, nil
		}}
		before := debug.SetPanicOnFault(false)
		n, err := f.WriteTo(w)
		if debug.SetPanicOnFault(before) {
			t.Error("panics on faults afterwards")
		}
		var fault *mmapio.FaultError
		switch {
		case err == nil && n <= size: // the end came early
		case errors.As(err, &fault) && isPathError(err, "read", fault):
			if fault.Offset < to || fault.Offset >= size {
				t.Errorf("cut to %d: a fault at %d", to, fault.Offset)
			}
		default:
			t.Errorf("cut to %d: %d bytes, %v", to, n, err)
		}
		if err == nil && n < to {
			t.Errorf("cut to %d: %d bytes", to, n)
		}
		t.Logf("cut to %d: %d bytes, %v", to, n, err)
		if n, err := f.ReadAt(make([]byte, 10), size/2); to < size/2 && (n != 0 || err != io.EOF) {
			t.Errorf("cut to %d: then %d, %v", to, n, err)
		}
	}
}

var nowhere *[1 << 30]byte // nil

// Whatever a writer does, the goroutine is left as it was found, and a panic that
// is not about the file goes on.
func TestWriterIsLeftAlone(t *testing.T) {
	const size = 1 << 20
	f := openWarm(t, newFilled(t, size, 3))
	failure := errors.New("failure")
	stranger := func() (n int) {
		return int(nowhere[1<<29])
	}
	ways := map[string]struct {
		then func(call int, b []byte) (int, error)
		want any // recovered
	}{
		"returns":          {then: func(int, []byte) (int, error) { return 0, nil }},
		"fails":            {then: func(int, []byte) (int, error) { return 1, failure }},
		"panics":           {then: func(int, []byte) (int, error) { panic(failure) }, want: failure},
		"panics with text": {then: func(int, []byte) (int, error) { panic("text") }, want: "text"},
		"faults":           {then: func(int, []byte) (int, error) { return stranger(), nil }, want: "invalid memory address or nil pointer dereference"},
	}
	for name, way := range ways {
		for _, setting := range []bool{false, true} {
			if name == "faults" && !setting {
				continue // would end the program, as it should
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			before := debug.SetPanicOnFault(setting)
			var recovered any
			func() {
				defer func() { recovered = recover() }()
				f.WriteTo(&meddler{Hash: sha256.New(), then: way.then})
			}()
			if after := debug.SetPanicOnFault(before); after != setting {
				t.Errorf("a writer that %s: set to %v afterwards, was %v", name, after, setting)
			}
			if name == "faults" {
				if err, ok := recovered.(runtime.Error); !ok || errors.As(err, new(*mmapio.FaultError)) {
					t.Errorf("a writer that %s: recovered %v", name, recovered)
				}
			} else if recovered != way.want {
				t.Errorf("a writer that %s: recovered %v", name, recovered)
			}
		}
	}
	// runtime.Goexit is no fault either.
	done := make(chan bool)
	go func() {
		defer close(done)
		f.Seek(0, io.SeekStart)
		f.WriteTo(&meddler{Hash: sha256.New(), then: func(int, []byte) (int, error) {
			runtime.Goexit()
			return 0, nil
		}})
		t.Error("went on after Goexit")
	}()
	<-done
	if n, err := f.ReadAt(make([]byte, 10), 0); n != 10 || err != nil {
		t.Error(n, err)
	}
}

// The caller's setting survives reads and writes of every kind, also those that
// fault in between.
func TestPanicOnFaultIsRestored(t *testing.T) {
	const size = 300_000
	for _, setting := range []bool{false, true} {
		for _, cut := range []bool{false, true} {
			if cut && mmapio.MustUnmapToResize {
				continue
			}
			name := newFilled(t, size, 4)
			b := make([]byte, 1000)
			calls := map[string]func(f *mmapio.File) error{
				"ReadAt":  func(f *mmapio.File) error { _, err := f.ReadAt(b, size-5000); return err },
				"Read":    func(f *mmapio.File) error { _, err := f.Read(b); return err },
				"WriteAt": func(f *mmapio.File) error { _, err := f.WriteAt(b, size-5000); return err },
				"Write":   func(f *mmapio.File) error { _, err := f.Write(b); return err },
			}
			for what, call := range calls {
				f := openWarm(t, name)
				if _, err := f.Seek(size-10_000, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				if cut {
					if err := os.Truncate(name, 10); err != nil {
						t.Fatal(err)
					}
				}
				before := debug.SetPanicOnFault(setting)
				err := call(f)
				after := debug.SetPanicOnFault(before)
				if after != setting {
					t.Errorf("%s, cut %v: set to %v afterwards, was %v", what, cut, after, setting)
				}
				if want := io.EOF; cut && what[0] == 'R' && err != want || (!cut || what[0] == 'W') && err != nil {
					t.Errorf("%s, cut %v: %v", what, cut, err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(name, patterned(size, 4), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A slow reader at the other end of a pipe meets a file that is cut meanwhile.
func TestPipeFromFileThatIsCut(t *testing.T) {
	skipUncuttable(t)
	const size = 3 << 20
	for _, wrap := range []func(w io.Writer) io.Writer{
		func(w io.Writer) io.Writer { return w },
		func(w io.Writer) io.Writer { return io.MultiWriter(w, sha256.New()) },
	} {
		name := newFilled(t, size, 5)
		f := openWarm(t, name)
		r, w := io.Pipe()
		var copied int64
		var err error
		done := make(chan bool)
		go func() {
			defer close(done)
			copied, err = io.Copy(wrap(w), f)
			w.Close()
		}()
		body := patterned(size, 5)
		b := make([]byte, 10_000)
		at := 0
		for {
			n, err := r.Read(b)
			if wrong := checkBody(body, b[:n], int64(at), true); wrong != nil {
				t.Fatal(wrong)
			}
			at += n
			if at >= 50_000 && at-n < 50_000 {
				if err := os.Truncate(name, 0); err != nil {
					t.Fatal(err)
				}
			}
			if err != nil {
				break
			}
		}
		<-done
		if err != nil && !errors.As(err, new(*fs.PathError)) || copied != int64(at) || copied == size {
			t.Errorf("copied %d, %d arrived, %v", copied, at, err)
		}
	}
}
