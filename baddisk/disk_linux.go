package baddisk

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mode says what the kernel keeps in memory.
type Mode string

const (
	// CachedReads: the page cache serves reads and mappings; a write goes to the disk at
	// once, and a store to a mapping when it is written back.
	CachedReads Mode = "cached reads"
	// CachedWrites: writes too go to the page cache, and to the disk when they are written
	// back.
	CachedWrites Mode = "cached writes"
	// Direct: reads and writes go to the disk, past the page cache; mappings do not.
	Direct Mode = "direct"
)

// Disk is a file system that is mounted, and served by a process of its own.
type Disk struct {
	Dir  string // where it is
	Mode Mode

	command *exec.Cmd
	client  *rpc.Client
	closing sync.Once
	closed  error
}

// modeVariable says to a process that it is a server.
const modeVariable, dirVariable = "BADDISK_MODE", "BADDISK_DIR"

// ErrNoFUSE says that there is no FUSE on this machine, or that it may not be used.
var ErrNoFUSE = errors.New("no FUSE")

// Mount mounts a new disk on dir. The server is the same program, which must call
// [ServeIfAsked] when it starts.
func Mount(dir string, mode Mode) (*Disk, error) {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoFUSE, err)
	}
	device.Close()
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := &Disk{Dir: dir, Mode: mode, command: exec.Command(executable)}
	d.command.Env = append(os.Environ(), modeVariable+"="+string(mode), dirVariable+"="+dir)
	d.command.Stderr = os.Stderr
	in, err := d.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := d.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.command.Start(); err != nil {
		return nil, err
	}
	d.client = rpc.NewClient(pipes{out, in})
	var problem string
	if err := d.client.Call("Server.Mount", dir, &problem); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if problem != "" {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrNoFUSE, problem), d.Close())
	}
	return d, nil
}

// Close unmounts the disk and ends its server. What waits there fails.
func (d *Disk) Close() error {
	d.closing.Do(func() {
		err := unix.Unmount(d.Dir, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) {
			err = nil // it was never mounted
		}
		d.closed = errors.Join(err, d.Kill())
	})
	return d.closed
}

// Kill ends the server: the disk is gone, and every request from now on fails.
func (d *Disk) Kill() error {
	if err := d.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = d.command.Wait() // killed
	d.client.Close()
	return nil
}

// Order has the disk misbehave, until the order is cancelled. Of several orders that are
// for the same request, the first counts.
func (d *Disk) Order(f Fault) (*Order, error) {
	o := &Order{disk: d}
	return o, d.client.Call("Server.Order", f, &o.number)
}

// Order is a fault that the disk has been told to have.
type Order struct {
	disk   *Disk
	number int
}

// Cancel ends the fault, and whatever it holds up.
func (o *Order) Cancel() error { return o.disk.client.Call("Server.Cancel", o.number, new(bool)) }

// Hits returns how many requests have met with the fault.
func (o *Order) Hits() (hits int, err error) {
	err = o.disk.client.Call("Server.Await", HitsRequest{o.number, 0}, &hits)
	return hits, err
}

// patience is how long Await waits at most.
const patience = 30 * time.Second

// Await returns when so many requests have met with the fault.
func (o *Order) Await(hits int) error {
	call := o.disk.client.Go("Server.Await", HitsRequest{o.number, hits}, new(int), make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		return call.Error
	case <-time.After(patience):
		return fmt.Errorf("less than %d requests have met with the fault", hits)
	}
}

// Evict takes n bytes of the file out of the page cache; n = 0 means all from off on. What
// is not written back is, before.
func (d *Disk) Evict(name string, off, n int64) error {
	return d.client.Call("Server.Evict", EvictRequest{name, off, n}, new(bool))
}

// Content returns what of the file has reached the disk, or of that, what was there at the
// last fsync that succeeded.
func (d *Disk) Content(name string, synced bool) (b []byte, err error) {
	err = d.client.Call("Server.Content", ContentRequest{name, synced}, &b)
	return b, err
}

// What a Disk asks a Server for.
type (
	HitsRequest  struct{ Number, Hits int }
	EvictRequest struct {
		Name   string
		Off, N int64
	}
	ContentRequest struct {
		Name   string
		Synced bool
	}
)

// pipes is what a client and its server talk through.
type pipes struct {
	io.ReadCloser
	writer io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.writer.Write(b) }

func (p pipes) Close() error { return errors.Join(p.ReadCloser.Close(), p.writer.Close()) }

// ServeIfAsked serves a disk and exits, if this process was started by [Mount].
func ServeIfAsked() {
	mode, ok := os.LookupEnv(modeVariable)
	if !ok {
		return
	}
	signal.Ignore(os.Interrupt, unix.SIGTERM) // the end of the client is the end
	requests := rpc.NewServer()
	if err := requests.Register(&Server{newFileSystem(Mode(mode))}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	requests.ServeConn(pipes{os.Stdin, os.Stdout})
	_ = unix.Unmount(os.Getenv(dirVariable), unix.MNT_DETACH) // where the client could not
	os.Exit(0)
}

// Server is what a [Disk] calls, in the other process.
type Server struct{ disk *fileSystem }

// Mount mounts the file system. A problem is one of this machine.
func (s *Server) Mount(dir string, problem *string) error {
	if err := s.disk.mount(dir); err != nil {
		*problem = err.Error()
	}
	return nil
}

// Order takes an order.
func (s *Server) Order(f Fault, number *int) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	o := &order{Fault: f, cancelled: make(chan struct{})}
	s.disk.orders = append(s.disk.orders, o)
	s.disk.made = append(s.disk.made, o)
	*number = len(s.disk.made) - 1
	return nil
}

// Cancel cancels an order.
func (s *Server) Cancel(number int, _ *bool) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	o := s.disk.made[number]
	if i := slices.Index(s.disk.orders, o); i >= 0 {
		s.disk.orders = slices.Delete(s.disk.orders, i, i+1)
		close(o.cancelled)
	}
	return nil
}

// Await returns the hits of an order when there are so many.
func (s *Server) Await(a HitsRequest, hits *int) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	o := s.disk.made[a.Number]
	for o.hits < a.Hits {
		s.disk.change.Wait()
	}
	*hits = o.hits
	return nil
}

// Evict takes pages out of the page cache.
func (s *Server) Evict(e EvictRequest, _ *bool) error {
	s.disk.mu.Lock()
	n, ok := s.disk.names[e.Name]
	server := s.disk.server
	s.disk.mu.Unlock()
	if !ok {
		return os.ErrNotExist
	}
	if status := server.InodeNotify(n.id, e.Off, e.N); !status.Ok() {
		return syscall.Errno(status)
	}
	return nil
}

// Content returns the bytes of a file.
func (s *Server) Content(c ContentRequest, b *[]byte) error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	n, ok := s.disk.names[c.Name]
	if !ok {
		return os.ErrNotExist
	}
	*b = slices.Clone(n.data)
	if c.Synced {
		*b = slices.Clone(n.synced)
	}
	return nil
}
