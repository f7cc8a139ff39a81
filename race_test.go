package mmapio_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// Everything at once: the file is read and written while others cut it, while it
// is closed, handed out and detached. Each file has bytes of its own, so that a byte
// of another file, or of no file, is noticed.
//
// By default each test runs for a fraction of a second; MMAPIO_LONG=10m makes it
// run that long.

// raceTime is how long one race runs.
func raceTime(t testing.TB) time.Duration {
	t.Helper()
	if text := os.Getenv("MMAPIO_LONG"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("MMAPIO_LONG: %v", err)
		}
		return d / 10 // there are about ten races
	}
	if testing.Short() {
		return 100 * time.Millisecond
	}
	return 300 * time.Millisecond
}

// bodyOf returns the bytes of file id. None of them is zero.
func bodyOf(id, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		x := uint64(i)*0x9e3779b97f4a7c15 ^ uint64(id+1)*0xc2b2ae3d27d4eb4f
		x ^= x >> 29
		b[i] = byte(x*0x94d049bb133111eb>>56) | 1
	}
	return b
}

// excess is how much too long a file may be, with a zero at its end, while somebody makes it
// longer: Wine writes one byte behind the new end, and then cuts that off.
func excess() int {
	if runtime.GOOS == "windows" {
		return 1
	}
	return 0
}

// checkBody says which byte of got, read at off, is foreign to body. A zero is
// none where the file may have been cut and grown again.
func checkBody(body, got []byte, off int64, cut bool) error {
	if cut && off+int64(len(got)) == int64(len(body)+excess()) {
		got = bytes.TrimSuffix(got, make([]byte, excess()))
	}
	if off < 0 || off+int64(len(got)) > int64(len(body)) {
		return fmt.Errorf("%d bytes at %d, behind the longest end %d", len(got), off, len(body))
	}
	want := body[off:][:len(got)]
	if bytes.Equal(want, got) {
		return nil
	}
	for i, b := range got {
		if b != want[i] && !(cut && b == 0) {
			return fmt.Errorf("byte %d is %#x, want %#x", off+int64(i), b, want[i])
		}
	}
	return nil
}

// race is goroutines that run until the time is up or one of them finds a fault.
type race struct {
	t       testing.TB
	waiting sync.WaitGroup
	over    atomic.Bool
	failed  atomic.Bool
	timer   *time.Timer
	turns   atomic.Int64
}

func newRace(t testing.TB, d time.Duration) *race {
	r := &race{t: t}
	r.timer = time.AfterFunc(d, func() { r.over.Store(true) })
	return r
}

// run has turn called again and again with a random number of its own.
func (r *race) run(what string, turn func(random *rand.Rand) error) {
	seed := rand.Uint64()
	r.waiting.Go(func() {
		random := rand.New(rand.NewPCG(seed, 1))
		for turns := int64(0); !r.over.Load(); turns++ {
			if err := turn(random); err != nil {
				r.failed.Store(true)
				r.over.Store(true)
				r.t.Errorf("%s: %v", what, err)
			}
			r.turns.Add(1)
		}
	})
}

func (r *race) wait() {
	r.t.Helper()
	r.waiting.Wait()
	r.timer.Stop()
	if r.turns.Load() == 0 && !r.failed.Load() {
		r.t.Error("nothing happened")
	}
}

// isPathError reports whether err is what os gives: op and path, and inside it target.
func isPathError(err error, op string, target error) bool {
	var path *os.PathError
	return errors.As(err, &path) && err == error(path) && path.Op == op && errors.Is(path.Err, target)
}

// writeBody writes a new file with these bytes.
func writeBody(t testing.TB, name string, body []byte) {
	t.Helper()
	if err := os.WriteFile(name, body, 0o666); err != nil {
		t.Fatal(err)
	}
}

