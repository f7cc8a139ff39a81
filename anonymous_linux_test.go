package mmapio_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

func init() {
	aloneRuns["anonymous and limits"] = anonymousLimits
}

// anonymousDescriptors counts the descriptors of this process that are anonymous memory.
func anonymousDescriptors(t testing.TB) (count int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "/memfd:mmapio") {
			count++
		}
	}
	return count
}

// What is forgotten is closed by the garbage collector, its memory with it.
func TestAnonymousForgotten(t *testing.T) {
	before := anonymousDescriptors(t)
	func() {
		for i := range 20 {
			f, err := mmapio.Anonymous(1<<20, mmapio.WithMapping(mmapio.MapAlways))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(patterned(1<<20, i), 0); err != nil {
				t.Fatal(err)
			}
			warm(f)
			runtime.KeepAlive(f)
		}
		if now := anonymousDescriptors(t); now == before {
			t.Errorf("no descriptor is anonymous memory")
		}
	}()
	eventually(t, "forgotten", func() error {
		if now := anonymousDescriptors(t); now != before {
			return fmt.Errorf("%d descriptors, %d before", now, before)
		}
		if strings.Contains(string(readMaps(t)), "/memfd:mmapio") {
			return errors.New("is still mapped")
		}
		return nil
	})
}

// A child that was started without it does not have the descriptor.
func TestAnonymousClosedOnExec(t *testing.T) {
	f := newAnonymous(t, 10)
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func TestAnonymousLimits(t *testing.T) {
	needKernel(t, "the limit is not kept")
	runChild(t, "anonymous and limits")
}

func anonymousLimits([]string) error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return errSkip(err.Error())
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		return err
	}
	limit := pages*uint64(os.Getpagesize()) + 512<<20
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return errSkip(fmt.Sprint("cannot limit the address space: ", err))
	}
	f, err := mmapio.Anonymous(int64(limit)+1<<30, mmapio.WithMapping(mmapio.MapAlways))
	if err != nil {
		return err
	}
	defer f.Close()
	for i := range 50 {
		want, got := patterned(1000, i), make([]byte, 1000)
		off := int64(limit) + int64(i)*5000
		if _, err := f.WriteAt(want, off); err != nil {
			return err
		}
		if _, err := f.ReadAt(got, off); err != nil || string(got) != string(want) {
			return fmt.Errorf("at %d: %w", off, err)
		}
	}
	if _, err := f.View(0, int64(limit)); !errors.Is(err, syscall.ENOMEM) && !mmapioTooLarge(err) {
		return fmt.Errorf("a View of more than there is room for: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: 3}); err != nil {
		return errSkip(fmt.Sprint("cannot limit descriptors: ", err))
	}
	if _, err := mmapio.Anonymous(10); !errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("without descriptors: %w", err)
	}
	return nil
}

// mmapioTooLarge reports whether a View did not fit into the address space of a 32-bit
// system.
func mmapioTooLarge(err error) bool {
	return !mmapio.Is64Bit && err != nil && strings.Contains(err.Error(), "address space")
}
