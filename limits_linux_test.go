package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

const maxMapCount = "/proc/sys/vm/max_map_count"

// manyFiles opens count files of a few pages, reads each so often that it would be
// mapped, and checks every byte. All stay open until the end.
func manyFiles(dir string, count int, after func(files []*mmapio.File) error) error {
	body := patterned(10_000, 1)
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, body, 0o666); err != nil {
		return err
	}
	files := make([]*mmapio.File, count)
	for i := range files {
		options := mmapio.WithMapping(mmapio.MapAlways)
		if i%10 == 0 {
			options = mmapio.WithMapping(mmapio.MapAuto)
		}
		f, err := mmapio.OpenFile(name, os.O_RDWR, 0, options)
		if err != nil {
			return fmt.Errorf("file %d: %w", i, err)
		}
		defer f.Close()
		files[i] = f
		if err := readOften(f, body, 25, uint64(i)); err != nil {
			return fmt.Errorf("file %d: %w", i, err)
		}
	}
	for i, f := range files {
		if err := readOften(f, body, 3, uint64(i)); err != nil {
			return fmt.Errorf("file %d, again: %w", i, err)
		}
		if _, err := f.WriteAt(body[:100], 0); err != nil {
			return fmt.Errorf("file %d: %w", i, err)
		}
	}
	if after != nil {
		if err := after(files); err != nil {
			return err
		}
	}
	for i, f := range files {
		if err := f.Close(); err != nil {
			return fmt.Errorf("file %d: %w", i, err)
		}
	}
	return nil
}

func readOften(f *mmapio.File, body []byte, times int, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 3000)
	for range times {
		off := random.Int64N(int64(len(body) - len(b)))
		if _, err := f.ReadAt(b, off); err != nil {
			return err
		}
		if err := checkBody(body, b, off, false); err != nil {
			return err
		}
	}
	return nil
}

// growHeap makes the Go heap grow, which ends the program where there is no room.
func growHeap(bytes int) {
	var kept [][]byte
	for total := 0; total < bytes; total += 1 << 20 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 16 << 10 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
	runtime.KeepAlive(kept)
}

func mappedOf(files []*mmapio.File) (n int) {
	for _, f := range files {
		if mmapio.IsMapped(f) {
			n++
		}
	}
	return n
}

func init() {
	aloneRuns["few mappings"] = func(arguments []string) error {
		most, err := strconv.Atoi(arguments[1])
		if err != nil {
			return err
		}
		return manyFiles(arguments[0], 3*most, func(files []*mmapio.File) error {
			if n := mappedOf(files); n == 0 || n > most/4 {
				return fmt.Errorf("%d of %d files are mapped, %d mappings are allowed", n, len(files), most)
			}
			growHeap(100 << 20)
			return nil
		})
	}
	aloneRuns["little address space"] = littleAddressSpace
	aloneRuns["few descriptors"] = fewDescriptors
}

// needDescriptors skips the test where this process and its children cannot have that many open files.
func needDescriptors(t testing.TB, count uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < count {
		t.Skipf("only %d files may be open, %d are needed", limit.Cur, count)
	}
}

// Several times more files than there may be mappings: nothing fails. The limit is
// the machine's, so it is lowered for a moment only, and not by two tests at once.
func TestFewMappingsAllowed(t *testing.T) {
	most := 4096
	if raceEnabled {
		most = 1024 // or the machine's limit would be low for too long
	}
	needDescriptors(t, uint64(3*most+100))
	file, err := os.OpenFile(maxMapCount, os.O_RDWR, 0)
	if err != nil {
		t.Skipf("cannot lower the limit: %v", err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Skipf("cannot make sure that nobody else lowers the limit: %v", err)
	}
	old, err := os.ReadFile(maxMapCount)
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(old)))
	if err != nil {
		t.Fatal(err)
	}
	if limit > most {
		restore := func() {
			if err := os.WriteFile(maxMapCount, old, 0); err != nil {
				t.Error(err)
			}
		}
		if err := os.WriteFile(maxMapCount, []byte(strconv.Itoa(most)), 0); err != nil {
			t.Skipf("cannot lower the limit: %v", err)
		}
		defer restore()
	}
	runChild(t, "few mappings", memoryDir(t), strconv.Itoa(min(limit, most)))
}

