package mmapio_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/mmapio/mmapio"
)

// This file compares streams from and into a File with streams from and into an
// os.File: what arrives, counts, errors, positions and sizes afterwards.

// streamWay is one way to get at the file that is tested.
type streamWay struct {
	name    string
	options []mmapio.Option
	growing []mmapio.Option // more of them for a file that is opened to be read and written
	adopt   bool            // by FromFile
	share   bool            // the descriptor is handed out before the stream begins
	warm    bool            // read twice before, so that what can be in memory is known to be
}

var streamWays = []streamWay{
	{name: "MapNever", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapNever)}},
	{name: "MapAuto warm", warm: true},
	{name: "MapAlways", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}},
	{name: "MapAlways warm", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, warm: true},
	{name: "handed out", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, warm: true, share: true},
	{name: "FromFile", options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, warm: true, adopt: true},
}

// few of them differ most.
var few = []streamWay{streamWays[0], streamWays[3]}

func (w *streamWay) open(name string, flag int, perm fs.FileMode) (file, error) {
	options := w.options
	if flag&(os.O_WRONLY|os.O_RDWR|os.O_APPEND) == os.O_RDWR {
		options = slices.Concat(options, w.growing)
	}
	if !w.adopt {
		return mmapio.OpenFile(name, flag, perm, options...)
	}
	inner, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return mmapio.FromFile(inner, options...)
}

// streamRun is one stream on one side: os.File if way is nil, File otherwise. It
// writes down everything that a caller can see.
type streamRun struct {
	*side
	t     testing.TB
	way   *streamWay
	lines []string
}

// newStreamRun makes a run in a new folder inside dir, which finish removes.
func newStreamRun(t testing.TB, way *streamWay, dir string) *streamRun {
	t.Helper()
	dir, err := os.MkdirTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	r := &streamRun{t: t, way: way, side: osSide(dir)}
	if way != nil {
		r.side = mmapioSide(dir, way.options...)
		r.side.open = way.open
	}
	r.later(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

// describe is that of the side, without the port numbers in network errors.
func (r *streamRun) describe(err error) string {
	if e, ok := err.(*net.OpError); ok {
		return fmt.Sprintf("*OpError{%q, %q, %s}", e.Op, e.Net, r.describe(e.Err))
	}
	return r.side.describe(err)
}

func (r *streamRun) note(format string, args ...any) {
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// cachedPattern is patterned, made once for each size and seed. It must not be changed.
func cachedPattern(n, seed int) []byte {
	key := [2]int{n, seed}
	if b, ok := cachedPatterns.Load(key); ok {
		return b.([]byte)
	}
	b, _ := cachedPatterns.LoadOrStore(key, patterned(n, seed))
	return b.([]byte)
}

var cachedPatterns sync.Map

// create makes a file of that content.
func (r *streamRun) create(name string, content []byte) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), content, 0o666); err != nil {
		r.t.Fatal(err)
	}
}

// start opens a file on this side, warms it up if the way says so, and moves the
// position to at.
func (r *streamRun) start(name string, flag int, at int64) file {
	r.t.Helper()
	f, err := r.open(r.path(name), flag, 0o666)
	if err != nil {
		r.t.Fatal(err)
	}
	r.later(func() {
		if err := f.Close(); err != nil {
			r.t.Errorf("Close: %v", err)
		}
	})
	if r.way != nil && r.way.warm && flag&os.O_WRONLY == 0 {
		warmUp(r.t, f)
	}
	if r.way != nil && r.way.share {
		f.Fd()
	}
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		r.t.Fatal(err)
	}
	return f
}

