//go:build unix

package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

func init() { states = append(states, unixStates...) }

// unixStates lists what every Unix has.
var unixStates = []state{
	{name: "/dev/zero", endless: true, foreign: true, open: func(s *side) (file, error) {
		return s.open("/dev/zero", os.O_RDWR, 0)
	}},
	{name: "FIFO to read from", open: func(s *side) (file, error) {
		keeper, err := newFIFO(s)
		if err != nil {
			return nil, err
		}
		if _, err := keeper.WriteString("through the FIFO"); err != nil {
			return nil, err
		}
		f, err := s.open(s.path("fifo"), os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		return f, keeper.Close()
	}},
	{name: "FIFO to write to", open: func(s *side) (file, error) {
		if _, err := newFIFO(s); err != nil {
			return nil, err
		}
		return s.open(s.path("fifo"), os.O_WRONLY, 0)
	}},
	{name: "FIFO with O_TRUNC", open: func(s *side) (file, error) {
		if _, err := newFIFO(s); err != nil {
			return nil, err
		}
		return s.open(s.path("fifo"), os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0)
	}},
	{name: "socket that blocks", open: socket(false)},
	{name: "socket that polls", open: socket(true)},
	{name: "inherited with an offset", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR)(&side{dir: s.dir, open: osSide("").open})
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if _, err := f.Seek(4000, io.SeekStart); err != nil {
			return nil, err
		}
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			return nil, err
		}
		return s.wrap(os.NewFile(uintptr(fd), s.path("file")))
	}},
	{name: "inherited with O_APPEND", open: func(s *side) (file, error) {
		f, err := regular(os.O_RDWR | os.O_APPEND)(&side{dir: s.dir, open: osSide("").open})
		if err != nil {
			return nil, err
		}
		defer f.Close()
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			return nil, err
		}
		return s.wrap(os.NewFile(uintptr(fd), s.path("file")))
	}},
	{name: "inherited write-only", open: func(s *side) (file, error) {
		f, err := regular(os.O_WRONLY)(&side{dir: s.dir, open: osSide("").open})
		if err != nil {
			return nil, err
		}
		defer f.Close()
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			return nil, err
		}
		return s.wrap(os.NewFile(uintptr(fd), s.path("file")))
	}},
	{name: "not a descriptor", open: func(s *side) (file, error) {
		return s.wrap(os.NewFile(1_000_000, s.path("nothing")))
	}, foreign: true},
}

// newFIFO makes a FIFO and opens it for both directions, so that nobody waits for
// the other end.
func newFIFO(s *side) (*os.File, error) {
	if err := unix.Mkfifo(s.path("fifo"), 0o666); err != nil {
		return nil, fmt.Errorf("%w: FIFO: %v", errMissing, err)
	}
	keeper, err := os.OpenFile(s.path("fifo"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s.later(func() { keeper.Close() })
	return keeper, nil
}

// socket makes one end of a connected pair, with something to read and then the end.
func socket(polls bool) func(s *side) (file, error) {
	return func(s *side) (file, error) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return nil, fmt.Errorf("%w: sockets: %v", errMissing, err)
		}
		peer := os.NewFile(uintptr(pair[1]), "peer")
		s.later(func() { peer.Close() })
		if _, err := peer.WriteString("through the socket"); err != nil {
			return nil, err
		}
		if err := unix.Shutdown(pair[1], unix.SHUT_WR); err != nil {
			return nil, err
		}
		if err := unix.SetNonblock(pair[0], polls); err != nil {
			return nil, err
		}
		return s.wrap(os.NewFile(uintptr(pair[0]), "socket"))
	}
}

// A descriptor may be shared with others who move its offset: what is read and
// written follows it.
func TestSharedOffset(t *testing.T) {
	for _, variant := range stateVariants {
		t.Run(variant.name, func(t *testing.T) {
			var results [2]string
			dir := t.TempDir()
			for i, s := range []*side{osSide(dir + "/os"), mmapioSide(dir+"/mm", variant.options...)} {
				defer s.finish()
				if err := os.Mkdir(s.dir, 0o777); err != nil {
					t.Fatal(err)
				}
				first := s.plainFile("file", content)
				fd, err := unix.Dup(int(first.Fd()))
				if err != nil {
					t.Fatal(err)
				}
				f, err := s.wrap(os.NewFile(uintptr(fd), s.path("file")))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if variant.warm {
					warm(f)
				}
				for round := range 5 {
					results[i] += readRow(100)(s, f)
					if _, err := first.Seek(int64(round)*1000, io.SeekStart); err != nil {
						t.Fatal(err)
					}
					results[i] += readRow(100)(s, f) + tell(s, first)
					if _, err := f.Write([]byte("here")); err != nil {
						t.Fatal(err)
					}
					if _, err := first.Write([]byte("and here")); err != nil {
						t.Fatal(err)
					}
					results[i] += tell(s, first) + tell(s, f) + s.contentOf("file") + "\n"
				}
			}
			if results[0] != results[1] {
				t.Errorf("got:\n%s\nwant:\n%s", results[1], results[0])
			}
		})
	}
}

// A socket in the file system cannot be opened; the error is that of os.
func TestOpenSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Skipf("no sockets in the file system here: %v", err)
	}
	defer listener.Close()
	s := &side{dir: filepath.Clean(dir)}
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_CREATE | os.O_TRUNC} {
		want, wantErr := os.OpenFile(path, flag, 0)
		got, gotErr := mmapio.OpenFile(path, flag, 0)
		if want != nil || got != nil {
			t.Fatal("a socket was opened")
		}
		if s.describe(gotErr) != s.describe(wantErr) {
			t.Errorf("flags %#x: got %s, want %s", flag, s.describe(gotErr), s.describe(wantErr))
		}
	}
}

// Close lets go a Read that waits in a pipe, as in os.
func TestCloseEndsAWaitingRead(t *testing.T) {
	for _, variant := range stateVariants {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		f, err := mmapio.FromFile(r, variant.options...)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			b := make([]byte, 10)
			for {
				if _, err := f.Read(b); err != nil {
					done <- err
					return
				}
			}
		}()
		if _, err := w.WriteString("first"); err != nil { // the Read is under way, or about to be
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Read ended with %v", err)
		}
		w.Close()
	}
}

// A waiting Read in a pipe keeps nobody else from using the File.
func TestWaitingReadHoldsUpNobody(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Skipf("no sockets here: %v", err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		t.Fatal(err)
	}
	f := mmapio.NewFile(uintptr(pair[0]), "socket")
	peer := os.NewFile(uintptr(pair[1]), "peer")
	defer peer.Close()
	defer f.Close()
	got := make(chan string)
	go func() {
		b := make([]byte, 10)
		n, err := f.Read(b)
		got <- fmt.Sprint(string(b[:n]), err)
	}()
	// The other direction goes on, whether or not the Read has begun to wait.
	if _, err := f.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if _, err := io.ReadFull(peer, b); err != nil || string(b) != "question" {
		t.Fatalf("the peer got %q, %v", b, err)
	}
	if _, err := f.Stat(); err != nil {
		t.Error(err)
	}
	if _, err := peer.WriteString("answer"); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "answer<nil>" {
		t.Errorf("Read returned %s", text)
	}
}
