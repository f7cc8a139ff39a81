package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"

	"github.com/edsrzf/mmap-go"
	"github.com/mmapio/mmapio"
	xexp "golang.org/x/exp/mmap"
)

// bestBuffer stands for os.File with the buffer that suits it best.
const bestBuffer = "os with its best buffer"

// sideView is mmapio without a copy.
const sideView = "mmapio-view"

// streamBuffers are those that os.File is tried with, beside what the package in between does
// by itself.
var streamBuffers = []int{16 * kiB, 64 * kiB, 256 * kiB, miB}

// bufferName names os.File with a buffer.
func bufferName(n int) string { return fmt.Sprintf("os-%dKiB", n/kiB) }

// bufferNames are those of os.File with any buffer.
func bufferNames() []string {
	names := []string{sideOS}
	for _, n := range streamBuffers {
		names = append(names, bufferName(n))
	}
	return names
}

// In P7 the Rust sides have all bytes at once, from the mapping: neither crate has a reader. The
// lines they find with the crate memchr, without a copy, so that mmapio-view stands beside them.
//
// P8 has no Rust sides: it is about what io.Copy makes of a File, which has no counterpart in
// these crates. x/exp/mmap takes part where a file is read, by an io.SectionReader.
func streamRows() []row {
	const copied = 32 * miB
	return []row{
		{
			id: "P7", variant: "of=crc", what: "io.Copy of 64 MiB to a CRC-32C", bytes: 64 * miB,
			sides:  checksums(64 * miB),
			groups: map[string][]string{bestBuffer: bufferNames()},
			pairs: append([]pair{
				{sideMmapio, bestBuffer, faster(1.15)},
			}, versus(sideOS, sideExp, sideMmapGo, sideCrate, sideMemmap2)...),
		},
		{
			id: "P7", variant: "of=lines", what: "bufio.Scanner over the lines of 16 MiB", bytes: 16 * miB,
			sides:  lines(16 * miB),
			groups: map[string][]string{bestBuffer: bufferNames()},
			pairs: append([]pair{
				{sideMmapio, bestBuffer, faster(1.4)},
				{sideView, bestBuffer, nil},
			}, append(versus(sideOS, sideExp, sideMmapGo),
				pair{sideView, sideCrate, nil}, pair{sideView, sideMemmap2, nil})...),
		},
		{
			id: "P8", variant: "to=tcp", what: "io.Copy of 32 MiB to TCP", bytes: copied,
			sides: sends(copied),
			pairs: append([]pair{{sideMmapio, sideOS, notSlower()}}, versus(sideExp)...),
		},
		{
			id: "P8", variant: "to=file-from-tcp", what: "io.Copy of 32 MiB from TCP to a new file", bytes: copied,
			sides: receipts(copied),
			pairs: []pair{{sideMmapio, sideOS, notSlower()}},
		},
		{
			id: "P8", variant: "to=file", what: "io.Copy of 32 MiB from a file to a new one", bytes: copied,
			sides: copies(copied),
			pairs: append([]pair{{sideMmapio, sideOS, notSlower()}}, versus(sideExp)...),
		},
	}
}

// notSlower is the goal of being as fast. What is equally fast comes out a little slower
// half of the time.
func notSlower() *goal { return within(1.03) }

// openOn returns the opening of a side that works on an open file with its own cursor.
func openOn[F io.Closer](name string, size int64, open func(path string) (F, error), run func(f F) (uint64, error)) func(w *workspace) (*session, error) {
	return onFile(name, size, func(path string, _ int64) (*session, error) {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		return &session{close: f.Close, run: repeatedly(func() (uint64, error) { return run(f) })}, nil
	})
}

// repeatedly makes a run of one operation.
func repeatedly(one func() (uint64, error)) func(n int) (uint64, error) {
	return func(n int) (sum uint64, err error) {
		for range n {
			s, err := one()
			if err != nil {
				return 0, err
			}
			sum = sum*31 + s
		}
		return sum, nil
	}
}

// plain hides every method of a reader but Read.
func plain(r io.Reader) io.Reader { return struct{ io.Reader }{r} }

// checksums is the workload of copying a file to a checksum.
func checksums(size int64) []side {
	const name = "stream"
	whole := func(f io.ReadSeeker) (uint64, error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		h := crc32.New(castagnoli)
		_, err := io.Copy(h, f)
		return uint64(h.Sum32()), err
	}
	sides := []side{
		{name: sideMmapio, open: openOn(name, size, openMmapio, func(f *mmapio.File) (uint64, error) { return whole(f) })},
		{name: sideOS, open: openOn(name, size, os.Open, func(f *os.File) (uint64, error) { return whole(f) })},
	}
	for _, n := range streamBuffers {
		buffer := make([]byte, n)
		sides = append(sides, side{name: bufferName(n), open: openOn(name, size, os.Open, func(f *os.File) (uint64, error) {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return 0, err
			}
			h := crc32.New(castagnoli)
			_, err := io.CopyBuffer(h, plain(f), buffer)
			return uint64(h.Sum32()), err
		})})
	}
	return append(sides,
		side{name: sideExp, open: openOn(name, size, openExp, func(f *expFile) (uint64, error) { return whole(f) })},
		side{name: sideMmapGo, open: openOn(name, size, openMmapGo, func(f *mmapGoFile) (uint64, error) {
			return whole(bytes.NewReader(f.MMap))
		})},
		rustReading(sideCrate, name, size, rustWork{name: "crc"}),
		rustReading(sideMemmap2, name, size, rustWork{name: "crc"}))
}