func openRaced(t testing.TB, name string, options ...mmapio.Option) *mmapio.File {
	t.Helper()
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// span returns a random range of a file of n bytes.
func span(random *rand.Rand, n int) (off int64, length int) {
	length = 1 + random.IntN(200)
	if random.IntN(8) == 0 {
		length = 1 + random.IntN(20_000)
	}
	length = min(length, n)
	return int64(random.IntN(n - length + 1)), length
}

// hashWriter is a hash that is handed what is in the file, and looks at it.
type hashWriter struct {
	hash.Hash
	check func(b []byte) error
	err   error
}

func (w *hashWriter) Write(b []byte) (int, error) {
	if err := w.check(b); err != nil && w.err == nil {
		w.err = err
	}
	return w.Hash.Write(b)
}

// checkStream copies f from its beginning by way of WriteTo and checks what arrives.
func checkStream(f *mmapio.File, body []byte, cut bool) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var at int64
	w := &hashWriter{Hash: sha256.New()}
	w.check = func(b []byte) error {
		b = bytes.Clone(b) // who looks twice may see two states
		off := at
		at += int64(len(b))
		return checkBody(body, b, off, cut)
	}
	_, err := f.WriteTo(w)
	if w.err != nil {
		return w.err
	}
	var fault *mmapio.FaultError
	if cut && errors.As(err, &fault) && isPathError(err, "read", fault) {
		return nil
	}
	return err
}

// cutter cuts the file to size and makes it whole again.
type cutter struct {
	name   string
	others bool // who know nothing of the File
	new    func(t *testing.T, name string, f *mmapio.File, body []byte) func(size int64) error
}

// byHandle cuts through any handle.
func byHandle(f file, body []byte) func(size int64) error {
	return func(size int64) error {
		if err := f.Truncate(size); err != nil {
			return err
		}
		if err := f.Truncate(int64(len(body))); err != nil {
			return err
		}
		_, err := f.WriteAt(body[size:], size)
		return err
	}
}

var cutters = []cutter{
	{"an os.File", true, func(t *testing.T, name string, f *mmapio.File, body []byte) func(size int64) error {
		other, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { other.Close() })
		return byHandle(other, body)
	}},
	{"another File", false, func(t *testing.T, name string, f *mmapio.File, body []byte) func(size int64) error {
		return byHandle(openRaced(t, name, mmapio.WithMapping(mmapio.MapAlways)), body)
	}},
	{"the same File", false, func(t *testing.T, name string, f *mmapio.File, body []byte) func(size int64) error {
		return byHandle(f, body)
	}},
	{"another process", true, func(t *testing.T, name string, f *mmapio.File, body []byte) func(size int64) error {
		helper := newAssistant(t)
		return func(size int64) error {
			for _, to := range []int64{size, int64(len(body))} {
				a, err := helper.do(request{Do: "truncate", Path: name, Offset: to})
				if err != nil || a.Err != "" {
					return fmt.Errorf("%v %s", err, a.Err)
				}
			}
			return nil // the writers fill it again
		}
	}},
	{"O_TRUNC", false, func(t *testing.T, name string, f *mmapio.File, body []byte) func(size int64) error {
		return func(size int64) error {
			other, err := mmapio.Create(name)
			if err != nil {
				return err
			}
			_, err = other.WriteAt(body, 0)
			return errors.Join(err, other.Close())
		}
	}},
}

func TestRaceWithCuts(t *testing.T) {
	for id, c := range cutters {
		for _, size := range []int{100_000, 3<<20 + 5} {
			t.Run(fmt.Sprintf("%s/%d", c.name, size), func(t *testing.T) {
				if c.others {
					skipUncuttable(t)
				}
				raceWithCuts(t, id, size, c)
			})
		}
	}
}