// warmUp reads all of f, often enough for it to be mapped where it can be.
func warmUp(t testing.TB, f io.ReaderAt) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for range 20 {
		if _, err := f.ReadAt(buf[:1], 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
	}
	for range 2 {
		for off := int64(0); ; off += int64(len(buf)) {
			_, err := f.ReadAt(buf, off)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// noteFile writes down where the stream left a file: position, size here, size
// and content as others see them. Then it shows that the file is still good for use.
func (r *streamRun) noteFile(what string, f file) {
	r.t.Helper()
	r.note("%s: %s", what, r.position(f))
	info, err := f.Stat()
	r.note("%s: %s, %s", what, infoOf(info), r.describe(err))
	content, err := os.ReadFile(f.Name())
	if err != nil {
		r.t.Fatal(err)
	}
	r.note("%s: others see %s", what, bytesOf(content))
	var buf [100]byte
	n, err := f.Read(buf[:])
	r.note("%s: then Read %s, %s, %s", what, bytesOf(buf[:n]), r.describe(err), r.position(f))
	n, err = f.ReadAt(buf[:], 7)
	r.note("%s: then ReadAt %s, %s", what, bytesOf(buf[:n]), r.describe(err))
}

func (r *streamRun) position(f io.Seeker) string {
	at, err := f.Seek(0, io.SeekCurrent)
	return fmt.Sprintf("at %d, %s", at, r.describe(err))
}

// guarded runs a copy and writes down its count and error, or its panic.
func (r *streamRun) guarded(copy func() (int64, error)) { r.note("%s", r.outcome(copy)) }

func (r *streamRun) outcome(copy func() (int64, error)) (text string) {
	text = "no return" // of a goroutine that ends
	defer func() {
		if recovered := recover(); recovered != nil {
			text = fmt.Sprint("panic ", recovered)
		}
	}()
	n, err := copy()
	return fmt.Sprintf("copied %d, %s", n, r.describe(err))
}

// compareStreams runs the same stream with an os.File and with a File got at in
// each of the ways, in folders inside dir.
func compareStreams(t *testing.T, dir string, ways []streamWay, label string, stream func(r *streamRun)) {
	t.Helper()
	run := func(way *streamWay) []string {
		r := newStreamRun(t, way, dir)
		defer r.finish()
		stream(r)
		return r.lines
	}
	want := run(nil)
	for _, way := range ways {
		sameLines(t, way.name+", "+label, want, run(&way))
	}
}

func sameLines(t testing.TB, label string, want, got []string) {
	t.Helper()
	if slices.Equal(want, got) {
		return
	}
	var diff strings.Builder
	for i := range max(len(want), len(got)) {
		w, g := "nothing", "nothing"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w == g {
			fmt.Fprintf(&diff, "  both   %s\n", w)
		} else {
			fmt.Fprintf(&diff, "  os     %s\n  mmapio %s\n", w, g)
		}
	}
	t.Errorf("%s:\n%s", label, diff.String())
}

// writerOnly hides every method but Write.
type writerOnly struct{ io.Writer }

// readerOnly hides every method but Read.
type readerOnly struct{ io.Reader }

// streamSink is something to copy to. open returns the writer and a function that
// ends it and writes down what arrived.
type streamSink struct {
	name string
	open func(r *streamRun) (w io.Writer, end func())
	skip func(c streamCase) bool // cases that cannot be compared, if any
}

// collect reads everything from c in the background and writes it down at the end.
func (r *streamRun) collect(c io.Reader) (wait func()) {
	var all []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		all, err = io.ReadAll(c)
	}()
	return func() {
		<-done
		r.note("arrived %s, %s", bytesOf(all), r.describe(err))
	}
}

func bufferSink(name string, wrap func(w io.Writer) io.Writer) streamSink {
	return streamSink{name: name, open: func(r *streamRun) (io.Writer, func()) {
		var b bytes.Buffer
		w := wrap(&b)
		return w, func() {
			if c, ok := w.(io.Closer); ok {
				r.note("Close %s", r.describe(c.Close()))
			}
			if b, ok := w.(*bufio.Writer); ok {
				r.note("Flush %s", r.describe(b.Flush()))
			}
			r.note("arrived %s", bytesOf(b.Bytes()))
		}
	}}
}

// fileSink is a file of 5000 bytes that is written from at on.
func fileSink(name string, ours bool, flag int, at int64) streamSink {
	return streamSink{name: name, open: func(r *streamRun) (io.Writer, func()) {
		r.create("sink", patterned(5000, 2))
		open := r
		if !ours {
			open = &streamRun{side: osSide(r.dir), t: r.t}
		}
		f := open.start("sink", flag, at)
		return f, func() {
			open.noteFile("sink", f)
			if !ours {
				r.lines = append(r.lines, open.lines...)
				open.finish()
			}
		}
	}}
}

// withoutCopyN leaves out io.CopyN to an os.File that cannot be written. There the
// os.File asks a LimitedReader for an os.File, finds none, and reads a buffer
// before it notices that it cannot write; it finds an os.File and reads nothing.
func withoutCopyN(sink streamSink) streamSink {
	sink.skip = func(c streamCase) bool { return strings.HasPrefix(c.copy.name, "CopyN") }
	return sink
}

func connSink(name, network string) streamSink {
	return streamSink{name: name, open: func(r *streamRun) (io.Writer, func()) {
		near, far := connectedPair(r.t, network, r.path("socket"))
		wait := r.collect(far)
		return near, func() {
			near.Close()
			wait()
			far.Close()
		}
	}}
}

// connectedPair returns the two ends of a connection. A unix socket gets that name.
func connectedPair(t testing.TB, network, name string) (near, far net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = name
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no %s sockets here: %v", network, err)
	}
	defer listener.Close()
	accepted := make(chan error, 1)
	go func() {
		var err error
		far, err = listener.Accept()
		accepted <- err
	}()
	near, err = net.Dial(network, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	return near, far
}

var streamSinks = []streamSink{
	fileSink("os.File", false, os.O_RDWR, 0),
	fileSink("os.File from the middle", false, os.O_RDWR, 2500),
	fileSink("File", true, os.O_RDWR, 0),
	fileSink("File from the middle", true, os.O_RDWR, 2500),
	fileSink("File from past the end", true, os.O_RDWR, 9000),
	fileSink("File write-only", true, os.O_WRONLY, 2500),
	fileSink("File appending", true, os.O_RDWR|os.O_APPEND, 2500),
	fileSink("File read-only", true, os.O_RDONLY, 2500),
	withoutCopyN(fileSink("os.File read-only", false, os.O_RDONLY, 2500)),
	connSink("TCP", "tcp"),
	connSink("unix socket", "unix"),
	{name: "os.Pipe", open: func(r *streamRun) (io.Writer, func()) {
		far, near, err := os.Pipe()
		if err != nil {
			r.t.Fatal(err)
		}
		wait := r.collect(far)
		return near, func() {
			near.Close()
			wait()
			far.Close()
		}
	}},
	{name: "io.Pipe", open: func(r *streamRun) (io.Writer, func()) {
		far, near := io.Pipe()
		wait := r.collect(far)
		return near, func() {
			near.Close()
			wait()
		}
	}},
	{name: "sha256", open: func(r *streamRun) (io.Writer, func()) {
		h := sha256.New()
		return h, func() { r.note("sum %x", h.Sum(nil)) }
	}},
	{name: "crc32", open: func(r *streamRun) (io.Writer, func()) {
		h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		return h, func() { r.note("sum %x", h.Sum32()) }
	}},
	bufferSink("bytes.Buffer", func(w io.Writer) io.Writer { return w }),
	bufferSink("a Writer and nothing more", func(w io.Writer) io.Writer { return writerOnly{w} }),
	bufferSink("gzip", func(w io.Writer) io.Writer {
		z, _ := gzip.NewWriterLevel(w, gzip.NoCompression)
		return z
	}),
	bufferSink("flate", func(w io.Writer) io.Writer {
		z, _ := flate.NewWriter(w, flate.BestSpeed)
		return z
	}),
	bufferSink("bufio.Writer", func(w io.Writer) io.Writer { return bufio.NewWriterSize(w, 1000) }),
	bufferSink("bufio.Writer over a Writer", func(w io.Writer) io.Writer { return bufio.NewWriter(writerOnly{w}) }),
	bufferSink("io.MultiWriter", func(w io.Writer) io.Writer { return io.MultiWriter(w, io.Discard, crc32.NewIEEE()) }),
	bufferSink("io.Discard", func(io.Writer) io.Writer { return io.Discard }),
	{name: "http.ResponseWriter", open: func(r *streamRun) (io.Writer, func()) {
		begun, ended := make(chan http.ResponseWriter), make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			begun <- w
			<-ended
		}))
		body, far := io.Pipe()
		wait := r.collect(body)
		go func() {
			response, err := server.Client().Get(server.URL)
			if err == nil {
				_, err = io.Copy(far, response.Body)
				response.Body.Close()
			}
			far.CloseWithError(err)
		}()
		return <-begun, func() {
			close(ended)
			wait()
			server.Close()
		}
	}},
}

