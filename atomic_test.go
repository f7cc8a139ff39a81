package mmapio_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/mmapio/mmapio"
)

// wordKinds has each kind of word, with its size and its two methods.
var wordKinds = map[string]struct {
	size int64
	one  func(v *mmapio.View, off int64) (unsafe.Pointer, error)
	many func(v *mmapio.View, off int64, n int) (unsafe.Pointer, int, error)
}{
	"Uint32": {4, oneWord((*mmapio.View).Uint32), manyWords((*mmapio.View).Uint32s)},
	"Uint64": {8, oneWord((*mmapio.View).Uint64), manyWords((*mmapio.View).Uint64s)},
	"Int32":  {4, oneWord((*mmapio.View).Int32), manyWords((*mmapio.View).Int32s)},
	"Int64":  {8, oneWord((*mmapio.View).Int64), manyWords((*mmapio.View).Int64s)},
}

func oneWord[W any](method func(*mmapio.View, int64) (*W, error)) func(*mmapio.View, int64) (unsafe.Pointer, error) {
	return func(v *mmapio.View, off int64) (unsafe.Pointer, error) {
		word, err := method(v, off)
		return unsafe.Pointer(word), err
	}
}

func manyWords[W any](method func(*mmapio.View, int64, int) ([]W, error)) func(*mmapio.View, int64, int) (unsafe.Pointer, int, error) {
	return func(v *mmapio.View, off int64, n int) (unsafe.Pointer, int, error) {
		words, err := method(v, off, n)
		if cap(words) != len(words) {
			return nil, 0, errors.New("there is room behind")
		}
		return unsafe.Pointer(unsafe.SliceData(words)), len(words), err
	}
}

// needStores skips where nothing is stored through mappings.
func needStores(t testing.TB) {
	t.Helper()
	needMappings(t)
	if !mmapio.SupportsStamp {
		t.Skip("nothing is stored through mappings on this system")
	}
}

// A word is the memory of the View where it is aligned in the file and inside the View;
// anywhere else it is the right error.
func TestWordsWhere(t *testing.T) {
	needStores(t)
	f := openFor(t, newFilled(t, 10_000, 1), os.O_RDWR)
	const most = math.MaxInt64
	for _, start := range []int64{0, 4, 8, 4096, 4100, 13} {
		for _, length := range []int64{0, 1, 3, 4, 7, 8, 40} {
			v, err := f.View(start, length)
			if err != nil {
				t.Fatal(err)
			}
			for name, kind := range wordKinds {
				for _, off := range []int64{math.MinInt64, -8, -4, -1, 0, 1, 3, 4, 7, 8, 32, 36, 39, 40, 48, most - 7, most} {
					for _, n := range []int{-1, math.MinInt, 0, 1, 2, 5, 11, math.MaxInt, math.MaxInt / 8, math.MaxInt/8 + 1, math.MaxInt/4 + 1} {
						what := fmt.Sprintf("%d %s at %d of a View of %d at %d", n, name, off, length, start)
						inside := off >= 0 && off <= length && n >= 0 && int64(n) <= (length-off)/kind.size
						aligned := (start+off)%kind.size == 0
						check := func(at unsafe.Pointer, got int, err error) {
							t.Helper()
							switch {
							case err != nil && !errors.As(err, new(*fs.PathError)):
								t.Errorf("%s: a bare %T", what, err)
							case !inside:
								if wrong, ok := errors.AsType[*mmapio.RangeError](err); !ok || !errors.Is(err, mmapio.ErrOutOfRange) || wrong.Offset != off || wrong.Size != length {
									t.Errorf("%s: %v", what, err)
								}
							case !aligned:
								if wrong, ok := errors.AsType[*mmapio.AlignError](err); !ok || !errors.Is(err, mmapio.ErrMisaligned) || wrong.Offset != start+off || wrong.Align != kind.size {
									t.Errorf("%s: %v", what, err)
								}
							case err != nil || got != n:
								t.Errorf("%s: %d words, %v", what, got, err)
							case n > 0 && at != unsafe.Pointer(&v.Bytes()[off]):
								t.Errorf("%s: elsewhere", what)
							case n > 0 && uintptr(at)%uintptr(kind.size) != 0:
								t.Errorf("%s: at address %v", what, at)
							}
						}
						at, got, err := kind.many(v, off, n)
						check(at, got, err)
						if n == 1 {
							at, err := kind.one(v, off)
							check(at, 1, err)
						}
					}
				}
			}
			v.Release()
		}
	}
}

