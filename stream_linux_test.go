package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/mmapio/mmapio"
	"golang.org/x/sys/unix"
)

// traffic is what the system calls of one thread have moved, as the kernel counts
// it: bytes read and written, and how many calls that took.
type traffic struct{ read, written, reads, writes int64 }

func (t traffic) minus(o traffic) traffic {
	return traffic{t.read - o.read, t.written - o.written, t.reads - o.reads, t.writes - o.writes}
}

func threadTraffic(t *testing.T) (now traffic) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Skipf("the kernel does not count what a thread moves: %v", err)
	}
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d\n",
		&now.read, &now.written, &now.reads, &now.writes); err != nil {
		t.Fatal(err)
	}
	return now
}

// trafficOf returns what do moves on its own goroutine.
func trafficOf(t *testing.T, do func()) traffic {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	idle := threadTraffic(t)
	before := threadTraffic(t)
	do()
	return threadTraffic(t).minus(before).minus(before.minus(idle))
}

const kernelCopySize = 4<<20 + 99

// kernelCopy is a copy that the kernel makes if an os.File asks for it. It is given
// a source of kernelCopySize bytes and a target, the folder of both, and how many
// bytes to copy.
type kernelCopy struct {
	name string
	copy func(t *testing.T, source, target file, dir string, n int64)
}

var kernelCopies = []kernelCopy{
	{"to an os.File", func(t *testing.T, source, _ file, dir string, n int64) {
		plain, err := os.Create(filepath.Join(dir, "plain"))
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		mustCopy(t, plain, source, n)
	}},
	{"from an os.File", func(t *testing.T, _, target file, dir string, n int64) {
		plain, err := os.Open(filepath.Join(dir, "source"))
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		mustCopy(t, target, part(plain, n), n)
	}},
	{"from a File to a File", func(t *testing.T, source, target file, _ string, n int64) {
		mustCopy(t, target, part(source, n), n)
	}},
	{"from a File, asked for by the target", func(t *testing.T, source, target file, _ string, n int64) {
		if got, err := target.ReadFrom(part(source, n)); got != n || err != nil {
			t.Errorf("copied %d of %d, %v", got, n, err)
		}
	}},
	{"to TCP", func(t *testing.T, source, _ file, dir string, n int64) {
		near, wait := drainedPair(t, "tcp", dir)
		mustCopy(t, near, part(source, n), n)
		wait(n)
	}},
	{"to a unix socket", func(t *testing.T, source, _ file, dir string, n int64) {
		near, wait := drainedPair(t, "unix", dir)
		mustCopy(t, near, part(source, n), n)
		wait(n)
	}},
	{"from TCP", func(t *testing.T, _, target file, dir string, n int64) {
		near, wait := feedingPair(t, "tcp", dir)
		mustCopy(t, target, part(near, n), n)
		wait()
	}},
	{"from a unix socket", func(t *testing.T, _, target file, dir string, n int64) {
		near, wait := feedingPair(t, "unix", dir)
		mustCopy(t, target, part(near, n), n)
		wait()
	}},
	{"as an answer to an HTTP request", func(t *testing.T, source, _ file, _ string, n int64) {
		answerHTTP(t, n, func(w http.ResponseWriter, _ *http.Request) { mustCopy(t, w, part(source, n), n) })
	}},
	{"by http.ServeContent", func(t *testing.T, source, _ file, _ string, n int64) {
		answerHTTP(t, n, func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", fmt.Sprintf("bytes=0-%d", n-1))
			http.ServeContent(w, r, "name.bin", time.Time{}, source)
		})
	}},
}

// part is r as a whole if n is all there is, and a LimitedReader otherwise.
func part(r io.Reader, n int64) io.Reader {
	if n == kernelCopySize {
		return r
	}
	return io.LimitReader(r, n)
}

func mustCopy(t *testing.T, w io.Writer, r io.Reader, want int64) {
	t.Helper()
	if n, err := io.Copy(w, r); n != want || err != nil {
		t.Errorf("copied %d of %d, %v", n, want, err)
	}
}