// streamCopy is a way to call for a copy.
type streamCopy struct {
	name string
	copy func(w io.Writer, r io.Reader, left int64) (int64, error)
}

// streamCopies are told how many bytes are left in the source.
var streamCopies = []streamCopy{
	{"Copy", func(w io.Writer, r io.Reader, _ int64) (int64, error) { return io.Copy(w, r) }},
	{"CopyN less", func(w io.Writer, r io.Reader, left int64) (int64, error) { return io.CopyN(w, r, left*2/3) }},
	{"CopyN all", func(w io.Writer, r io.Reader, left int64) (int64, error) { return io.CopyN(w, r, left) }},
	{"CopyN more", func(w io.Writer, r io.Reader, left int64) (int64, error) { return io.CopyN(w, r, left+1) }},
	{"CopyBuffer", func(w io.Writer, r io.Reader, _ int64) (int64, error) {
		return io.CopyBuffer(w, r, make([]byte, 777))
	}},
	{"CopyBuffer of readers and writers only", func(w io.Writer, r io.Reader, _ int64) (int64, error) {
		return io.CopyBuffer(writerOnly{w}, readerOnly{r}, make([]byte, 5000))
	}},
}

// sourceSize is the length of most sources here: some buffers of io.Copy, some
// pages, and a bit.
const sourceSize = 3*32<<10 + 4096 + 77