func raceWithCuts(t *testing.T, id, size int, c cutter) {
	name := filepath.Join(memoryDir(t), "file")
	body := bodyOf(id, size)
	writeBody(t, name, body)
	f := openRaced(t, name, mmapio.WithMapping(mmapio.MapAlways))
	stream := openRaced(t, name, mmapio.WithMapping(mmapio.MapAlways))
	cut := c.new(t, name, f, body)
	for range 2 { // maps and learns
		if _, err := f.ReadAt(make([]byte, size), 0); err != nil {
			t.Fatal(err)
		}
	}
	if !mmapio.IsKnown(f, 0, size) && mmapio.SupportsMapping {
		t.Fatal("not served from memory")
	}

	r := newRace(t, raceTime(t)/2)
	for range 2 {
		r.run("ReadAt", func(random *rand.Rand) error {
			off, n := span(random, size)
			b := make([]byte, n)
			n, err := f.ReadAt(b, off)
			if err != nil && err != io.EOF || n < len(b) != (err == io.EOF) {
				return fmt.Errorf("%d of %d bytes, %w", n, len(b), err)
			}
			return checkBody(body, b[:n], off, true)
		})
		r.run("WriteAt", func(random *rand.Rand) error {
			off, n := span(random, size)
			if n, err := f.WriteAt(body[off:][:n], off); err != nil {
				return fmt.Errorf("%d bytes, %w", n, err)
			}
			return nil
		})
	}
	// One goroutine alone uses the position, so that it knows what it gets.
	r.run("Read and Write", func(random *rand.Rand) error {
		off, n := span(random, size)
		if at, err := f.Seek(off, io.SeekStart); at != off || err != nil {
			return fmt.Errorf("seek to %d: %d, %w", off, at, err)
		}
		b := make([]byte, n)
		if random.IntN(3) == 0 {
			if n, err := f.Write(body[off:][:n]); n != len(b) || err != nil {
				return fmt.Errorf("write: %d of %d bytes, %w", n, len(b), err)
			}
		} else {
			var err error
			if n, err = f.Read(b); err != nil && (err != io.EOF || n != 0) {
				return fmt.Errorf("read: %d bytes, %w", n, err)
			}
			if err := checkBody(body, b[:n], off, true); err != nil {
				return err
			}
		}
		if at, err := f.Seek(0, io.SeekCurrent); at != off+int64(n) || err != nil {
			return fmt.Errorf("at %d, %w, after %d bytes at %d", at, err, n, off)
		}
		return nil
	})
	r.run("WriteTo", func(random *rand.Rand) error { return checkStream(stream, body, true) })
	r.run("Stat", func(random *rand.Rand) error {
		info, err := f.Stat()
		if err == nil && info.Size() > int64(size+excess()) {
			err = fmt.Errorf("%d bytes long, at most %d", info.Size(), size)
		}
		return err
	})
	r.run("cut", func(random *rand.Rand) error {
		to := random.Int64N(int64(size))
		if random.IntN(4) == 0 {
			to = 0
		}
		return cut(to)
	})
	r.wait()

	// In the end nothing that is written gets lost.
	truncate := func() error { return os.Truncate(name, int64(size)) }
	if mmapio.MustUnmapToResize {
		truncate = func() error { return f.Truncate(int64(size)) }
	}
	if err := truncate(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stat(); err != nil { // learns the size
		t.Fatal(err)
	}
	for off := 0; off < size; off += 5000 {
		end := min(off+5000, size)
		if _, err := f.WriteAt(body[off:end], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(name)
	if err == nil && len(content) != size {
		err = fmt.Errorf("%d bytes long, want %d", len(content), size)
	}
	if err := errors.Join(err, checkBody(body, content, 0, false)); err != nil {
		t.Error("in the end: ", err)
	}
}

// Readers and writers go on while the file is closed under them, and the next one
// is opened: it may get the same addresses. They see their own bytes, or os.ErrClosed.
func TestRaceWithClose(t *testing.T) {
	const files = 6
	sizes := []int{9_000, 100_000, 2<<20 + 3}
	dir := memoryDir(t)
	names, bodies := make([]string, files), make([][]byte, files)
	for i := range files {
		names[i] = filepath.Join(dir, fmt.Sprint("file", i))
		bodies[i] = bodyOf(100+i, sizes[i%len(sizes)])
		writeBody(t, names[i], bodies[i])
	}
	type open struct {
		*mmapio.File
		body []byte
		name string
	}
	var current [files]atomic.Pointer[open]
	replace := func(random *rand.Rand, slot int) error {
		i := random.IntN(files)
		options := mmapio.WithMapping(mmapio.MapAlways)
		f, err := mmapio.OpenFile(names[i], os.O_RDWR, 0, options)
		if err != nil {
			return err
		}
		b := make([]byte, len(bodies[i]))
		for range 2 { // maps and learns
			if _, err := f.ReadAt(b, 0); err != nil {
				return err
			}
		}
		if old := current[slot].Swap(&open{f, bodies[i], names[i]}); old != nil {
			return old.Close()
		}
		return nil
	}
	random := rand.New(rand.NewPCG(1, 1))
	for slot := range files {
		if err := replace(random, slot); err != nil {
			t.Fatal(err)
		}
	}
	var closed atomic.Int64
	outcome := func(op string, n, length int, err error) error {
		if n == length && err == nil {
			return nil
		}
		if n >= 0 && n <= length && isPathError(err, op, os.ErrClosed) {
			closed.Add(1)
			return nil
		}
		return fmt.Errorf("%s: %d of %d bytes, %w", op, n, length, err)
	}

	d := 2 * raceTime(t)
	if mmapio.PinsCopies {
		d = max(d, 2*time.Second) // Close waits for copies there, so that calls seldom meet it
	}
	r := newRace(t, d)
	for range 2 {
		r.run("close", func(random *rand.Rand) error { return replace(random, random.IntN(files)) })
		r.run("ReadAt", func(random *rand.Rand) error {
			f := current[random.IntN(files)].Load()
			for range 100 {
				off, n := span(random, len(f.body))
				b := make([]byte, n)
				n, err := f.ReadAt(b, off)
				if err := errors.Join(outcome("read", n, len(b), err), checkBody(f.body, b[:n], off, false)); err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
			}
			return nil
		})
		r.run("WriteAt", func(random *rand.Rand) error {
			f := current[random.IntN(files)].Load()
			for range 100 {
				off, n := span(random, len(f.body))
				b := f.body[off:][:n]
				n, err := f.WriteAt(b, off)
				if err := outcome("write", n, len(b), err); err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
			}
			return nil
		})
		r.run("Read", func(random *rand.Rand) error {
			f := current[random.IntN(files)].Load()
			b := make([]byte, 100)
			for range 20 {
				n, err := f.Read(b)
				if err == io.EOF && n == 0 {
					if _, err = f.Seek(0, io.SeekStart); err == nil {
						continue
					}
					if !isPathError(err, "seek", os.ErrClosed) {
						return err
					}
					closed.Add(1)
					return nil
				}
				if err != nil {
					if err := outcome("read", n, len(b), err); err != nil {
						return err
					}
					return nil
				}
				// Others read on meanwhile, so where this came from is to be found.
				if len(f.body) < 50_000 && !bytes.Contains(f.body, b[:n]) {
					return fmt.Errorf("%s: %x is not in the file", f.name, b[:n])
				}
			}
			return nil
		})
	}
	r.run("WriteTo", func(random *rand.Rand) error {
		f := current[random.IntN(files)].Load()
		own, err := mmapio.Open(f.name, mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			return err
		}
		closer := make(chan error)
		go func() {
			runtime.Gosched()
			closer <- own.Close()
		}()
		err = checkStream(own, f.body, false)
		if isPathError(err, "read", os.ErrClosed) || isPathError(err, "seek", os.ErrClosed) {
			err = nil
		}
		return errors.Join(err, <-closer)
	})
	r.run("collect", func(random *rand.Rand) error { // gives addresses back, so that they are used again
		runtime.GC()
		return nil
	})
	r.wait()
	for slot := range files {
		if err := current[slot].Load().Close(); err != nil {
			t.Error(err)
		}
	}
	for i, name := range names {
		content, err := os.ReadFile(name)
		if err == nil && len(content) != len(bodies[i]) {
			err = fmt.Errorf("%d bytes long, want %d", len(content), len(bodies[i]))
		}
		if err := errors.Join(err, checkBody(bodies[i], content, 0, false)); err != nil {
			t.Errorf("in the end, %s: %v", name, err)
		}
	}
	if closed.Load() == 0 {
		t.Error("no call met a closed file")
	}
}

// piece returns the record of that number: 64 bytes that nobody else has.
const pieceSize = 64

func piece(number int) []byte {
	b := bodyOf(number, pieceSize)
	binary.LittleEndian.PutUint32(b, uint32(number))
	return b
}

func pieces(n int) []byte {
	var all []byte
	for i := range n {
		all = append(all, piece(i)...)
	}
	return all
}

// numberOf returns the number of a record, which must be whole.
func numberOf(b []byte) (int, error) {
	number := int(binary.LittleEndian.Uint32(b))
	if number < 0 || number > 1<<24 || !bytes.Equal(b, piece(number)) {
		return 0, fmt.Errorf("%x is no record", b)
	}
	return number, nil
}

// disturb does to f what moves its reads and writes between the fast path and the
// true path.
func disturb(f *mmapio.File, random *rand.Rand) error {
	switch random.IntN(6) {
	case 0:
		mmapio.Unmap(f)
	case 1:
		mmapio.Forget(f)
	case 2:
		_, err := f.Stat()
		return err
	case 3:
		_, err := f.Seek(0, io.SeekCurrent)
		return err
	default:
		b := make([]byte, 30_000)
		if _, err := f.ReadAt(b, int64(random.IntN(200_000))); err != io.EOF {
			return err
		}
	}
	return nil
}

// sequentialVariants are the ways a File can be opened that matter to the position.
var sequentialVariants = []struct {
	name    string
	options []mmapio.Option
	open    func(t *testing.T, name string, options ...mmapio.Option) *mmapio.File
	during  func(f *mmapio.File) error // once, while it is used
}{
	{name: "always", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}},
	{name: "auto"},
	{name: "preallocating", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(10_000)}},
	{name: "adopted", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, open: func(t *testing.T, name string, options ...mmapio.Option) *mmapio.File {
		inner, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f, err := mmapio.FromFile(inner, options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}},
	{name: "handed out", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, during: func(f *mmapio.File) error {
		f.Fd()
		return nil
	}},
}

// Reads by several goroutines get every byte exactly once.
func TestConcurrentReads(t *testing.T) {
	const count = 20_000
	for _, variant := range sequentialVariants {
		t.Run(variant.name, func(t *testing.T) {
			name := filepath.Join(memoryDir(t), "file")
			writeBody(t, name, pieces(count))
			open := variant.open
			if open == nil {
				open = func(t *testing.T, name string, options ...mmapio.Option) *mmapio.File {
					return openRaced(t, name, options...)
				}
			}
			f := open(t, name, variant.options...)
			seen := make([]atomic.Int32, count)
			var taken atomic.Int64
			var readers, others sync.WaitGroup
			var over atomic.Bool
			for range 4 {
				readers.Go(func() {
					b := make([]byte, pieceSize)
					for {
						n, err := f.Read(b)
						if err == io.EOF && n == 0 {
							return
						}
						number, wrong := 0, err
						if wrong == nil {
							number, wrong = numberOf(b[:n])
						}
						if n != pieceSize || wrong != nil {
							t.Errorf("%d bytes, %v", n, wrong)
							return
						}
						seen[number].Add(1)
						if taken.Add(1) == count/2 && variant.during != nil {
							if err := variant.during(f); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			others.Go(func() {
				for random := rand.New(rand.NewPCG(1, 2)); !over.Load(); {
					if err := disturb(f, random); err != nil {
						t.Error(err)
						return
					}
				}
			})
			readers.Wait()
			over.Store(true)
			others.Wait()
			for number := range seen {
				if n := seen[number].Load(); n != 1 {
					t.Fatalf("record %d was read %d times", number, n)
				}
			}
		})
	}
}

// Writes by several goroutines do not overlap: in the end the file holds every
// record once.
func TestConcurrentWrites(t *testing.T) {
	const count = 8_000
	for _, variant := range sequentialVariants {
		for _, size := range []int{0, count / 2 * pieceSize, count * pieceSize} {
			t.Run(fmt.Sprintf("%s/%d", variant.name, size), func(t *testing.T) {
				name := filepath.Join(memoryDir(t), "file")
				writeBody(t, name, make([]byte, size))
				open := variant.open
				if open == nil {
					open = func(t *testing.T, name string, options ...mmapio.Option) *mmapio.File {
						return openRaced(t, name, options...)
					}
				}
				f := open(t, name, variant.options...)
				var next atomic.Int64
				var writers, others sync.WaitGroup
				var over atomic.Bool
				for range 4 {
					writers.Go(func() {
						for {
							number := int(next.Add(1)) - 1
							if number >= count {
								return
							}
							if number == count/2 && variant.during != nil {
								if err := variant.during(f); err != nil {
									t.Error(err)
								}
							}
							if n, err := f.Write(piece(number)); n != pieceSize || err != nil {
								t.Errorf("%d bytes, %v", n, err)
								return
							}
						}
					})
				}
				others.Go(func() {
					for random := rand.New(rand.NewPCG(1, 3)); !over.Load(); {
						if err := disturb(f, random); err != nil {
							t.Error(err)
							return
						}
					}
				})
				writers.Wait()
				over.Store(true)
				others.Wait()
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				content, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if len(content) != count*pieceSize {
					t.Fatalf("%d bytes long, want %d", len(content), count*pieceSize)
				}
				seen := make([]bool, count)
				for off := 0; off < len(content); off += pieceSize {
					number, err := numberOf(content[off : off+pieceSize])
					if err != nil {
						t.Fatalf("at %d: %v", off, err)
					}
					if seen[number] {
						t.Fatalf("record %d is there twice", number)
					}
					seen[number] = true
				}
			})
		}
	}
}

// With all that moves the position at work, each Read and Write begins where one
// of the others ended.
func TestRaceOfPositions(t *testing.T) {
	const count = 4_000
	name := filepath.Join(memoryDir(t), "file")
	all := pieces(count)
	writeBody(t, name, all)
	for _, mapping := range []mmapio.Mapping{mmapio.MapAlways, mmapio.MapAuto} {
		f := openRaced(t, name, mmapio.WithMapping(mapping))
		aligned := func(at int64, err error) error {
			if err != nil || at < 0 || at%pieceSize != 0 {
				return fmt.Errorf("at %d, %w", at, err)
			}
			return nil
		}
		r := newRace(t, raceTime(t))
		r.run("Seek from the start", func(random *rand.Rand) error {
			off := int64(random.IntN(count) * pieceSize)
			at, err := f.Seek(off, io.SeekStart)
			if at != off {
				return fmt.Errorf("seek to %d: %d, %w", off, at, err)
			}
			return err
		})
		r.run("Seek from here", func(random *rand.Rand) error {
			return aligned(f.Seek(pieceSize, io.SeekCurrent))
		})
		r.run("Seek from the end", func(random *rand.Rand) error {
			return aligned(f.Seek(-int64(random.IntN(count)*pieceSize), io.SeekEnd))
		})
		for range 2 {
			r.run("Read", func(random *rand.Rand) error {
				b := make([]byte, pieceSize*(1+random.IntN(3)))
				n, err := f.Read(b)
				if err == io.EOF && n == 0 {
					return nil
				}
				for off := 0; off < n && err == nil; off += pieceSize {
					_, err = numberOf(b[off:min(off+pieceSize, n)])
				}
				return err
			})
		}
		r.run("others", func(random *rand.Rand) error { return disturb(f, random) })
		r.wait()
	}
}

// Detach takes the file away from readers without a byte lost or doubled: what they
// have not got is what the detached file goes on with.
func TestRaceWithDetach(t *testing.T) {
	const count = 3_000
	name := filepath.Join(memoryDir(t), "file")
	writeBody(t, name, pieces(count))
	rounds := 0
	for begin := time.Now(); rounds == 0 || time.Since(begin) < raceTime(t); rounds++ {
		f, err := mmapio.Open(name, mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			t.Fatal(err)
		}
		seen := make([]atomic.Int32, count)
		random := rand.New(rand.NewPCG(uint64(rounds), 5))
		after := int64(random.IntN(count))
		var taken atomic.Int64
		reached := make(chan struct{})
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				b := make([]byte, pieceSize)
				for {
					n, err := f.Read(b)
					if n == 0 && (err == io.EOF || isPathError(err, "read", os.ErrClosed)) {
						return
					}
					number, wrong := 0, err
					if wrong == nil {
						number, wrong = numberOf(b[:n])
					}
					if wrong != nil {
						t.Errorf("%d bytes, %v", n, wrong)
						return
					}
					seen[number].Add(1)
					if taken.Add(1) == after+1 {
						close(reached)
					}
				}
			})
		}
		<-reached
		inner, err := f.Detach()
		if err != nil {
			t.Fatal(err)
		}
		readers.Wait()
		rest, err := io.ReadAll(inner)
		if err != nil || len(rest)%pieceSize != 0 {
			t.Fatalf("%d bytes left, %v", len(rest), err)
		}
		for off := 0; off < len(rest); off += pieceSize {
			number, err := numberOf(rest[off : off+pieceSize])
			if err != nil {
				t.Fatal(err)
			}
			seen[number].Add(1)
		}
		for number := range seen {
			if n := seen[number].Load(); n != 1 {
				t.Fatalf("round %d: record %d was read %d times, the rest has %d records", rounds, number, n, len(rest)/pieceSize)
			}
		}
		if err := inner.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); !isPathError(err, "close", os.ErrClosed) {
			t.Errorf("Close after Detach: %v", err)
		}
	}
}

// Appending with preallocation, reading what was appended, and all that ends a
// preallocated tail, at once.
func TestRaceOfPreallocation(t *testing.T) {
	name := filepath.Join(memoryDir(t), "file")
	f, err := mmapio.Create(name, mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(20_000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	const most = 100_000
	var written atomic.Int64
	r := newRace(t, raceTime(t))
	r.run("Write", func(random *rand.Rand) error {
		number := int(written.Load())
		if number >= most {
			runtime.Gosched()
			return nil
		}
		n, err := f.Write(piece(number))
		if n != pieceSize || err != nil {
			return fmt.Errorf("%d bytes, %w", n, err)
		}
		written.Store(int64(number) + 1)
		return nil
	})
	for range 2 {
		r.run("ReadAt", func(random *rand.Rand) error {
			least := written.Load()
			if least == 0 {
				return nil
			}
			number := max(0, least-1-int64(random.IntN(20)))
			b := make([]byte, pieceSize)
			if n, err := f.ReadAt(b, number*pieceSize); n != pieceSize || err != nil {
				return fmt.Errorf("record %d of %d: %d bytes, %w", number, least, n, err)
			}
			got, err := numberOf(b)
			if err != nil || int64(got) != number {
				return fmt.Errorf("record %d: %d, %w", number, got, err)
			}
			return nil
		})
	}
	r.run("read to the end", func(random *rand.Rand) error {
		least := written.Load() * pieceSize
		b := make([]byte, 10*pieceSize)
		off := max(0, least-2*pieceSize)
		n, err := f.ReadAt(b, off)
		most := (written.Load() + 1) * pieceSize
		if err != nil && err != io.EOF || off+int64(n) < least || off+int64(n) > most || n%pieceSize != 0 {
			return fmt.Errorf("%d bytes at %d, of %d to %d: %w", n, off, least, most, err)
		}
		for at := 0; at < n; at += pieceSize {
			if _, err := numberOf(b[at : at+pieceSize]); err != nil {
				return err
			}
		}
		return nil
	})
	r.run("Size", func(random *rand.Rand) error {
		least := written.Load() * pieceSize
		size, err := f.Size()
		if most := (written.Load() + 1) * pieceSize; err != nil || size < least || size > most {
			return fmt.Errorf("%d bytes, of %d to %d: %w", size, least, most, err)
		}
		return nil
	})
	r.run("Stat", func(random *rand.Rand) error {
		time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond) // so that there is a tail most of the time
		least := written.Load() * pieceSize
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if most := (written.Load() + 1) * pieceSize; info.Size() < least || info.Size() > most {
			return fmt.Errorf("%d bytes, of %d to %d", info.Size(), least, most)
		}
		return nil
	})
	r.wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content, pieces(int(written.Load()))) {
		t.Errorf("%d bytes in the end, want the %d of %d records", len(content), written.Load()*pieceSize, written.Load())
	}
}

// Views, chunks and words are used while others grow, cut and close the file. Nothing
// comes down, and no byte is foreign: a View shows what the file has there, or nothing.
func TestRaceOfViews(t *testing.T) {
	needMappings(t)
	const size, kept = 3 << 20, 1 << 20 // what lies before kept is never cut
	name := newFilled(t, 1, 1)
	body := bodyOf(5, size)
	writeBody(t, name, body)
	d := raceTime(t)
	r := newRace(t, d)
	var current atomic.Pointer[mmapio.File]
	current.Store(openRaced(t, name))
	never := openRaced(t, name, mmapio.WithMapping(mmapio.MapNever))
	// refused reports whether the error is one of a file that was closed or cut.
	refused := func(err error) bool {
		return errors.Is(err, fs.ErrClosed) || errors.Is(err, mmapio.ErrOutOfRange) || errors.Is(err, mmapio.ErrFault)
	}
	look := func(f *mmapio.File, limit int64) func(random *rand.Rand) error {
		return func(random *rand.Rand) error {
			g := f
			if g == nil {
				g = current.Load()
			}
			off := random.Int64N(limit)
			n := min(random.Int64N(20_000)+1, limit-off)
			v, err := g.View(off, n)
			if err != nil {
				if refused(err) {
					return nil
				}
				return err
			}
			defer v.Release()
			got := make([]byte, n)
			if _, err := v.ReadAt(got, 0); err == nil {
				err = checkBody(body, got, off, limit > kept)
				if err != nil {
					return err
				}
			} else if limit <= kept || !refused(err) {
				return err
			}
			err = v.Do(func(b []byte) error { return checkBody(body, b, off, limit > kept) })
			if err != nil && (limit <= kept || !refused(err)) {
				return err
			}
			return nil
		}
	}
	r.run("look at what stays", look(nil, kept))
	r.run("look at all", look(nil, size))
	r.run("look alone", look(never, size))
	r.run("chunks", func(random *rand.Rand) error {
		f := current.Load()
		chunks := f.Chunks(1 + random.IntN(100_000))
		err := mmapio.Guard(func() error {
			for off, chunk := range chunks.All() {
				if err := checkBody(body, chunk, off, off+int64(len(chunk)) > kept); err != nil {
					return err
				}
			}
			return nil
		})
		if err = errors.Join(err, chunks.Err()); err != nil && !refused(err) {
			return err
		}
		return nil
	})
	r.run("cut and restore", func(random *rand.Rand) error {
		f := current.Load()
		to := kept + random.Int64N(size-kept)
		if err := f.Truncate(to); err != nil {
			if errors.Is(err, fs.ErrClosed) || mmapio.MustUnmapToResize {
				return nil
			}
			return err
		}
		if _, err := f.WriteAt(body[to:], to); err != nil && !errors.Is(err, fs.ErrClosed) {
			return err
		}
		return nil
	})
	r.run("close and open", func(random *rand.Rand) error {
		f, err := mmapio.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		old := current.Swap(f)
		if random.IntN(2) == 0 {
			mmapio.Unmap(f)
		}
		return old.Close()
	})
	r.wait()
	if err := current.Load().Close(); err != nil {
		t.Error(err)
	}
}