// drainedPair returns a connection whose other end takes everything. wait ends it
// and says how much that must have been.
func drainedPair(t *testing.T, network, dir string) (near net.Conn, wait func(want int64)) {
	t.Helper()
	near, far := connectedPair(t, network, filepath.Join(dir, "socket"))
	arrived := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(writerOnly{io.Discard}, far)
		far.Close()
		arrived <- n
	}()
	return near, func(want int64) {
		near.Close()
		if got := <-arrived; got != want {
			t.Errorf("%d of %d bytes arrived", got, want)
		}
	}
}

// feedingPair returns a connection whose other end sends kernelCopySize bytes.
func feedingPair(t *testing.T, network, dir string) (near net.Conn, wait func()) {
	t.Helper()
	near, far := connectedPair(t, network, filepath.Join(dir, "socket"))
	content := cachedPattern(kernelCopySize, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		far.Write(content)
		far.Close()
	}()
	return near, func() {
		near.Close()
		<-done
	}
}

// answerHTTP serves one request of n bytes. The handler runs on the calling
// goroutine.
func answerHTTP(t *testing.T, n int64, handler http.HandlerFunc) {
	t.Helper()
	type exchange struct {
		w http.ResponseWriter
		r *http.Request
	}
	begun, ended := make(chan exchange), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- exchange{w, r}
		<-ended
	}))
	defer server.Close()
	received := make(chan error, 1)
	go func() {
		response, err := server.Client().Get(server.URL)
		if err == nil {
			var got int64
			got, err = io.Copy(writerOnly{io.Discard}, response.Body)
			if err == nil && got != n {
				err = fmt.Errorf("%d of %d bytes arrived", got, n)
			}
			response.Body.Close()
		}
		received <- err
	}()
	x := <-begun
	x.w.Header().Set("Content-Length", fmt.Sprint(n))
	handler(x.w, x.r)
	close(ended)
	if err := <-received; err != nil {
		t.Error(err)
	}
}

// Where the kernel makes the copy for an os.File, it makes it for a File: the
// system calls of the thread that copies are as few, and move as much.
func TestKernelCopies(t *testing.T) {
	for _, c := range kernelCopies {
		for _, n := range []int64{kernelCopySize, kernelCopySize - 10_000} {
			if c.name == "to an os.File" && n != kernelCopySize {
				continue // an os.File looks for an os.File in a LimitedReader
			}
			t.Run(fmt.Sprintf("%s/%d", c.name, n), func(t *testing.T) { testKernelCopy(t, c, n) })
		}
	}
}

func testKernelCopy(t *testing.T, c kernelCopy, n int64) {
	measure := func(way *streamWay) traffic {
		r := newStreamRun(t, way, t.TempDir())
		defer r.finish()
		r.create("source", cachedPattern(kernelCopySize, 1))
		r.create("target", cachedPattern(kernelCopySize/2, 2)) // partly in place, partly growing
		source, target := r.start("source", os.O_RDONLY, 0), r.start("target", os.O_RDWR, 0)
		return trafficOf(t, func() { c.copy(t, source, target, r.dir, n) })
	}
	byProgram := n / (32 << 10) // so many reads and writes take a copy through a buffer
	want := measure(nil)
	if want.reads > byProgram/2 || want.writes > byProgram/2 {
		t.Skipf("here an os.File copies through the program: %+v", want)
	}
	for _, way := range streamWays {
		got := measure(&way)
		if got.reads > byProgram*3/4 || got.writes > byProgram*3/4 {
			t.Errorf("%s: copied through the program: %+v; with os.File %+v", way.name, got, want)
		}
		if slack := n / 8; got.read < want.read-slack || got.written < want.written-slack {
			t.Errorf("%s: other system calls: %+v; with os.File %+v", way.name, got, want)
		}
	}
}