// longSourceSize is longer than what is mapped at once for a stream.
const longSourceSize = 2<<20 + 300<<10 + 77

// streamCase is where a stream begins, how it is called for, and in which ways the
// file is got at.
type streamCase struct {
	size int
	at   int64
	copy streamCopy
	ways []streamWay
}

// streamCases combines everything where much differs, and little elsewhere.
func streamCases() []streamCase {
	whole := streamCopies[0]
	cases := []streamCase{
		{sourceSize, 0, whole, streamWays},
		{sourceSize, sourceSize/2 + 1, whole, streamWays},
		{longSourceSize, 5000, whole, few},
		{sourceSize, sourceSize, whole, few},
		{sourceSize, sourceSize + 1000, whole, few},
		{100, 0, whole, few},
		{0, 0, whole, few},
	}
	for _, c := range streamCopies[1:] {
		cases = append(cases, streamCase{sourceSize, sourceSize/2 + 1, c, few})
	}
	for _, c := range streamCopies[1:4] {
		cases = append(cases, streamCase{sourceSize, sourceSize, c, few})
	}
	return cases
}

// A stream from a File is the stream from an os.File.
func TestStreamFrom(t *testing.T) {
	for _, sink := range slices.Concat(streamSinks, failingSinks) {
		t.Run(sink.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, c := range streamCases() {
				if sink.skip != nil && sink.skip(c) {
					continue
				}
				label := fmt.Sprintf("%s, from %d of %d", c.copy.name, c.at, c.size)
				compareStreams(t, dir, c.ways, label, func(r *streamRun) { streamFrom(r, sink, c) })
			}
		})
	}
}

func streamFrom(r *streamRun, sink streamSink, c streamCase) {
	r.create("source", cachedPattern(c.size, 1))
	f := r.start("source", os.O_RDWR, c.at)
	w, end := sink.open(r)
	r.guarded(func() (int64, error) { return c.copy.copy(w, f, max(0, int64(c.size)-c.at)) })
	end()
	r.noteFile("source", f)
}

// badWriter does what is right up to a number of bytes, and then what fail does.
type badWriter struct {
	arrived bytes.Buffer
	left    int
	fail    func(n int) (int, error) // called with the number of bytes that could be taken
}

func (w *badWriter) Write(b []byte) (int, error) {
	if len(b) <= w.left {
		w.left -= len(b)
		return w.arrived.Write(b)
	}
	n := w.left
	w.arrived.Write(b[:n])
	w.left = 0
	return w.fail(n)
}

// giveUpReaderFrom reads some bytes from its reader by itself and then stops.
type giveUpReaderFrom struct {
	arrived bytes.Buffer
	n       int
	hide    int // so many bytes are left out of the count
	err     error
}

func (w *giveUpReaderFrom) Write(b []byte) (int, error) { return w.arrived.Write(b) }

func (w *giveUpReaderFrom) ReadFrom(r io.Reader) (int64, error) {
	b := make([]byte, w.n)
	n, err := io.ReadFull(r, b)
	w.arrived.Write(b[:n])
	if err == nil {
		err = w.err
	}
	return int64(n - min(n, w.hide)), err
}

var failingSinks = makeFailingSinks()

