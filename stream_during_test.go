package mmapio_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// This file is about what happens to a File while a stream from or into it is
// under way: changes, Close, panics, failures of the other side, other goroutines.

// asHash makes any Writer look like a hash, which is trusted with mapped memory.
type asHash struct{ io.Writer }

var _ hash.Hash = asHash{}

func (asHash) Sum(b []byte) []byte { return b }
func (asHash) Reset()              {}
func (asHash) Size() int           { return 0 }
func (asHash) BlockSize() int      { return 1 }

// hashOrNot returns w, as a hash if the source is a long one, so that both are seen.
func hashOrNot(w io.Writer, size int) io.Writer {
	if size == longSourceSize {
		return asHash{w}
	}
	return w
}

// hookWriter takes everything, and calls hook during its first Write.
type hookWriter struct {
	arrived bytes.Buffer
	hook    func(b []byte)
}

func (w *hookWriter) Write(b []byte) (int, error) {
	if hook := w.hook; hook != nil {
		w.hook = nil
		hook(b)
	}
	return w.arrived.Write(b)
}

// duringCopy is something done to the source by its writer, in the middle of a copy.
type duringCopy struct {
	name string
	do   func(r *streamRun, f file, b []byte)
}

var duringCopies = []duringCopy{
	{"Seek tells the position", func(r *streamRun, f file, _ []byte) {
		r.note("%s", r.position(f))
	}},
	{"Seek goes on", func(r *streamRun, f file, _ []byte) {
		at, err := f.Seek(50_000, io.SeekStart)
		r.note("at %d, %s", at, r.describe(err))
	}},
	{"Seek goes back", func(r *streamRun, f file, _ []byte) {
		at, err := f.Seek(-10_000, io.SeekCurrent)
		r.note("at %d, %s", at, r.describe(err))
	}},
	{"Seek goes to the end", func(r *streamRun, f file, _ []byte) {
		at, err := f.Seek(-1000, io.SeekEnd)
		r.note("at %d, %s", at, r.describe(err))
	}},
	{"Read takes some", func(r *streamRun, f file, _ []byte) {
		var b [1000]byte
		n, err := f.Read(b[:])
		r.note("%s, %s", bytesOf(b[:n]), r.describe(err))
	}},
	{"ReadAt", func(r *streamRun, f file, _ []byte) {
		var b [1000]byte
		n, err := f.ReadAt(b[:], 60_000)
		r.note("%s, %s", bytesOf(b[:n]), r.describe(err))
	}},
	{"Write over what comes next", func(r *streamRun, f file, _ []byte) {
		n, err := f.Write(patterned(500, 9))
		r.note("%d, %s", n, r.describe(err))
	}},
	{"WriteAt to what comes later", func(r *streamRun, f file, _ []byte) {
		n, err := f.WriteAt(patterned(5000, 9), sourceSize-10_000)
		r.note("%d, %s", n, r.describe(err))
	}},
	{"another handle writes what comes later", func(r *streamRun, f file, _ []byte) {
		r.other(f, func(g *os.File) error {
			_, err := g.WriteAt(patterned(5000, 9), sourceSize-10_000)
			return err
		})
	}},
	{"another handle appends", func(r *streamRun, f file, _ []byte) {
		r.other(f, func(g *os.File) error {
			info, err := g.Stat()
			if err != nil {
				return err
			}
			_, err = g.WriteAt(patterned(40_000, 9), info.Size())
			return err
		})
	}},
	{"Truncate makes it longer", func(r *streamRun, f file, _ []byte) {
		info, err := f.Stat()
		if err != nil {
			r.t.Error(err)
		}
		r.note("%s", r.describe(f.Truncate(info.Size()+5000)))
	}},
	{"Fd", func(r *streamRun, f file, _ []byte) {
		if f.Fd() == ^uintptr(0) {
			r.note("no descriptor")
		}
	}},
	{"WriteTo elsewhere", func(r *streamRun, f file, _ []byte) {
		var b bytes.Buffer
		n, err := f.WriteTo(&b)
		r.note("%d, %s, %s", n, r.describe(err), bytesOf(b.Bytes()))
	}},
	{"the writer appends to its slice", func(_ *streamRun, _ file, b []byte) {
		_ = append(b, "of no concern to anybody else"...)
	}},
	{"the writer panics", func(*streamRun, file, []byte) {
		panic("out of order")
	}},
	{"the writer panics by a nil pointer", func(*streamRun, file, []byte) {
		var none *hookWriter
		none.hook = nil
	}},
	{"the writer panics by an index", func(_ *streamRun, _ file, b []byte) {
		_ = b[len(b)+len(b)]
	}},
	{"the writer panics by a nil panic", func(*streamRun, file, []byte) {
		var none any
		panic(none)
	}},
	{"the goroutine of the writer ends", func(*streamRun, file, []byte) {
		runtime.Goexit()
	}},
}