// A copy to a hash neither reads through a buffer nor faults page by page when the
// bytes are in memory.
func TestHandOver(t *testing.T) {
	const size = 32 << 20
	measure := func(way *streamWay, w io.Writer) (moved traffic, faults int64) {
		r := newStreamRun(t, way, t.TempDir())
		defer r.finish()
		r.create("source", cachedPattern(size, 1))
		f := r.start("source", os.O_RDONLY, 0)
		moved = trafficOf(t, func() {
			before := minorFaults(t)
			mustCopy(t, w, f, size)
			faults = minorFaults(t) - before
		})
		return moved, faults
	}
	measure(nil, crc32.NewIEEE()) // what is set up once
	want, _ := measure(nil, crc32.NewIEEE())
	got, faults := measure(&streamWays[3], crc32.NewIEEE())
	if want.read < size {
		t.Skipf("the kernel does not count reads: %+v", want)
	}
	if got.read > size/8 {
		t.Errorf("%+v with os.File, %+v with File: the bytes were not handed over from the mapping", want, got)
	}
	if pages := int64(size / os.Getpagesize()); faults > pages/8 {
		t.Errorf("%d faults for %d pages: they should come in by system calls", faults, pages)
	}
}

// Who goes through a file again and again is handed its mapping, which stays as it is meanwhile.
func TestHandOverOfMapping(t *testing.T) {
	const size = 8 << 20
	name := filepath.Join(t.TempDir(), "source")
	body := cachedPattern(size, 1)
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	want := crc32.ChecksumIEEE(body)
	f, err := mmapio.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for round := range 4 {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		sum := crc32.NewIEEE()
		w := &meddler{Hash: sum, then: func(call int, b []byte) (int, error) {
			address, length := mmapio.MemoryOf(f)
			at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
			if inside := at >= address && at < address+length; inside != (round > 1) {
				t.Fatalf("round %d: %#x was handed over, mapped are %d bytes at %#x", round, at, length, address)
			}
			return 0, nil
		}}
		if round == 3 {
			w.then = func(call int, b []byte) (int, error) {
				if call == 5 { // others need the room: what is handed over stays
					mmapio.Unmap(f)
				}
				return 0, nil
			}
		}
		if n, err := f.WriteTo(w); n != size || err != nil || sum.Sum32() != want {
			t.Fatalf("round %d: %d, %v, sum %#x, want %#x", round, n, err, sum.Sum32(), want)
		}
	}
}

// A hash is given nothing of what this process has cut off, at whatever moment it did.
func TestHandOverOfCutFile(t *testing.T) {
	const size = 1 << 20
	body := cachedPattern(size, 1)
	for _, to := range []int{size - 100, size/2 + 1, 5, 0} {
		name := filepath.Join(t.TempDir(), "source")
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := mmapio.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		other, err := mmapio.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		restore := mmapio.BeforeTrust(func() {
			if err := other.Truncate(int64(to)); err != nil {
				t.Error(err)
			}
		})
		sum := crc32.NewIEEE()
		n, err := f.WriteTo(sum)
		restore()
		if n != int64(to) || err != nil || sum.Sum32() != crc32.ChecksumIEEE(body[:to]) {
			t.Errorf("cut to %d: %d, %v", to, n, err)
		}
	}
}

