package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

func init() { states = append(states, linuxStates...) }

// linuxStates lists what Linux has beyond other systems.
var linuxStates = []state{
	{name: "/dev/full", endless: true, foreign: true, open: foreign("/dev/full", os.O_RDWR)},
	{name: "/proc file", foreign: true, open: foreign("/proc/version", os.O_RDONLY)},
	{name: "/proc file of this process", foreign: true, open: foreign("/proc/self/limits", os.O_RDONLY)},
	{name: "/proc file to write to", foreign: true, open: foreign("/proc/self/comm", os.O_WRONLY)},
	{name: "/sys file", foreign: true, open: foreign("/sys/kernel/mm/transparent_hugepage/enabled", os.O_RDONLY)},
	{name: "/proc directory", foreign: true, open: foreign("/proc/self/attr", os.O_RDONLY)},
	{name: "O_DIRECT", direct: true, open: openFlags(os.O_RDWR | syscall.O_DIRECT)},
	{name: "O_DIRECT read-only", direct: true, open: openFlags(os.O_RDONLY | syscall.O_DIRECT)},
	{name: "O_DSYNC", open: openFlags(os.O_RDWR | syscall.O_DSYNC)},
	{name: "O_NOATIME", open: openFlags(os.O_RDWR | syscall.O_NOATIME)},
	{name: "O_NONBLOCK", open: openFlags(os.O_RDWR | syscall.O_NONBLOCK)},
	{name: "O_PATH", open: openFlags(unix.O_PATH)},
	{name: "without a name", open: func(s *side) (file, error) {
		f, err := s.open(s.dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", errMissing, err)
		}
		_, err = f.WriteAt(content, 0)
		return f, err
	}},
	{name: "terminal", open: terminal},
	{name: "memory file", open: func(s *side) (file, error) {
		fd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("%w: memfd_create: %v", errMissing, err)
		}
		f := os.NewFile(uintptr(fd), "memory")
		if _, err := f.WriteAt(content, 0); err != nil {
			return nil, err
		}
		return s.wrap(f)
	}},
}

// foreign opens a file that the system has, or not.
func foreign(name string, flag int) func(s *side) (file, error) {
	return func(s *side) (file, error) {
		f, err := s.open(name, flag, 0)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", errMissing, err)
		}
		return f, nil
	}
}

// openFlags opens a regular file with flags that not every file system takes.
func openFlags(flag int) func(s *side) (file, error) {
	return func(s *side) (file, error) {
		f, err := regular(flag)(s)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EPERM) {
			return nil, fmt.Errorf("%w: %v", errMissing, err)
		}
		return f, err
	}
}

// terminal opens the slave end of a new pseudo-terminal, with a line to read and
// then the end of input.
func terminal(s *side) (file, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errMissing, err)
	}
	s.later(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("%w: unlocking a terminal: %v", errMissing, err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("%w: naming a terminal: %v", errMissing, err)
	}
	name := "/dev/pts/" + strconv.Itoa(number)
	// Both sides shall have the same name: a link in the folder of the side.
	if err := os.Symlink(name, s.path("terminal")); err != nil {
		return nil, err
	}
	f, err := s.open(s.path("terminal"), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errMissing, err)
	}
	if _, err := master.WriteString("a line\n\x04\x04\x04\x04"); err != nil {
		return nil, err
	}
	return f, nil
}

// isMapped asks the kernel whether this process has the named file mapped.
func isMapped(t *testing.T, name string) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skipf("the kernel does not tell what is mapped: %v", err)
	}
	return bytes.Contains(maps, []byte(name))
}

// The states that are called warm are mapped, so what the other tests compare is
// really the mapping, and files that must not be mapped are not.
func TestWarmFilesAreMapped(t *testing.T) {
	for _, row := range []struct {
		name    string
		flag    int
		options []mmapio.Option
		want    bool
	}{
		{"always", os.O_RDWR, []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, true},
		{"auto", os.O_RDWR, nil, true},
		{"never", os.O_RDWR, []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}, false},
		{"read-only", os.O_RDONLY, nil, true},
		{"append", os.O_RDWR | os.O_APPEND, nil, true},
		{"sync", os.O_RDWR | os.O_SYNC, nil, true},
		{"write-only", os.O_WRONLY, []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, false},
	} {
		for _, adopt := range []bool{false, true} {
			s := mmapioSide(memoryDir(t), row.options...)
			f, err := regular(row.flag)(s)
			if err != nil {
				t.Fatal(err)
			}
			if adopt {
				f.Close()
				inner, err := os.OpenFile(s.path("file"), row.flag, 0)
				if err != nil {
					t.Fatal(err)
				}
				if f, err = s.wrap(inner); err != nil {
					t.Fatal(err)
				}
			}
			if isMapped(t, s.path("file")) {
				t.Errorf("%s: mapped before it was used", row.name)
			}
			warm(f)
			if got := isMapped(t, s.path("file")); got != row.want {
				t.Errorf("%s, adopted %v: mapped %v, want %v", row.name, adopt, got, row.want)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if isMapped(t, s.path("file")) {
				t.Errorf("%s: mapped after Close", row.name)
			}
		}
	}
}