func openMmapio(path string) (*mmapio.File, error) { return mmapio.Open(path) }

// expFile is a file mapped by x/exp/mmap, with a cursor.
type expFile struct {
	*io.SectionReader
	file *xexp.ReaderAt
}

func openExp(path string) (*expFile, error) {
	f, err := xexp.Open(path)
	if err != nil {
		return nil, err
	}
	return &expFile{io.NewSectionReader(f, 0, int64(f.Len())), f}, nil
}

func (f *expFile) Close() error { return f.file.Close() }

// mmapGoFile is a file mapped by mmap-go.
type mmapGoFile struct {
	mmap.MMap
	unmap func() error
}

func openMmapGo(path string) (*mmapGoFile, error) {
	m, unmap, err := mapFile(path, os.O_RDONLY, mmap.RDONLY)
	return &mmapGoFile{m, unmap}, err
}

func (f *mmapGoFile) Close() error { return f.unmap() }

// lines is the workload of looking at every line of a text.
func lines(size int64) []side {
	// addLine is the work that is done with a line.
	addLine := func(sum uint64, line []byte) uint64 {
		if len(line) > 0 {
			sum += uint64(line[0])
		}
		return sum*31 + uint64(len(line))
	}
	scan := func(f io.ReadSeeker, buffer []byte) (sum uint64, err error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		s := bufio.NewScanner(f)
		if buffer != nil {
			s.Buffer(buffer, len(buffer))
		}
		for s.Scan() {
			sum = addLine(sum, s.Bytes())
		}
		return sum, s.Err()
	}
	onText := func(open func(path string) (*session, error)) func(w *workspace) (*session, error) {
		return func(w *workspace) (*session, error) {
			path, err := w.text("text", size)
			if err != nil {
				return nil, err
			}
			return open(path)
		}
	}
	sides := []side{
		{name: sideMmapio, open: onText(func(path string) (*session, error) {
			f, err := mmapio.Open(path)
			if err != nil {
				return nil, err
			}
			return &session{close: f.Close, run: repeatedly(func() (uint64, error) { return scan(f, nil) })}, nil
		})},
		{name: sideView, open: onText(func(path string) (*session, error) {
			f, err := mmapio.Open(path)
			if err != nil {
				return nil, err
			}
			return &session{close: f.Close, run: repeatedly(func() (sum uint64, err error) {
				size, err := f.Size()
				if err != nil {
					return 0, err
				}
				v, err := f.View(0, size)
				if err != nil {
					return 0, err
				}
				defer v.Release()
				return sum, v.Do(func(text []byte) error {
					sum = 0
					for line := range bytes.Lines(text) {
						sum = addLine(sum, bytes.TrimSuffix(line, []byte("\n")))
					}
					return nil
				})
			})}, nil
		})},
		{name: sideExp, open: onText(func(path string) (*session, error) {
			f, err := openExp(path)
			if err != nil {
				return nil, err
			}
			return &session{close: f.Close, run: repeatedly(func() (uint64, error) { return scan(f, nil) })}, nil
		})},
		{name: sideMmapGo, open: onText(func(path string) (*session, error) {
			f, err := openMmapGo(path)
			if err != nil {
				return nil, err
			}
			return &session{close: f.Close, run: repeatedly(func() (uint64, error) { return scan(bytes.NewReader(f.MMap), nil) })}, nil
		})},
	}
	for _, n := range append([]int{0}, streamBuffers...) {
		name, buffer := sideOS, []byte(nil)
		if n > 0 {
			name, buffer = bufferName(n), make([]byte, n)
		}
		sides = append(sides, side{name: name, open: onText(func(path string) (*session, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			return &session{close: f.Close, run: repeatedly(func() (uint64, error) { return scan(f, buffer) })}, nil
		})})
	}
	for _, crate := range []string{sideCrate, sideMemmap2} {
		sides = append(sides, rustWork{name: "lines"}.side(crate, false, func(w *workspace) (string, int64, error) {
			path, err := w.text("text", size)
			if err != nil {
				return "", 0, err
			}
			info, err := os.Stat(path)
			if err != nil {
				return "", 0, err
			}
			return path, info.Size(), nil
		}))
	}
	return sides
}