// other runs do with another handle on the file that f is open on.
func (r *streamRun) other(f file, do func(g *os.File) error) {
	g, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(do(g), g.Close())
	}
	if err != nil {
		r.t.Error(err)
	}
}

// Whatever is done during a copy has the effect that it has on an os.File.
func TestStreamDuring(t *testing.T) {
	for _, during := range duringCopies {
		t.Run(during.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, size := range []int{sourceSize, longSourceSize} {
				ways := few
				if size == longSourceSize {
					ways = mostOfThem
				}
				compareStreams(t, dir, ways, fmt.Sprint("size ", size), func(r *streamRun) {
					r.create("source", cachedPattern(size, 1))
					f := r.start("source", os.O_RDWR, 5000)
					w := &hookWriter{}
					w.hook = func(b []byte) { during.do(r, f, b) }
					ended := make(chan struct{})
					go func() { // of its own, because it may end
						defer close(ended)
						defer func() {
							if debug.SetPanicOnFault(false) {
								r.note("panics on faults are left on")
							}
						}()
						r.guarded(func() (int64, error) { return io.Copy(hashOrNot(w, size), f) })
					}()
					<-ended
					r.note("arrived %s", bytesOf(w.arrived.Bytes()))
					r.noteFile("source", f)
					n, err := io.Copy(w, f)
					r.note("then copied %d, %s", n, r.describe(err))
				})
			}
		})
	}
}

// duringIntake is something done to the target by its reader, in the middle of a copy.
type duringIntake struct {
	name  string
	other bool // by another handle, as is not allowed to a file that grows in steps
	do    func(r *streamRun, f file)
}

var duringIntakes = []duringIntake{
	{"Seek tells the position", false, func(r *streamRun, f file) {
		r.note("%s", r.position(f))
	}},
	{"Seek goes elsewhere", false, func(r *streamRun, f file) {
		at, err := f.Seek(100, io.SeekStart)
		r.note("%d, %s", at, r.describe(err))
	}},
	{"Seek goes past the end", false, func(r *streamRun, f file) {
		at, err := f.Seek(5000, io.SeekEnd)
		r.note("%d, %s", at, r.describe(err))
	}},
	{"Write", false, func(r *streamRun, f file) {
		n, err := f.Write(b100)
		r.note("%d, %s, %s", n, r.describe(err), r.position(f))
	}},
	{"Read", false, func(r *streamRun, f file) {
		var b [100]byte
		n, err := f.Read(b[:])
		r.note("%s, %s, %s", bytesOf(b[:n]), r.describe(err), r.position(f))
	}},
	{"ReadAt what has been copied", false, func(r *streamRun, f file) {
		var b [100]byte
		n, err := f.ReadAt(b[:], 5000)
		r.note("%s, %s", bytesOf(b[:n]), r.describe(err))
	}},
	{"WriteAt over what has been copied", false, func(r *streamRun, f file) {
		n, err := f.WriteAt(b100, 5000)
		r.note("%d, %s", n, r.describe(err))
	}},
	{"WriteAt far away", false, func(r *streamRun, f file) {
		n, err := f.WriteAt(b100, longSourceSize)
		r.note("%d, %s", n, r.describe(err))
	}},
	{"Truncate", false, func(r *streamRun, f file) {
		r.note("%s", r.describe(f.Truncate(10)))
	}},
	{"Stat", false, func(r *streamRun, f file) {
		info, err := f.Stat()
		r.note("%s, %s", infoOf(info), r.describe(err))
	}},
	{"WriteTo elsewhere", false, func(r *streamRun, f file) {
		var b bytes.Buffer
		n, err := f.WriteTo(&b)
		r.note("%d, %s, %s", n, r.describe(err), bytesOf(b.Bytes()))
	}},
	{"another handle appends", true, func(r *streamRun, f file) {
		r.other(f, func(g *os.File) error {
			_, err := g.WriteAt(b100, sourceSize)
			return err
		})
	}},
	{"another handle overwrites", true, func(r *streamRun, f file) {
		r.other(f, func(g *os.File) error {
			_, err := g.WriteAt(b100, 4900)
			return err
		})
	}},
	{anotherCuts, true, func(r *streamRun, f file) {
		cutSource(r.t, f.Name(), 5100)
	}},
	{"Fd", false, func(r *streamRun, f file) {
		if f.Fd() == ^uintptr(0) {
			r.note("no descriptor")
		}
	}},
	{"the reader panics", false, func(*streamRun, file) {
		panic("out of order")
	}},
	{"the goroutine of the reader ends", false, func(*streamRun, file) {
		runtime.Goexit()
	}},
}