func makeFailingSinks() []streamSink {
	sink := func(name string, open func() (w io.Writer, arrived *bytes.Buffer)) streamSink {
		return streamSink{name: name, open: func(r *streamRun) (io.Writer, func()) {
			w, arrived := open()
			return w, func() { r.note("arrived %s", bytesOf(arrived.Bytes())) }
		}}
	}
	var sinks []streamSink
	bad := func(name string, after int, fail func(n int) (int, error)) {
		name = fmt.Sprintf("%s after %d", name, after)
		sinks = append(sinks,
			sink("a writer that "+name, func() (io.Writer, *bytes.Buffer) {
				w := &badWriter{left: after, fail: fail}
				return w, &w.arrived
			}),
			sink("a hash that "+name, func() (io.Writer, *bytes.Buffer) {
				w := &badWriter{left: after, fail: fail}
				return asHash{w}, &w.arrived
			}))
	}
	for _, after := range []int{0, 70_000, 2<<20 + 10_000} {
		bad("fails", after, func(n int) (int, error) { return n, errBrokenWriter })
		bad("is short", after, func(n int) (int, error) { return n, nil })
		bad("panics", after, func(int) (int, error) { panic("out of order") })
	}
	bad("counts too many", 0, func(int) (int, error) { return 1 << 20, nil })
	bad("counts below zero", 0, func(int) (int, error) { return -1, nil })
	bad("counts too many and fails", 0, func(int) (int, error) { return 1 << 20, errBrokenWriter })
	bad("returns EOF", 1000, func(n int) (int, error) { return n, io.EOF })
	return append(sinks,
		sink("a writer that takes all and fails", func() (io.Writer, *bytes.Buffer) {
			var b bytes.Buffer
			return writerFunc(func(p []byte) (int, error) {
				n, _ := b.Write(p)
				return n, errBrokenWriter
			}), &b
		}),
		sink("a ReaderFrom that gives up", func() (io.Writer, *bytes.Buffer) {
			w := &giveUpReaderFrom{n: 50, err: errBrokenWriter}
			return w, &w.arrived
		}),
		sink("a ReaderFrom that counts too few", func() (io.Writer, *bytes.Buffer) {
			w := &giveUpReaderFrom{n: 50, hide: 20}
			return w, &w.arrived
		}),
		sink("a ReaderFrom that stops", func() (io.Writer, *bytes.Buffer) {
			w := &giveUpReaderFrom{n: 50}
			return w, &w.arrived
		}),
		sink("bufio.Writer over a writer that fails", func() (io.Writer, *bytes.Buffer) {
			w := &brokenWriter{left: 50_000}
			return bufio.NewWriter(w), &w.taken
		}),
		sink("io.MultiWriter with a writer that fails", func() (io.Writer, *bytes.Buffer) {
			w := &brokenWriter{left: 50_000}
			return io.MultiWriter(io.Discard, w), &w.taken
		}),
		streamSink{name: "os.Pipe without a reader", open: func(r *streamRun) (io.Writer, func()) {
			far, near, err := os.Pipe()
			if err != nil {
				r.t.Fatal(err)
			}
			far.Close()
			return near, func() { near.Close() }
		}},
		streamSink{name: "io.Pipe whose reader stops", open: func(r *streamRun) (io.Writer, func()) {
			far, near := io.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				io.CopyN(io.Discard, far, 40_000)
				far.CloseWithError(errBrokenReader)
			}()
			return near, func() {
				near.Close()
				<-done
			}
		}},
		withoutCopyN(streamSink{name: "a closed os.File", open: func(r *streamRun) (io.Writer, func()) {
			r.create("sink", nil)
			f, err := os.Create(r.path("sink"))
			if err != nil {
				r.t.Fatal(err)
			}
			f.Close()
			return f, func() {}
		}}),
		streamSink{name: "a closed File", open: func(r *streamRun) (io.Writer, func()) {
			r.create("sink", nil)
			f, err := r.open(r.path("sink"), os.O_RDWR, 0)
			if err != nil {
				r.t.Fatal(err)
			}
			f.Close()
			return f, func() {}
		}},
		streamSink{name: "a closed TCP connection", open: func(r *streamRun) (io.Writer, func()) {
			near, far := connectedPair(r.t, "tcp", "")
			near.Close()
			return near, func() { far.Close() }
		}},
	)
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// streamSource is something to copy from. open returns a reader of those bytes and
// a function that ends it and writes down what is left of it.
type streamSource struct {
	name string
	open func(r *streamRun, data []byte) (io.Reader, func())
}

func readerSource(name string, open func(data []byte) io.Reader) streamSource {
	return streamSource{name: name, open: func(r *streamRun, data []byte) (io.Reader, func()) {
		reader := open(data)
		return reader, func() { r.noteRest(reader) }
	}}
}