// A word is the bytes of the file, in the byte order of the machine.
func TestWordsAreTheFile(t *testing.T) {
	needStores(t)
	for way, options := range map[string][]mmapio.Option{"mapped": nil, "alone": {mmapio.WithMapping(mmapio.MapNever)}} {
		f := openFor(t, newFilled(t, 10_000, 1), os.O_RDWR, options...)
		v := viewOf(t, f, 4100, 1000) // 4 mod 8
		signed, err := v.Int64(4)
		if err != nil {
			t.Fatal(err)
		}
		small, err := v.Uint32s(100, 3)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 8)
		if _, err := f.ReadAt(b, 4104); err != nil || uint64(signed.Load()) != binary.NativeEndian.Uint64(b) {
			t.Errorf("%s: loaded %x, %v", way, signed.Load(), err)
		}
		signed.Store(-5)
		if old := small[2].Swap(7); old != binary.NativeEndian.Uint32(patterned(10_000, 1)[4208:]) {
			t.Errorf("%s: swapped %x", way, old)
		}
		small[2].Add(3)
		if !signed.CompareAndSwap(-5, -6) || signed.CompareAndSwap(-5, 1) {
			t.Errorf("%s: compare and swap", way)
		}
		content, err := os.ReadFile(f.Name())
		if err != nil || int64(binary.NativeEndian.Uint64(content[4104:])) != -6 || binary.NativeEndian.Uint32(content[4208:]) != 10 {
			t.Errorf("%s: the file has % x and % x, %v", way, content[4104:4112], content[4208:4212], err)
		}
	}
}

// Two processes and several goroutines count in one file, and no increment gets lost.
func TestTwoProcessesCount(t *testing.T) {
	needStores(t)
	const processes, goroutines, count = 2, 2, 100_000
	name := newFilled(t, 0, 1)
	if err := os.WriteFile(name, make([]byte, 8192), 0o666); err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var commands []*exec.Cmd
	var gates []io.Closer
	var outputs []*bufio.Reader
	for range processes {
		command := exec.Command(executable, "-test.run=^TestChildProcess$")
		command.Env = append(os.Environ(), aloneVariable+"=count\n"+name+"\n"+strconv.Itoa(goroutines)+"\n"+strconv.Itoa(count))
		gate, err := command.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Skipf("no second process here: %v", err)
		}
		commands, gates, outputs = append(commands, command), append(gates, gate), append(outputs, bufio.NewReader(out))
	}
	for i, output := range outputs {
		if line, err := output.ReadString('\n'); err != nil || line != "ready\n" {
			t.Errorf("process %d: %q, %v", i, line, err)
		}
	}
	for _, gate := range gates {
		gate.Close() // now
	}
	for i, command := range commands {
		rest, _ := io.ReadAll(outputs[i])
		if err := command.Wait(); err != nil {
			t.Errorf("process %d: %v: %s", i, err, rest)
		}
	}
	f := openFor(t, name, os.O_RDWR)
	v := viewOf(t, f, 4096, 100)
	for kind, load := range map[string]func() (int64, error){
		"Uint32": func() (int64, error) { w, err := v.Uint32(0); return int64(w.Load()), err },
		"Int32":  func() (int64, error) { w, err := v.Int32(4); return -int64(w.Load()), err },
		"Uint64": func() (int64, error) { w, err := v.Uint64(8); return int64(w.Load()), err },
		"Int64":  func() (int64, error) { w, err := v.Int64(16); return -w.Load(), err },
	} {
		if n, err := load(); n != processes*goroutines*count || err != nil {
			t.Errorf("%s: counted %d of %d, %v", kind, n, processes*goroutines*count, err)
		}
	}
}

func init() {
	aloneRuns["count"] = func(arguments []string) error {
		goroutines, _ := strconv.Atoi(arguments[1])
		count, _ := strconv.Atoi(arguments[2])
		f, err := mmapio.OpenFile(arguments[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		v, err := f.View(4096, 100)
		if err != nil {
			return err
		}
		defer v.Release()
		var (
			u32 *atomic.Uint32
			i32 *atomic.Int32
			u64 []atomic.Uint64
			i64 []atomic.Int64
		)
		var errs [4]error
		u32, errs[0] = v.Uint32(0)
		i32, errs[1] = v.Int32(4)
		u64, errs[2] = v.Uint64s(8, 1)
		i64, errs[3] = v.Int64s(16, 1)
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		fmt.Println("ready")
		if _, err := io.ReadAll(os.Stdin); err != nil {
			return err
		}
		var all sync.WaitGroup
		for range goroutines {
			all.Go(func() {
				for range count {
					u32.Add(1)
					i32.Add(-1)
					u64[0].Add(1)
					for old := i64[0].Load(); !i64[0].CompareAndSwap(old, old-1); old = i64[0].Load() {
					}
				}
			})
		}
		all.Wait()
		return nil
	}
}

// A word below which the file was cut is a fault like any other.
func TestWordOfCutFile(t *testing.T) {
	needStores(t)
	if mmapio.MustUnmapToResize {
		t.Skip("files that have Views cannot be cut here")
	}
	if raceEnabled {
		t.Skip("the race detector does atomic operations in C, where a fault cannot be recovered from")
	}
	f := openFor(t, newFilled(t, 100_000, 1), os.O_RDWR)
	v := viewOf(t, f, 50_000, 1000)
	word, err := v.Uint64(8 * 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(100); err != nil {
		t.Fatal(err)
	}
	fault := faultOf(t, mmapio.Guard(func() error { word.Add(1); return nil }), f.Name())
	if fault.Offset/int64(os.Getpagesize()) != 50_080/int64(os.Getpagesize()) {
		t.Errorf("a fault at %d", fault.Offset)
	}
}