const anotherCuts = "another handle cuts"

// Whatever is done to a File while it is copied to has the effect that it has on
// an os.File.
func TestStreamIntoDuring(t *testing.T) {
	for _, during := range duringIntakes {
		t.Run(during.name, func(t *testing.T) {
			if during.name == anotherCuts {
				skipUncuttable(t)
			}
			dir := t.TempDir()
			ways := mostOfThem
			if during.other {
				ways = streamWays
			}
			for _, size := range []int{0, sourceSize} {
				compareStreams(t, dir, ways, fmt.Sprint("size ", size), func(r *streamRun) {
					r.create("target", cachedPattern(size, 2))
					f := r.start("target", os.O_RDWR, min(int64(size), 5000))
					pieces := 0
					reader := readerFunc(func(b []byte) (int, error) {
						if pieces++; pieces == 2 {
							during.do(r, f)
						}
						if pieces > 4 {
							return 0, io.EOF
						}
						return copy(b, cachedPattern(1000, pieces)), nil
					})
					outcome := make(chan string, 1)
					go func() { // of its own, because it may end
						defer close(outcome)
						outcome <- r.outcome(func() (int64, error) { return io.Copy(f, reader) })
					}()
					r.note("%s", <-outcome)
					n, err := f.Write(b100)
					r.note("then %d, %s", n, r.describe(err))
					r.noteFile("target", f)
				})
			}
		})
	}
}