// noteRest writes down what can still be read.
func (r *streamRun) noteRest(reader io.Reader) {
	if limited, ok := reader.(*io.LimitedReader); ok {
		r.note("limit %d", limited.N)
		reader = limited.R
	}
	rest, err := io.ReadAll(reader)
	r.note("rest %s, %s", bytesOf(rest), r.describe(err))
}

// fileSource is a file with 333 bytes before the data. With limit it has 333 bytes
// after them too, and a LimitedReader around it.
func fileSource(name string, ours bool, flag int, limit bool) streamSource {
	return streamSource{name: name, open: func(r *streamRun, data []byte) (io.Reader, func()) {
		content := slices.Concat(patterned(333, 3), data)
		if limit {
			content = append(content, patterned(333, 4)...)
		}
		r.create("source", content)
		open := r
		if !ours {
			open = &streamRun{side: osSide(r.dir), t: r.t}
		}
		f := open.start("source", flag, 333)
		var reader io.Reader = f
		if limit {
			reader = io.LimitReader(f, int64(len(data)))
		}
		return reader, func() {
			if limit {
				r.note("limit %d", reader.(*io.LimitedReader).N)
			}
			open.noteFile("source", f)
			if !ours {
				r.lines = append(r.lines, open.lines...)
				open.finish()
			}
		}
	}}
}

// sent is a source whose other end sends the data in the background. What is left
// is not compared if the copy fails, because then it depends on timing.
func sent(name string, pair func(r *streamRun) (near io.ReadCloser, far io.WriteCloser)) streamSource {
	return streamSource{name: name, open: func(r *streamRun, data []byte) (io.Reader, func()) {
		near, far := pair(r)
		done := make(chan struct{})
		go func() {
			defer close(done)
			far.Write(data)
			far.Close()
		}()
		return near, func() {
			if strings.HasPrefix(r.lines[len(r.lines)-1], "copied 0") {
				near.Close()
			} else {
				r.noteRest(near)
			}
			near.Close()
			<-done
		}
	}}
}