// Holes of a file in memory take up none when the file is copied to a hash: a file longer
// than all memory there is can be hashed. Reading them through a mapping would fill them.
func TestHandOverLeavesHoles(t *testing.T) {
	const size, disk = 8 << 20, 4 << 20
	for _, way := range streamWays {
		t.Run(strings.ReplaceAll(way.name, " ", "_"), func(t *testing.T) {
			name := filepath.Join(smallDisk(t, disk), "source")
			if err := os.WriteFile(name, []byte("something"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(name, size); err != nil {
				t.Fatal(err)
			}
			before := blocksOf(t, name)
			f, err := way.open(name, os.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			mustCopy(t, crc32.NewIEEE(), f, size)
			if after := blocksOf(t, name); after != before {
				t.Errorf("%d blocks before, %d after", before, after)
			}
		})
	}
}

func minorFaults(t *testing.T) int64 {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
		t.Skipf("no count of faults: %v", err)
	}
	return int64(usage.Minflt)
}

// smallDisk mounts a file system of that size and returns its folder.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d", size))
	if err != nil {
		t.Skipf("no small disk: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// A full disk ends a copy as with os.File: the error, the count, the positions and
// what is in the file.
func TestStreamFullDisk(t *testing.T) {
	const room = 1 << 20
	sources := []streamSource{
		fileSource("os.File", false, os.O_RDONLY, false),
		fileSource("File", true, os.O_RDONLY, false),
		fileSource("LimitedReader over File", true, os.O_RDONLY, true),
	}
	for _, source := range streamSources {
		switch source.name {
		case "os.Pipe", "bytes.Reader", "a Reader and nothing more", "io.MultiReader", "gzip":
			sources = append(sources, source)
		}
	}
	targets := []struct {
		name string
		size int64 // of the target before, all hole
		left int64 // on the disk
		at   int64
	}{
		{"growing", 0, 60 << 10, 0},
		{"into a hole", 1 << 20, 60 << 10, 5000},
		{"nothing left", 100_000, 0, 0},
	}
	for _, source := range sources {
		for _, target := range targets {
			t.Run(source.name+"/"+target.name, func(t *testing.T) {
				run := func(way *streamWay) []string {
					disk := smallDisk(t, room)
					r := newStreamRun(t, way, t.TempDir())
					defer r.finish()
					name := filepath.Join(disk, "target")
					if err := errors.Join(os.WriteFile(name, nil, 0o666), os.Truncate(name, target.size)); err != nil {
						t.Fatal(err)
					}
					fill(t, filepath.Join(disk, "other"), target.left)
					f, err := r.open(name, os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer func() { // also what was put off until Close has its place or its error
						if err := f.Close(); err != nil {
							t.Errorf("Close: %v", err)
						}
					}()
					if way != nil && way.warm {
						warmUp(t, f)
					}
					f.Seek(target.at, io.SeekStart)
					reader, end := source.open(r, cachedPattern(sourceSize, 1))
					r.guarded(func() (int64, error) { return io.Copy(f, reader) })
					end()
					r.noteFile("target", f)
					for i := range r.lines {
						r.lines[i] = strings.ReplaceAll(r.lines[i], disk, "DISK")
					}
					return r.lines
				}
				want := run(nil)
				if !strings.Contains(strings.Join(want, "\n"), syscall.ENOSPC.Error()) {
					t.Fatalf("the disk did not get full: %q", want)
				}
				for _, way := range few {
					sameLines(t, way.name, want, run(&way))
				}
			})
		}
	}
}

// fill takes all of a disk but left bytes.
func fill(t *testing.T, name string, left int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(b)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(info.Size() - left); err != nil {
		t.Fatal(err)
	}
}

// Files that are not what their size says are copied to their end.
func TestStreamSpecialFiles(t *testing.T) {
	for _, name := range []string{"/proc/filesystems", "/proc/self/limits", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Logf("skipped %s: %v", name, err)
			continue
		}
		for _, mapping := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways} {
			f, err := mmapio.Open(name, mmapio.WithMapping(mapping))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if n, err := io.Copy(asHash{&got}, f); n != int64(len(want)) || err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s: copied %d of %d, %v", name, n, len(want), err)
			}
			target, err := mmapio.Create(filepath.Join(t.TempDir(), "target"), mmapio.WithMapping(mapping))
			if err != nil {
				t.Fatal(err)
			}
			f.Seek(0, io.SeekStart)
			if n, err := io.Copy(target, f); n != int64(len(want)) || err != nil {
				t.Errorf("%s: copied %d of %d to a File, %v", name, n, len(want), err)
			}
			if content, err := os.ReadFile(target.Name()); !bytes.Equal(content, want) || err != nil {
				t.Errorf("%s: the File has %d bytes of %d, %v", name, len(content), len(want), err)
			}
			if err := errors.Join(f.Close(), target.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	zero, err := mmapio.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	f, err := mmapio.Create(filepath.Join(t.TempDir(), "zeros"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.CopyN(f, zero, 100_000); n != 100_000 || err != nil {
		t.Errorf("copied %d zeros, %v", n, err)
	}
	if content, err := os.ReadFile(f.Name()); !bytes.Equal(content, make([]byte, 100_000)) || err != nil {
		t.Errorf("%d bytes, not all zero, %v", len(content), err)
	}
}