// A target that is closed during the copy ends it as with os.File.
func TestStreamTargetClosed(t *testing.T) {
	ways := slices.Concat(streamWays, []streamWay{preallocating})
	for _, source := range []string{"reader", "os.Pipe"} {
		compareStreams(t, t.TempDir(), ways, source, func(r *streamRun) {
			r.create("target", cachedPattern(sourceSize, 2))
			f, err := r.open(r.path("target"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if r.way != nil && r.way.warm {
				warmUp(t, f)
			}
			first := cachedPattern(1000, 3)
			if source == "reader" {
				pieces := 0
				r.guarded(func() (int64, error) {
					return io.Copy(f, readerFunc(func(b []byte) (int, error) {
						if pieces++; pieces == 2 {
							r.note("Close %s", r.describe(f.Close()))
						}
						return copy(b, first), nil
					}))
				})
			} else {
				far, near := r.pair(source)
				defer near.Close()
				copied := make(chan string)
				go func() { copied <- r.outcome(func() (int64, error) { return io.Copy(f, near) }) }()
				if _, err := far.Write(first); err != nil {
					t.Error(err)
				}
				waitForContent(t, f.Name(), first, 0)
				r.inTime("Close", func() { r.note("Close %s", r.describe(f.Close())) })
				far.Close()
				r.note("%s", <-copied)
			}
			r.note("Close again %s, %s", r.describe(f.Close()), r.position(f))
			content, err := os.ReadFile(f.Name())
			r.note("others see %s, %s", bytesOf(content), r.describe(err))
		})
	}
}

// A panic that goes through a copy is the value that the writer panicked with.
func TestStreamPanicValue(t *testing.T) {
	for _, way := range streamWays {
		r := newStreamRun(t, &way, t.TempDir())
		defer r.finish()
		r.create("source", cachedPattern(longSourceSize, 1))
		f := r.start("source", os.O_RDONLY, 0)
		value := new(int)
		w := &hookWriter{hook: func([]byte) { panic(value) }}
		func() {
			defer func() {
				if got := recover(); got != value {
					t.Errorf("%s: panicked with %v, want %v", way.name, got, value)
				}
			}()
			io.Copy(asHash{w}, f)
		}()
	}
}

// The caller's setting of SetPanicOnFault survives a copy.
func TestStreamKeepsPanicOnFault(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, way := range streamWays {
		r := newStreamRun(t, &way, t.TempDir())
		defer r.finish()
		r.create("source", cachedPattern(longSourceSize, 1))
		f := r.start("source", os.O_RDONLY, 0)
		if _, err := io.Copy(sha256.New(), f); err != nil {
			t.Error(err)
		}
		if !debug.SetPanicOnFault(true) {
			t.Errorf("%s: the setting was turned off", way.name)
		}
	}
}

// Several copies from one File at once share its bytes among them, as those from
// an os.File do: each byte arrives once.
func TestStreamSharedSource(t *testing.T) {
	const size, block = 6 << 20, 512
	for _, way := range append([]streamWay{{name: "os.File"}}, streamWays...) {
		t.Run(way.name, func(t *testing.T) {
			r := newStreamRun(t, &way, t.TempDir())
			if way.name == "os.File" {
				r = newStreamRun(t, nil, t.TempDir())
			}
			defer r.finish()
			// Every block knows which one it is.
			content := make([]byte, size)
			for i := 0; i < size; i += block {
				binary.LittleEndian.PutUint32(content[i:], uint32(i/block))
			}
			r.create("source", content)
			f := r.start("source", os.O_RDONLY, 0)
			arrived := make([]atomic.Int32, size/block)
			count := writerFunc(func(b []byte) (int, error) {
				for i := 0; i+block <= len(b); i += block {
					arrived[binary.LittleEndian.Uint32(b[i:])].Add(1)
				}
				return len(b), nil
			})
			for range 3 {
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				begin := make(chan struct{})
				for i := range 5 {
					wg.Go(func() {
						<-begin
						var err error
						if i > 0 {
							_, err = io.Copy(asHash{count}, f)
						} else {
							_, err = io.CopyBuffer(count, readerOnly{f}, make([]byte, block))
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				close(begin)
				wg.Wait()
			}
			for i := range arrived {
				if n := arrived[i].Load(); n != 3 {
					t.Fatalf("block %d arrived %d times in 3 rounds", i, n)
				}
			}
			if at := r.position(f); at != fmt.Sprintf("at %d, nil", size) {
				t.Error(at)
			}
		})
	}
}

// Copies from one File to another, or into itself, end as with os.File.
func TestStreamWithinOneFile(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{sourceSize, longSourceSize} {
		for _, c := range []struct {
			name     string
			from, to int64
			n        int64
			twice    bool // by two handles
		}{
			{"into itself from the beginning", 0, 0, int64(size), false},
			{"into itself from the middle", int64(size) / 2, 0, 20_000, false},
			{"two handles, apart", 0, int64(size) / 2, 10_000, true},
			{"two handles, from behind", int64(size) / 2, 100, int64(size), true},
			{"two handles, overlapping", 1000, 20_000, 30_000, true},
			{"two handles, onto the same place", 1000, 1000, 30_000, true},
			{"two handles, to the end", 1000, int64(size), 50_000, true},
		} {
			ways := streamWays
			if !c.twice { // one File at a time may grow a file in steps
				ways = slices.Concat(ways, []streamWay{preallocating})
			}
			compareStreams(t, dir, ways, c.name, func(r *streamRun) {
				r.create("source", cachedPattern(size, 1))
				source := r.start("source", os.O_RDWR, c.from)
				target := source
				if c.twice {
					target = r.start("source", os.O_RDWR, c.to)
				}
				r.guarded(func() (int64, error) { return io.CopyN(target, source, c.n) })
				r.noteFile("source", source)
				r.noteFile("target", target)
			})
		}
	}
}

// survivorVariable names the test that runs in a process of its own.
const survivorVariable = "MMAPIO_TEST_SURVIVOR"

// childEnvironment is that of this process and one variable more. The race detector
// is told not to wait a second before the process ends.
func childEnvironment(variable string) []string {
	return append(os.Environ(), variable, strings.TrimSpace("GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"))
}

// inOwnProcess reports whether this is the process for the named test. If not, it
// starts that process and fails the test if it dies.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	if os.Getenv(survivorVariable) == t.Name() {
		return true
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Env = childEnvironment(survivorVariable + "=" + t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the process ended with %v:\n%s", err, out)
	} else if bytes.Contains(out, []byte("--- SKIP: "+t.Name())) {
		t.Skipf("%s", out)
	} else if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("the process did not run the test:\n%s", out)
	}
	return false
}

// cutSource cuts the file to size through another handle, or skips the test where
// a mapped file cannot be cut.
func cutSource(t testing.TB, name string, size int64) {
	t.Helper()
	if err := os.Truncate(name, size); err != nil {
		if mmapio.MustUnmapToResize {
			t.Skipf("a file in use cannot be cut here: %v", err)
		}
		t.Error(err)
	}
}

// checkCut checks the outcome of a copy from a file that was cut under it: a short
// copy of what there was, or an error that names the file.
func checkCut(t *testing.T, name string, content, arrived []byte, n int64, err error) {
	t.Helper()
	var pathError *fs.PathError
	switch {
	case err == nil && n == int64(len(arrived)):
	case errors.As(err, &pathError) && pathError.Path == name:
	default:
		t.Errorf("copied %d of %d that arrived, error %v", n, len(arrived), err)
	}
	if len(arrived) > len(content) {
		t.Fatalf("%d bytes arrived of %d", len(arrived), len(content))
	}
	if bytes.Equal(arrived, content[:len(arrived)]) {
		return
	}
	// What was cut off may have been read before, or be zeros to the end of the page.
	for i, c := range arrived {
		if c != content[i] && c != 0 {
			t.Fatalf("byte %d is %#x, want %#x", i, c, content[i])
		}
	}
}

// A source that is cut by somebody else while a slow writer is at work ends the
// copy, and never the program.
func TestStreamSourceCut(t *testing.T) {
	for _, size := range []int64{0, 1, 4096, 40_000, longSourceSize - 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			if !inOwnProcess(t) {
				return
			}
			for _, way := range streamWays {
				for _, touch := range []bool{false, true} {
					r := newStreamRun(t, &way, t.TempDir())
					defer r.finish()
					content := cachedPattern(longSourceSize, 1)
					r.create("source", content)
					f := r.start("source", os.O_RDWR, 0)
					w := &hookWriter{}
					w.hook = func(b []byte) {
						cutSource(t, f.Name(), size)
						if touch { // all that the writer was given, before it takes it
							crc32.ChecksumIEEE(b)
						}
					}
					n, err := io.Copy(asHash{w}, f)
					checkCut(t, f.Name(), content, w.arrived.Bytes(), n, err)
					// The File goes on as if nothing had happened.
					if info, err := f.Stat(); err != nil || info.Size() != size {
						t.Errorf("%s: Stat %v, %v", way.name, info, err)
					}
					if n, err := f.WriteAt([]byte("new"), 0); n != 3 || err != nil {
						t.Errorf("%s: WriteAt %d, %v", way.name, n, err)
					}
					b := make([]byte, 3)
					if n, err := f.ReadAt(b, 0); string(b[:n]) != "new" || err != nil {
						t.Errorf("%s: ReadAt %q, %v", way.name, b[:n], err)
					}
				}
			}
		})
	}
}

// The same where the writer has another goroutine look at the bytes while it waits,
// as it may.
func TestStreamSourceCutInOtherGoroutine(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(w io.Writer) io.Writer
	}{
		{"io.Pipe", func(w io.Writer) io.Writer { return w }},
		{"io.MultiWriter over io.Pipe", func(w io.Writer) io.Writer { return io.MultiWriter(w, crc32.NewIEEE()) }},
		{"a Writer and nothing more", func(w io.Writer) io.Writer { return writerOnly{w} }},
		{"bufio.Writer over io.Pipe", func(w io.Writer) io.Writer { return bufio.NewWriterSize(w, 100) }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			if !inOwnProcess(t) {
				return
			}
			for _, way := range streamWays {
				r := newStreamRun(t, &way, t.TempDir())
				defer r.finish()
				content := cachedPattern(longSourceSize, 1)
				r.create("source", content)
				f := r.start("source", os.O_RDWR, 0)
				far, near := io.Pipe()
				var arrived bytes.Buffer
				done := make(chan struct{})
				go func() {
					defer close(done)
					io.CopyN(&arrived, far, 10) // the writer waits for the rest to be taken
					if err := os.Truncate(f.Name(), 0); err != nil {
						t.Log(err)
					}
					io.Copy(&arrived, far)
				}()
				n, err := io.Copy(c.wrap(near), f)
				near.Close()
				<-done
				if strings.HasPrefix(c.name, "bufio") {
					n = int64(arrived.Len()) // the rest is still in its buffer
				}
				checkCut(t, f.Name(), content, arrived.Bytes(), n, err)
			}
		})
	}
}