var streamSources = []streamSource{
	fileSource("os.File", false, os.O_RDONLY, false),
	fileSource("File", true, os.O_RDONLY, false),
	fileSource("File read-write", true, os.O_RDWR, false),
	fileSource("File write-only", true, os.O_WRONLY, false),
	fileSource("LimitedReader over os.File", false, os.O_RDONLY, true),
	fileSource("LimitedReader over File", true, os.O_RDONLY, true),
	fileSource("LimitedReader over write-only File", true, os.O_WRONLY, true),
	sent("TCP", func(r *streamRun) (io.ReadCloser, io.WriteCloser) {
		near, far := connectedPair(r.t, "tcp", "")
		return near, far
	}),
	sent("unix socket", func(r *streamRun) (io.ReadCloser, io.WriteCloser) {
		near, far := connectedPair(r.t, "unix", r.path("socket"))
		return near, far
	}),
	sent("os.Pipe", func(r *streamRun) (io.ReadCloser, io.WriteCloser) {
		near, far, err := os.Pipe()
		if err != nil {
			r.t.Fatal(err)
		}
		return near, far
	}),
	sent("io.Pipe", func(r *streamRun) (io.ReadCloser, io.WriteCloser) {
		near, far := io.Pipe()
		return near, far
	}),
	readerSource("bytes.Reader", func(data []byte) io.Reader { return bytes.NewReader(data) }),
	readerSource("bytes.Buffer", func(data []byte) io.Reader { return bytes.NewBuffer(slices.Clone(data)) }),
	readerSource("strings.Reader", func(data []byte) io.Reader { return strings.NewReader(string(data)) }),
	readerSource("bufio.Reader", func(data []byte) io.Reader { return bufio.NewReader(bytes.NewReader(data)) }),
	readerSource("a Reader and nothing more", func(data []byte) io.Reader { return readerOnly{bytes.NewReader(data)} }),
	readerSource("LimitedReader", func(data []byte) io.Reader {
		return io.LimitReader(bytes.NewReader(slices.Concat(data, patterned(99, 4))), int64(len(data)))
	}),
	readerSource("LimitedReader at its limit", func(data []byte) io.Reader {
		return io.LimitReader(bytes.NewReader(data), 0)
	}),
	readerSource("io.MultiReader", func(data []byte) io.Reader {
		return io.MultiReader(bytes.NewReader(data[:len(data)/2]), bytes.NewReader(data[len(data)/2:]))
	}),
	readerSource("gzip", func(data []byte) io.Reader {
		var packed bytes.Buffer
		w, _ := gzip.NewWriterLevel(&packed, gzip.NoCompression)
		w.Write(data)
		w.Close()
		r, err := gzip.NewReader(&packed)
		if err != nil {
			panic(err)
		}
		return r
	}),
	{name: "TeeReader", open: func(r *streamRun, data []byte) (io.Reader, func()) {
		var seen bytes.Buffer
		tee := io.TeeReader(bytes.NewReader(data), &seen)
		return tee, func() {
			r.noteRest(tee)
			r.note("seen %s", bytesOf(seen.Bytes()))
		}
	}},
	{name: "http body", open: func(r *streamRun, data []byte) (io.Reader, func()) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(data) }))
		response, err := server.Client().Get(server.URL)
		if err != nil {
			r.t.Fatal(err)
		}
		return response.Body, func() {
			r.noteRest(response.Body)
			response.Body.Close()
			server.Close()
		}
	}},

	// Sources that misbehave, or nearly.
	readerSource("a reader that fails at once", func([]byte) io.Reader { return iotest.ErrReader(errBrokenReader) }),
	readerSource("a reader that fails half-way", func(data []byte) io.Reader {
		return &brokenReader{data: data[:len(data)/2], err: errBrokenReader}
	}),
	readerSource("a reader that ends unexpectedly", func(data []byte) io.Reader {
		return &brokenReader{data: data[:len(data)/2], err: io.ErrUnexpectedEOF}
	}),
	readerSource("LimitedReader over a reader that fails", func(data []byte) io.Reader {
		return io.LimitReader(&brokenReader{data: data[:len(data)/2], err: errBrokenReader}, int64(len(data)))
	}),
	readerSource("a reader that fails with its last bytes", func(data []byte) io.Reader {
		return iotest.DataErrReader(&brokenReader{data: data, err: errBrokenReader})
	}),
	readerSource("a reader that gives EOF with its last bytes", func(data []byte) io.Reader {
		return iotest.DataErrReader(bytes.NewReader(data))
	}),
	readerSource("a reader of half buffers", func(data []byte) io.Reader {
		return iotest.HalfReader(bytes.NewReader(data))
	}),
	readerSource("a reader that uses the whole buffer", func(data []byte) io.Reader {
		return &scribblingReader{data}
	}),
	{name: "a reader that counts too many", open: func(*streamRun, []byte) (io.Reader, func()) {
		return readerFunc(func([]byte) (int, error) { return 1 << 20, errBrokenReader }), func() {}
	}},
	{name: "a reader that panics half-way", open: func(_ *streamRun, data []byte) (io.Reader, func()) {
		half := bytes.NewReader(data[:len(data)/2])
		return readerFunc(func(b []byte) (int, error) {
			if half.Len() == 0 {
				panic("out of order")
			}
			return half.Read(b)
		}), func() {}
	}},
	{name: "a closed os.File", open: func(r *streamRun, data []byte) (io.Reader, func()) {
		r.create("source", data)
		f, err := os.Open(r.path("source"))
		if err != nil {
			r.t.Fatal(err)
		}
		f.Close()
		return f, func() {}
	}},
	{name: "a closed File", open: func(r *streamRun, data []byte) (io.Reader, func()) {
		r.create("source", data)
		f, err := r.open(r.path("source"), os.O_RDWR, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		f.Close()
		return f, func() {}
	}},
	{name: "LimitedReader over a closed File", open: func(r *streamRun, data []byte) (io.Reader, func()) {
		r.create("source", data)
		f, err := r.open(r.path("source"), os.O_RDWR, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		f.Close()
		limited := &io.LimitedReader{R: f, N: 10}
		return limited, func() { r.note("limit %d", limited.N) }
	}},
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// scribblingReader yields a little at a time and uses the rest of the buffer for
// its own purposes, as a Reader may.
type scribblingReader struct{ data []byte }

func (r *scribblingReader) Read(b []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.data[:min(len(r.data), 1000)])
	r.data = r.data[n:]
	copy(b[n:], scribble)
	return n, nil
}

var scribble = bytes.Repeat([]byte{0xEE}, 64<<10)

// intoCase is where a stream into a file goes: size bytes are there, the position
// is at, and the file is open with flag.
type intoCase struct {
	size int
	at   int64
	flag int
	ways []streamWay
}

// preallocating is a way for files that are written from one place.
var preallocating = streamWay{name: "WithPreallocate", warm: true,
	options: []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)},
	growing: []mmapio.Option{mmapio.WithPreallocate(1 << 20)}}