// dialled returns both ends of a connection over the loopback device.
func dialled() (near, far *net.TCPConn, err error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if near, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr)); err != nil {
		return nil, nil, err
	}
	if far, err = l.AcceptTCP(); err != nil {
		return nil, nil, errors.Join(err, near.Close())
	}
	return near, far, nil
}

// sends is the workload of sending a file over a connection. An operation is done when the
// other end has got all of it.
func sends(size int64) []side {
	return []side{
		{name: sideMmapio, open: sending(size, openMmapio)},
		{name: sideOS, open: sending(size, os.Open)},
		{name: sideExp, open: sending(size, openExp)},
	}
}

// seekable is a file that is read from its begin again and again.
type seekable interface {
	io.ReadSeeker
	io.Closer
}

func sending[F seekable](size int64, open func(path string) (F, error)) func(w *workspace) (*session, error) {
	return onFile("stream", size, func(path string, size int64) (*session, error) {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		near, far, err := dialled()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		type receipt struct {
			sum uint32
			err error
		}
		got := make(chan receipt)
		go func() {
			defer close(got)
			buffer := make([]byte, 256*kiB)
			for {
				h := crc32.New(castagnoli)
				n, err := io.CopyBuffer(h, plain(io.LimitReader(far, size)), buffer)
				if n == 0 {
					return // closed
				}
				if err == nil && n < size {
					err = io.ErrUnexpectedEOF
				}
				got <- receipt{h.Sum32(), err}
			}
		}()
		return &session{
			close: func() error {
				err := near.Close()
				for range got {
				}
				return errors.Join(err, far.Close(), f.Close())
			},
			run: repeatedly(func() (uint64, error) {
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					return 0, err
				}
				// As a program does: what the connection makes of the file is its business.
				if _, err := io.Copy(near, f); err != nil {
					return 0, err
				}
				r := <-got
				return uint64(r.sum), r.err
			}),
		}, nil
	})
}

// receipts is the workload of writing what comes over a connection to a new file.
func receipts(size int64) []side {
	return []side{
		{name: sideMmapio, open: receiving(sideMmapio, size, func(path string) (io.WriteCloser, error) { return mmapio.Create(path) })},
		{name: sideOS, open: receiving(sideOS, size, func(path string) (io.WriteCloser, error) { return os.Create(path) })},
	}
}

func receiving(name string, size int64, create func(path string) (io.WriteCloser, error)) func(w *workspace) (*session, error) {
	return func(w *workspace) (*session, error) {
		source, size, err := w.filled("stream", size)
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(source)
		if err != nil {
			return nil, err
		}
		near, far, err := dialled()
		if err != nil {
			return nil, err
		}
		wanted, sent := make(chan struct{}), make(chan error)
		go func() {
			defer close(sent)
			for range wanted {
				_, err := far.Write(content)
				sent <- err
			}
		}()
		path := w.path("received-" + name)
		return &session{
			file: path,
			close: func() error {
				close(wanted)
				err := near.Close()
				for range sent {
				}
				return errors.Join(err, far.Close())
			},
			run: repeatedly(func() (uint64, error) {
				if err := removeIfThere(path); err != nil {
					return 0, err
				}
				f, err := create(path)
				if err != nil {
					return 0, err
				}
				wanted <- struct{}{}
				n, err := io.Copy(f, io.LimitReader(near, size))
				return uint64(n), errors.Join(err, <-sent, f.Close())
			}),
		}, nil
	}
}

// copies is the workload of copying a file to a new one.
func copies(size int64) []side {
	return []side{
		{name: sideMmapio, open: copying(sideMmapio, size, openMmapio, func(path string) (io.WriteCloser, error) { return mmapio.Create(path) })},
		{name: sideOS, open: copying(sideOS, size, os.Open, func(path string) (io.WriteCloser, error) { return os.Create(path) })},
		{name: sideExp, open: copying(sideExp, size, openExp, func(path string) (io.WriteCloser, error) { return os.Create(path) })},
	}
}

func copying[F seekable](name string, size int64, open func(path string) (F, error), create func(path string) (io.WriteCloser, error)) func(w *workspace) (*session, error) {
	return func(w *workspace) (*session, error) {
		source, _, err := w.filled("stream", size)
		if err != nil {
			return nil, err
		}
		src, err := open(source)
		if err != nil {
			return nil, err
		}
		path := w.path("copied-" + name)
		return &session{
			file:  path,
			close: src.Close,
			run: repeatedly(func() (uint64, error) {
				if err := removeIfThere(path); err != nil {
					return 0, err
				}
				if _, err := src.Seek(0, io.SeekStart); err != nil {
					return 0, err
				}
				dst, err := create(path)
				if err != nil {
					return 0, err
				}
				n, err := io.Copy(dst, src)
				return uint64(n), errors.Join(err, dst.Close())
			}),
		}, nil
	}
}