// An encoder may look at the bytes it is given more than once. If somebody else
// writes to the source meanwhile it sees old bytes or new ones, but each time the
// same.
func TestStreamEncoderSeesOneState(t *testing.T) {
	const size = 600_000
	states := [2][]byte{cachedPattern(size, 1), cachedPattern(size, 2)}
	for _, way := range append([]streamWay{{name: "os.File"}}, streamWays...) {
		r := newStreamRun(t, &way, t.TempDir())
		if way.name == "os.File" {
			r = newStreamRun(t, nil, t.TempDir())
		}
		defer r.finish()
		r.create("source", cachedPattern(size, 1))
		f := r.start("source", os.O_RDWR, 0)
		g, err := os.OpenFile(f.Name(), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		var packed bytes.Buffer
		w := writerFunc(func(b []byte) (int, error) {
			states[0], states[1] = states[1], states[0]
			if _, err := g.WriteAt(states[0], 0); err != nil {
				t.Error(err)
			}
			return packed.Write(b)
		})
		z, err := gzip.NewWriterLevel(w, gzip.NoCompression)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(z, f); n != size || err != nil {
			t.Errorf("%s: copied %d, %v", way.name, n, err)
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
		unpacked, err := gzip.NewReader(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, unpacked); n != size || err != nil {
			t.Errorf("%s: unpacked %d, %v", way.name, n, err)
		}
	}
}

// A source that is closed during the copy ends it as with os.File, or with an
// error that says so, and the writer keeps the bytes it was given.
func TestStreamSourceClosed(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	dir := t.TempDir()
	for _, size := range []int{sourceSize, longSourceSize} {
		for _, inside := range []bool{true, false} {
			compareStreams(t, dir, streamWays, fmt.Sprintf("size %d, by the writer itself: %v", size, inside), func(r *streamRun) {
				content := cachedPattern(size, 1)
				r.create("source", content)
				f, err := r.open(r.path("source"), os.O_RDWR, 0)
				if err != nil {
					r.t.Fatal(err)
				}
				if r.way != nil && r.way.warm {
					warmUp(r.t, f)
				}
				w := &hookWriter{}
				w.hook = func(b []byte) {
					if inside {
						r.note("Close %s", r.describe(f.Close()))
					} else {
						closed := make(chan error)
						go func() { closed <- f.Close() }()
						r.note("Close %s", r.describe(<-closed))
					}
					if !bytes.Equal(b, content[:len(b)]) {
						r.note("the bytes that the writer was given have changed")
					}
				}
				r.guarded(func() (int64, error) { return io.Copy(hashOrNot(w, size), f) })
				r.note("arrived %s", bytesOf(w.arrived.Bytes()))
				r.note("Close again %s", r.describe(f.Close()))
				r.note("%s", r.position(f))
			})
		}
	}
}

// A File that is detached during the copy keeps its bytes in their order: what
// was not copied is what the os.File goes on with.
func TestStreamSourceDetached(t *testing.T) {
	for _, way := range streamWays {
		r := newStreamRun(t, &way, t.TempDir())
		defer r.finish()
		content := cachedPattern(longSourceSize, 1)
		r.create("source", content)
		f, err := way.open(r.path("source"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if way.warm {
			warmUp(t, f)
		}
		var inner *os.File
		w := &hookWriter{hook: func([]byte) { inner, err = f.(*mmapio.File).Detach() }}
		n, copyErr := io.Copy(asHash{w}, f)
		if err != nil {
			t.Fatal(err)
		}
		if copyErr != nil && !errors.Is(copyErr, fs.ErrClosed) {
			t.Errorf("%s: copy: %v", way.name, copyErr)
		}
		if n != int64(w.arrived.Len()) {
			t.Errorf("%s: copied %d, %d arrived", way.name, n, w.arrived.Len())
		}
		rest, err := io.ReadAll(inner)
		if err != nil {
			t.Error(err)
		}
		if all := append(w.arrived.Bytes(), rest...); !bytes.Equal(all, content) {
			t.Errorf("%s: %d bytes copied, %d bytes read afterwards, which is not the file", way.name, n, len(rest))
		}
		if err := inner.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The other side goes away in the middle of a copy. How many bytes it took then
// depends on timing; how count, position and error go together does not.
func TestStreamPeerGoesAway(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "os.Pipe"} {
		t.Run(network, func(t *testing.T) {
			dir := t.TempDir()
			const size = 8 << 20
			content := cachedPattern(size, 1)
			compareStreams(t, dir, streamWays, network, func(r *streamRun) {
				r.create("source", content)
				f := r.start("source", os.O_RDWR, 5000)
				near, far := r.pair(network)
				defer near.Close()
				done := make(chan struct{})
				go func() {
					defer close(done)
					io.CopyN(io.Discard, far, 200_000)
					if c, ok := far.(*net.TCPConn); ok {
						c.SetLinger(0)
					}
					far.Close()
				}()
				n, err := io.Copy(near, f)
				<-done
				at, seekErr := f.Seek(0, io.SeekCurrent)
				r.note("taken enough %v, not all %v, error %s, %s", n >= 200_000, n < size-5000, r.kindOf(err), r.describe(seekErr))
				if ahead := at - 5000 - n; ahead < 0 || ahead > 32<<10 {
					r.note("position is %d bytes ahead", ahead)
				}
				f.Seek(6000, io.SeekStart)
				r.noteFile("source", f)
			})
		})
	}
}

func (r *streamRun) pair(network string) (near, far io.ReadWriteCloser) {
	r.t.Helper()
	if network != "os.Pipe" {
		return connectedPair(r.t, network, r.path("socket"))
	}
	out, in, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	return in, out
}

// kindOf renders the types in an error, but not which of several errnos it is.
func (r *streamRun) kindOf(err error) string {
	var kinds []string
	for ; err != nil; err = errors.Unwrap(err) {
		kind := fmt.Sprintf("%T", err)
		if e, ok := err.(*fs.PathError); ok {
			kind += " " + e.Op + " " + filepath.Base(e.Path)
		}
		kinds = append(kinds, kind)
	}
	return strings.Join(kinds, ": ")
}

// A copy into a File that waits for its source holds up nobody: others can ask for
// and set the position, read and write at offsets, and close.
func TestStreamSlowSource(t *testing.T) {
	for _, source := range []string{"os.Pipe", "io.Pipe", "tcp"} {
		t.Run(source, func(t *testing.T) {
			dir := t.TempDir()
			ways := slices.Concat(streamWays, []streamWay{preallocating})
			compareStreams(t, dir, ways, source, func(r *streamRun) {
				r.create("target", cachedPattern(sourceSize, 2))
				f := r.start("target", os.O_RDWR, 5000)
				var near io.ReadCloser
				var far io.WriteCloser
				switch source {
				case "io.Pipe":
					near, far = io.Pipe()
				case "os.Pipe":
					far, near = r.pair(source)
				default:
					near, far = r.pair(source)
				}
				defer near.Close()
				first, second := patterned(1000, 3), patterned(300, 4)
				copied := make(chan string)
				go func() { copied <- r.outcome(func() (int64, error) { return io.Copy(f, near) }) }()
				if _, err := far.Write(first); err != nil {
					t.Error(err)
				}
				waitForContent(t, f.Name(), first, 5000)

				// The position follows the bytes, but not at the same moment.
				r.inTime("Seek", func() {
					waitUntil(t, "the position to move", func() bool {
						at, err := f.Seek(0, io.SeekCurrent)
						return at == 6000 || err != nil
					})
				})
				r.inTime("ReadAt", func() {
					var b [100]byte
					n, err := f.ReadAt(b[:], 5950)
					r.note("%s, %s", bytesOf(b[:n]), r.describe(err))
				})
				r.inTime("WriteAt", func() {
					n, err := f.WriteAt(b100, 50)
					r.note("%d, %s", n, r.describe(err))
				})
				r.inTime("Stat", func() {
					info, err := f.Stat()
					r.note("%s, %s", infoOf(info), r.describe(err))
				})
				r.inTime("Sync", func() { r.note("%s", r.describe(f.Sync())) })
				r.inTime("Seek", func() {
					at, err := f.Seek(20_000, io.SeekStart)
					r.note("%d, %s", at, r.describe(err))
				})
				if _, err := far.Write(second); err != nil {
					t.Error(err)
				}
				far.Close()
				r.note("%s", <-copied)
				r.noteFile("target", f)
			})
		})
	}
}

var b100 = patterned(100, 5)

// inTime fails the test if do does not return soon.
func (r *streamRun) inTime(what string, do func()) {
	r.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		r.t.Fatalf("%s waits for the copy", what)
	}
}

// waitForContent returns when the file holds content at off.
func waitForContent(t *testing.T, name string, content []byte, off int64) {
	t.Helper()
	g, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	b := make([]byte, len(content))
	waitUntil(t, "something to arrive", func() bool {
		_, err := g.ReadAt(b, off)
		return err == nil && bytes.Equal(b, content)
	})
}

// waitUntil asks done again and again until it says so.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// The same for a copy from a File that waits for its writer.
func TestStreamSlowWriter(t *testing.T) {
	for _, sink := range []string{"os.Pipe", "io.Pipe", "tcp", "unix"} {
		t.Run(sink, func(t *testing.T) {
			dir := t.TempDir()
			content := cachedPattern(8<<20, 1)
			compareStreams(t, dir, streamWays, sink, func(r *streamRun) {
				r.create("source", content)
				f := r.start("source", os.O_RDWR, 5000)
				var near io.WriteCloser
				var far io.ReadCloser
				if sink == "io.Pipe" {
					far, near = io.Pipe()
				} else {
					near, far = r.pair(sink)
				}
				defer far.Close()
				copied := make(chan string, 1)
				go func() {
					defer near.Close()
					copied <- r.outcome(func() (int64, error) { return io.Copy(near, f) })
				}()
				// The copy has begun when something arrives, and cannot end.
				var first [1]byte
				if _, err := far.Read(first[:]); err != nil {
					t.Error(err)
				}
				r.inTime("Seek", func() {
					if at, err := f.Seek(0, io.SeekCurrent); at < 5000 || at > int64(len(content)) || err != nil {
						r.note("at %d, %s", at, r.describe(err))
					}
				})
				r.inTime("ReadAt", func() {
					var b [100]byte
					n, err := f.ReadAt(b[:], 5950)
					r.note("%s, %s", bytesOf(b[:n]), r.describe(err))
				})
				r.inTime("WriteAt", func() {
					n, err := f.WriteAt(b100, 50)
					r.note("%d, %s", n, r.describe(err))
				})
				r.inTime("Stat", func() {
					info, err := f.Stat()
					r.note("%s, %s", infoOf(info), r.describe(err))
				})
				rest, err := io.ReadAll(far)
				r.note("%s", <-copied)
				r.note("arrived %q, %s, %s", first, bytesOf(rest), r.describe(err))
				r.noteFile("source", f)
			})
		})
	}
}

// sparseFile makes a file of that size with some data in it, and returns the
// checksum of its content.
func sparseFile(t *testing.T, name string, size int64) [sha256.Size]byte {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Skipf("no room for %d bytes: %v", size, err)
	}
	for i, off := range []int64{0, size/3 + 12345, size/2 - 1, size - 1<<20} {
		if _, err := f.WriteAt(patterned(1<<20, i+5), off); err != nil {
			t.Fatal(err)
		}
	}
	return sumOf(t, name)
}

func sumOf(t *testing.T, name string) (sum [sha256.Size]byte) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// A large file with holes arrives whole: at a writer, at a connection, in a file.
func TestStreamLargeSparse(t *testing.T) {
	const size = 64<<20 + 4321
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	want := sparseFile(t, source, size)
	sinks := []struct {
		name string
		copy func(t *testing.T, way *streamWay, f file) (n int64, sum [sha256.Size]byte, err error)
	}{
		{"hash", func(t *testing.T, _ *streamWay, f file) (int64, [sha256.Size]byte, error) {
			h := sha256.New()
			n, err := io.Copy(h, f)
			return n, [sha256.Size]byte(h.Sum(nil)), err
		}},
		{"TCP", func(t *testing.T, _ *streamWay, f file) (int64, [sha256.Size]byte, error) {
			near, far := connectedPair(t, "tcp", "")
			defer far.Close()
			h := sha256.New()
			received := make(chan error, 1)
			go func() {
				_, err := io.Copy(h, far)
				received <- err
			}()
			n, err := io.Copy(near, f)
			near.Close()
			if err := <-received; err != nil {
				t.Error(err)
			}
			return n, [sha256.Size]byte(h.Sum(nil)), err
		}},
		{"os.File", func(t *testing.T, _ *streamWay, f file) (int64, [sha256.Size]byte, error) {
			target, err := os.Create(filepath.Join(t.TempDir(), "target"))
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(target, f)
			return n, sumOf(t, target.Name()), errors.Join(err, target.Close())
		}},
		{"File", func(t *testing.T, way *streamWay, f file) (int64, [sha256.Size]byte, error) {
			target, err := way.open(filepath.Join(t.TempDir(), "target"), os.O_RDWR|os.O_CREATE, 0o666)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(target, f)
			return n, sumOf(t, target.Name()), errors.Join(err, target.Close())
		}},
	}
	for i, sink := range sinks {
		for j, way := range streamWays {
			if (i+j)%2 != 0 && sink.name != "hash" { // half of them are enough
				continue
			}
			t.Run(sink.name+"/"+strings.ReplaceAll(way.name, " ", "_"), func(t *testing.T) {
				f, err := way.open(source, os.O_RDONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				n, sum, err := sink.copy(t, &way, f)
				if n != size || err != nil || sum != want {
					t.Errorf("copied %d of %d, %v, same bytes %v", n, size, err, sum == want)
				}
				if at, err := f.Seek(0, io.SeekCurrent); at != size || err != nil {
					t.Errorf("position %d, %v", at, err)
				}
			})
		}
	}
}