// mostOfThem is what a longer test can afford.
var mostOfThem = []streamWay{streamWays[1], streamWays[3], streamWays[4], preallocating}

func intoCases() []intoCase {
	all := slices.Concat(streamWays, []streamWay{preallocating})
	const inside = 2 * sourceSize
	return []intoCase{
		{0, 0, os.O_RDWR, all},
		{inside, 12345, os.O_RDWR, all},
		{inside, inside - 1000, os.O_RDWR, mostOfThem},
		{inside, inside, os.O_RDWR, mostOfThem},
		{1000, 10_000, os.O_RDWR, all},
		{inside, 12345, os.O_WRONLY, few},
		{inside, 12345, os.O_RDWR | os.O_APPEND, few},
		{1000, 0, os.O_WRONLY | os.O_APPEND, few},
		{inside, 12345, os.O_RDONLY, few},
	}
}

// A stream into a File is the stream into an os.File.
func TestStreamInto(t *testing.T) {
	copies := slices.Concat(streamCopies, []streamCopy{
		{"ReadFrom", func(w io.Writer, r io.Reader, _ int64) (int64, error) { return w.(io.ReaderFrom).ReadFrom(r) }},
	})
	for _, source := range streamSources {
		t.Run(source.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, c := range intoCases() {
				for i, copy := range copies {
					ways := c.ways
					if i > 0 { // little depends on how the copy is called for
						ways = ways[len(ways)-1:]
					}
					if i > 0 && (c.at != 12345 || c.flag != os.O_RDWR) {
						continue
					}
					label := fmt.Sprintf("%s, to %d of %d, flag %#x", copy.name, c.at, c.size, c.flag)
					compareStreams(t, dir, ways, label, func(r *streamRun) { streamInto(r, source, c, copy) })
				}
			}
		})
	}
}

func streamInto(r *streamRun, source streamSource, c intoCase, copy streamCopy) {
	r.create("target", cachedPattern(c.size, 2))
	f := r.start("target", c.flag, c.at)
	data := cachedPattern(sourceSize, 1)
	reader, end := source.open(r, data)
	r.guarded(func() (int64, error) { return copy.copy(f, reader, int64(len(data))) })
	end()
	r.noteFile("target", f)
}

// The space that was allocated ahead of a growing file is in no stream from it,
// and in the way of none into it.
func TestStreamPreallocated(t *testing.T) {
	ways := []streamWay{preallocating, {name: "WithPreallocate handed out", growing: preallocating.growing, share: true}}
	for _, sink := range streamSinks {
		t.Run(sink.name, func(t *testing.T) {
			compareStreams(t, t.TempDir(), ways, sink.name, func(r *streamRun) {
				r.create("source", nil)
				f := r.start("source", os.O_RDWR, 0)
				end := func() {}
				for i := range 3 { // grown by itself, then by a stream, then read by one, each time
					n, err := f.Write(cachedPattern(1000, i))
					r.note("%d, %s", n, r.describe(err))
					r.guarded(func() (int64, error) { return io.Copy(f, readerOnly{bytes.NewReader(cachedPattern(50_000, i))}) })
					n, err = f.WriteAt(cachedPattern(1000, i), int64(i+1)*70_000) // leaves a hole
					r.note("%d, %s", n, r.describe(err))
					n, err = f.WriteAt(cachedPattern(1000, i), int64(i+1)*70_000+1000)
					r.note("%d, %s", n, r.describe(err))
					w := io.Writer(&bytes.Buffer{})
					if i == 2 {
						w, end = sink.open(r)
					}
					r.guarded(func() (int64, error) { return io.Copy(w, f) })
				}
				end()
				n, err := f.Write(cachedPattern(1000, 4))
				r.note("%d, %s", n, r.describe(err))
				at, err := f.Seek(1000, io.SeekStart)
				r.note("%d, %s", at, r.describe(err))
				r.guarded(func() (int64, error) { return io.CopyN(&bytes.Buffer{}, f, 1<<20) })
				r.noteFile("source", f)
			})
		})
	}
}