// With a limit on the address space, files that are larger than all of it are read
// and written, and the heap can grow.
func TestLittleAddressSpace(t *testing.T) {
	needKernel(t, "the limit is not kept")
	if raceEnabled {
		t.Skip("the race detector takes address space of its own")
	}
	runChild(t, "little address space", t.TempDir())
}

func littleAddressSpace(arguments []string) error {
	const room = 3 << 29 // 1.5 GiB
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return errSkip(err.Error())
	}
	pages, err := strconv.ParseUint(strings.Fields(string(statm))[0], 10, 64)
	if err != nil {
		return err
	}
	limit := pages*uint64(os.Getpagesize()) + room
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return errSkip(fmt.Sprint("cannot limit the address space: ", err))
	}
	size := int64(limit) + 1<<30
	huge, err := mmapio.Create(filepath.Join(arguments[0], "huge"), mmapio.WithSize(size), mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		return errSkip(fmt.Sprint("no file of that size here: ", err))
	}
	defer huge.Close()
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		off, want := random.Int64N(size-1000), patterned(1000, i)
		if _, err := huge.WriteAt(want, off); err != nil {
			return err
		}
		got := make([]byte, len(want))
		for range 3 {
			if _, err := huge.ReadAt(got, off); err != nil || string(got) != string(want) {
				return fmt.Errorf("at %d of %d: %w", off, size, err)
			}
		}
	}
	// Files of a size that is mapped elsewhere: together they are more than there is room for.
	var files []*mmapio.File
	for i := range 40 {
		f, err := mmapio.Create(filepath.Join(arguments[0], fmt.Sprint("file", i)), mmapio.WithSize(64<<20), mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			return err
		}
		defer f.Close()
		files = append(files, f)
		for range 5 {
			if _, err := f.ReadAt(make([]byte, 1000), random.Int64N(60<<20)); err != nil {
				return err
			}
		}
	}
	if mappedOf(files) == 0 && mmapio.Is64Bit {
		return errors.New("nothing is mapped")
	}
	growHeap(700 << 20)
	for _, f := range files {
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			return err
		}
		if _, err := f.Write(make([]byte, 100_000)); err != nil {
			return err
		}
		if _, err := f.ReadAt(make([]byte, 1000), 64<<20); err != nil {
			return err
		}
	}
	return nil
}

// Where no more files can be opened the error is os's.
func TestFewDescriptors(t *testing.T) {
	runChild(t, "few descriptors", memoryDir(t))
}

func fewDescriptors(arguments []string) error {
	name := filepath.Join(arguments[0], "file")
	if err := os.WriteFile(name, patterned(10_000, 1), 0o666); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 60, Max: 60}); err != nil {
		return errSkip(fmt.Sprint("cannot limit the descriptors: ", err))
	}
	s := osSide(arguments[0])
	_, want := func() (*os.File, error) {
		for {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
		}
	}()
	if !errors.Is(want, syscall.EMFILE) {
		return fmt.Errorf("os says %w", want)
	}
	var files []*mmapio.File
	for {
		f, err := mmapio.Open(name, mmapio.WithMapping(mmapio.MapAlways))
		if err != nil {
			if s.describe(err) != s.describe(want) {
				return fmt.Errorf("got %s, want %s", s.describe(err), s.describe(want))
			}
			break
		}
		defer f.Close()
		if files = append(files, f); len(files) > 100 {
			return errors.New("there is no limit")
		}
	}
	if len(files) == 0 {
		return errors.New("not one file could be opened")
	}
	body := patterned(10_000, 1)
	for _, f := range files { // mapping them needs no descriptor
		if err := readOften(f, body, 30, 1); err != nil {
			return err
		}
	}
	if n := mappedOf(files); n != len(files) {
		return fmt.Errorf("%d of %d are mapped", n, len(files))
	}
	return nil
}
