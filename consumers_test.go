package mmapio_test

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"encoding/csv"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"text/template"
	"time"

	"github.com/mmapio/mmapio"
)

// This file has packages of the standard library work on a File, as they do on an
// os.File: the same program for both, and the same file afterwards.

// consumer is a program that uses a file. It writes down what it sees.
type consumer struct {
	name string
	run  func(r *streamRun, f file)
}

// consumers are given an empty file that is open to be read and written.
var consumers = []consumer{
	{"archive/zip", useZip},
	{"archive/tar", useTar},
	{"compress/gzip", useGzip},
	{"encoding/json", useJSON},
	{"encoding/csv", useCSV},
	{"encoding/xml", useXML},
	{"encoding/gob", useGob},
	{"encoding/binary", useBinary},
	{"image/png", usePNG},
	{"bufio.Scanner", useScanner},
	{"bufio.ReadWriter", useReadWriter},
	{"fmt", useFmt},
	{"log", useLog},
	{"text/template", useTemplate},
	{"io.SectionReader", useSections},
	{"io.OffsetWriter", useOffsetWriter},
	{"pages of a database", usePages},
	{"upload by net/http", useUpload},
}

// Programs that use a file do the same with a File.
func TestConsumers(t *testing.T) {
	for _, c := range consumers {
		t.Run(c.name, func(t *testing.T) {
			compareStreams(t, t.TempDir(), mostOfThem, c.name, func(r *streamRun) {
				f, err := r.open(r.path("file"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
				if err != nil {
					t.Fatal(err)
				}
				if r.way != nil && r.way.share {
					f.Fd()
				}
				c.run(r, f)
				r.note("Close %s", r.describe(f.Close()))
				content, err := os.ReadFile(r.path("file"))
				r.note("others see %s, %s", bytesOf(content), r.describe(err))
			})
		})
	}
}

// must reports an error of something that has to work.
func (r *streamRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Errorf("%s: %v", r.name, err)
	}
}

// rewind goes back to the beginning of f, which is then warmed up as the way says.
func (r *streamRun) rewind(f file) {
	r.t.Helper()
	if r.way != nil && r.way.warm {
		warmUp(r.t, f)
	}
	_, err := f.Seek(0, io.SeekStart)
	r.must(err)
}

// entries are the names and sizes of what goes into archives.
var entries = []struct {
	name string
	size int
}{{"empty", 0}, {"small.txt", 100}, {"dir/page", 4096}, {"dir/large", 300_000}}

// whenever is a time of modification that does not depend on when the test runs.
var whenever = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

func useZip(r *streamRun, f file) {
	w := zip.NewWriter(f)
	for i, e := range entries {
		method := []uint16{zip.Store, zip.Deflate}[i%2]
		out, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Method: method, Modified: whenever})
		r.must(err)
		_, err = out.Write(cachedPattern(e.size, i))
		r.must(err)
	}
	r.must(w.Close())

	r.rewind(f)
	info, err := f.Stat()
	r.must(err)
	archive, err := zip.NewReader(f, info.Size())
	if err != nil {
		r.t.Fatal(err)
	}
	for i, e := range archive.File {
		in, err := e.Open()
		r.must(err)
		content, err := io.ReadAll(in)
		r.must(err)
		r.must(in.Close())
		r.note("%s %d %v", e.Name, e.CompressedSize64, bytes.Equal(content, cachedPattern(entries[i].size, i)))
	}
	// Another one behind it: the reader finds the last directory.
	_, err = f.Seek(0, io.SeekEnd)
	r.must(err)
	w = zip.NewWriter(f)
	w.SetOffset(info.Size())
	_, err = w.Create("second")
	r.must(err)
	r.must(w.Close())
	if info, err = f.Stat(); err == nil {
		archive, err = zip.NewReader(f, info.Size())
	}
	r.must(err)
	r.note("%d entry", len(archive.File))
}

func useTar(r *streamRun, f file) {
	w := tar.NewWriter(f)
	for i, e := range entries {
		r.must(w.WriteHeader(&tar.Header{Name: e.name, Size: int64(e.size), Mode: 0o644, ModTime: whenever}))
		_, err := io.Copy(w, bytes.NewReader(cachedPattern(e.size, i)))
		r.must(err)
	}
	r.must(w.Close())

	r.rewind(f)
	archive := tar.NewReader(f) // skips by Seek what nobody reads
	for i := 0; ; i++ {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		r.must(err)
		if i%2 == 0 {
			r.note("%s skipped, %s", header.Name, r.position(f))
			continue
		}
		content, err := io.ReadAll(archive)
		r.must(err)
		r.note("%s %v, %s", header.Name, bytes.Equal(content, cachedPattern(entries[i].size, i)), r.position(f))
	}
}

func useGzip(r *streamRun, f file) {
	content := bytes.Repeat(cachedPattern(5000, 1), 60)
	for range 2 { // two streams, one behind the other
		w := gzip.NewWriter(f)
		_, err := io.Copy(w, bytes.NewReader(content))
		r.must(err)
		r.must(w.Close())
	}
	r.rewind(f)
	in, err := gzip.NewReader(f)
	if err != nil {
		r.t.Fatal(err)
	}
	unpacked, err := io.ReadAll(in)
	r.must(err)
	r.note("%v, %s", bytes.Equal(unpacked, slices.Concat(content, content)), r.position(f))
}

// record is what the encodings are about.
type record struct {
	ID   int
	Name string
	Tags []string `json:",omitempty"`
}

func records() []record {
	all := make([]record, 2000)
	for i := range all {
		all[i] = record{ID: i, Name: fmt.Sprintf("name \"%d\",\n<&>", i), Tags: make([]string, i%3)}
	}
	return all
}

func useJSON(r *streamRun, f file) {
	encoder := json.NewEncoder(f)
	for _, rec := range records() {
		r.must(encoder.Encode(rec))
	}
	r.rewind(f)
	decoder := json.NewDecoder(f)
	sum := 0
	for decoder.More() {
		var rec record
		r.must(decoder.Decode(&rec))
		sum += rec.ID + len(rec.Name) + len(rec.Tags)
	}
	r.note("sum %d, offset %d, %s", sum, decoder.InputOffset(), r.position(f))
}

func useCSV(r *streamRun, f file) {
	w := csv.NewWriter(f)
	for _, rec := range records() {
		r.must(w.Write([]string{strconv.Itoa(rec.ID), rec.Name}))
	}
	w.Flush()
	r.must(w.Error())
	r.rewind(f)
	rows, err := csv.NewReader(f).ReadAll()
	r.must(err)
	r.note("%d rows, last %q", len(rows), rows[len(rows)-1])
}

func useXML(r *streamRun, f file) {
	r.must(xml.NewEncoder(f).Encode(records()))
	r.rewind(f)
	decoder := xml.NewDecoder(f)
	tokens := 0
	for {
		_, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			r.t.Fatal(err)
		}
		tokens++
	}
	r.note("%d tokens", tokens)
}

func useGob(r *streamRun, f file) {
	r.must(gob.NewEncoder(f).Encode(records()))
	info, err := f.Stat()
	r.must(err)
	r.rewind(f)
	var got []record
	r.must(gob.NewDecoder(io.NewSectionReader(f, 0, info.Size())).Decode(&got))
	r.note("%d records, %s, %s", len(got), got[7].Name, r.position(f))
}

func useBinary(r *streamRun, f file) {
	type header struct {
		Magic   [4]byte
		Version uint16
		Count   uint64
	}
	want := header{[4]byte{'m', 'm', 'i', 'o'}, 3, 1 << 40}
	for range 500 {
		r.must(binary.Write(f, binary.BigEndian, want))
	}
	r.rewind(f)
	for i := range 500 {
		var got header
		r.must(binary.Read(f, binary.BigEndian, &got))
		if got != want {
			r.t.Errorf("%s: header %d is %v", r.name, i, got)
		}
	}
	var none header
	r.note("then %s, %s", r.describe(binary.Read(f, binary.BigEndian, &none)), r.position(f))
}

func usePNG(r *streamRun, f file) {
	picture := image.NewNRGBA(image.Rect(0, 0, 300, 200))
	for x := range 300 {
		for y := range 200 {
			picture.Set(x, y, color.NRGBA{uint8(x), uint8(y), uint8(x * y), 255 - uint8(x^y)})
		}
	}
	r.must(png.Encode(f, picture))
	r.rewind(f)
	config, format, err := image.DecodeConfig(f)
	r.must(err)
	r.note("%dx%d %s", config.Width, config.Height, format)
	r.rewind(f)
	got, err := png.Decode(f)
	r.must(err)
	same := got.Bounds() == picture.Bounds()
	for x := range 300 {
		for y := range 200 {
			same = same && got.At(x, y) == picture.At(x, y)
		}
	}
	r.note("same %v, %s", same, r.position(f))
}

func useScanner(r *streamRun, f file) {
	w := bufio.NewWriter(f)
	for i := range 20_000 {
		fmt.Fprintf(w, "line %d\n", i*i)
	}
	r.must(w.Flush())
	for _, split := range []bufio.SplitFunc{bufio.ScanLines, bufio.ScanWords, bufio.ScanBytes} {
		r.rewind(f)
		scanner := bufio.NewScanner(f)
		scanner.Split(split)
		n, length := 0, 0
		for scanner.Scan() {
			n++
			length += len(scanner.Bytes())
		}
		r.must(scanner.Err())
		r.note("%d tokens of %d bytes, %s", n, length, r.position(f))
	}
}

func useReadWriter(r *streamRun, f file) {
	_, err := f.WriteString(strings.Repeat("a line to be read\n", 5000))
	r.must(err)
	r.rewind(f)
	rw := bufio.NewReadWriter(bufio.NewReaderSize(f, 100), bufio.NewWriterSize(f, 100))
	for range 10 {
		line, err := rw.ReadString('\n')
		r.must(err)
		r.note("%q", line)
	}
	_, err = rw.WriteString("written behind what was read ahead\n")
	r.must(err)
	r.must(rw.Flush())
	r.note("%s", r.position(f))
	rest, err := io.ReadAll(rw)
	r.note("rest %s, %s", bytesOf(rest), r.describe(err))
}

func useFmt(r *streamRun, f file) {
	for i := range 1000 {
		_, err := fmt.Fprintf(f, "%d %q %x\n", i, "text", i*i)
		r.must(err)
	}
	r.rewind(f)
	sum := 0
	for range 1000 { // Fscanf asks for one byte at a time
		var i, square int
		var text string
		_, err := fmt.Fscanf(f, "%d %q %x\n", &i, &text, &square)
		r.must(err)
		sum += i + square + len(text)
	}
	r.note("sum %d, %s", sum, r.position(f))
}

func useLog(r *streamRun, f file) {
	plain := log.New(f, "prefix ", 0)
	structured := slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	for i := range 1000 {
		plain.Print("entry ", i)
		structured.Info("entry", "number", i)
	}
	r.note("%s", r.position(f))
}

func useTemplate(r *streamRun, f file) {
	page := template.Must(template.New("page").Parse("{{range .}}{{.ID}}: {{.Name | html}} {{len .Tags}}\n{{end}}"))
	r.must(page.Execute(f, records()))
	r.note("%s", r.position(f))
}

// useSections has several cursors on one file, each in its own part.
func useSections(r *streamRun, f file) {
	const part = 10_000
	for i := range 8 {
		_, err := f.Write(cachedPattern(part, i))
		r.must(err)
	}
	r.rewind(f)
	var wg sync.WaitGroup
	for i := range 8 {
		section := io.NewSectionReader(f, int64(i*part), part)
		wg.Go(func() {
			got, err := io.ReadAll(section)
			r.must(err)
			if !bytes.Equal(got, cachedPattern(part, i)) {
				r.t.Errorf("%s: section %d differs", r.name, i)
			}
			if _, err := section.Seek(-10, io.SeekEnd); err != nil {
				r.t.Error(err)
			}
			if got, err := io.ReadAll(bufio.NewReader(section)); len(got) != 10 || err != nil {
				r.t.Errorf("%s: %d bytes at the end of section %d, %v", r.name, len(got), i, err)
			}
		})
	}
	wg.Wait()
	past := io.NewSectionReader(f, 8*part-5, 10)
	got, err := io.ReadAll(past)
	r.note("at the end %s, %s, %s", bytesOf(got), r.describe(err), r.position(f))
	n, err := past.ReadAt(make([]byte, 3), 4)
	r.note("%d, %s", n, r.describe(err))
}

// useOffsetWriter writes several parts of a file at once, the last ones first.
func useOffsetWriter(r *streamRun, f file) {
	const part = 50_000
	var wg sync.WaitGroup
	for i := range 6 {
		w := io.NewOffsetWriter(f, int64((5-i)*part))
		wg.Go(func() {
			n, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(cachedPattern(part, i))))
			if n != part || err != nil {
				r.t.Errorf("%s: wrote %d of part %d, %v", r.name, n, i, err)
			}
		})
	}
	wg.Wait()
	info, err := f.Stat()
	r.note("%s, %s, %s", infoOf(info), r.describe(err), r.position(f))
}

// usePages is a store of pages with an index of keys that is searched on file.
func usePages(r *streamRun, f file) {
	const pageLength, pages = 512, 300
	page := make([]byte, pageLength)
	for i := range pages {
		at := (i * 7) % pages // not in order
		binary.LittleEndian.PutUint64(page, uint64(at*at))
		copy(page[8:], cachedPattern(pageLength-8, at))
		_, err := f.WriteAt(page, int64(at*pageLength))
		r.must(err)
	}
	r.rewind(f)
	key := func(i int) uint64 {
		var b [8]byte
		_, err := f.ReadAt(b[:], int64(i*pageLength))
		r.must(err)
		return binary.LittleEndian.Uint64(b[:])
	}
	found := 0
	for want := range uint64(5000) {
		i := sort.Search(pages, func(i int) bool { return key(i) >= want })
		if i < pages && key(i) == want {
			found++
		}
	}
	r.note("%d found", found)
	// Updates in place, and a page more while others read.
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range pages {
			_, err := f.WriteAt([]byte{1, 2, 3}, int64(i*pageLength+100))
			r.must(err)
		}
		_, err := f.WriteAt(page, pages*pageLength)
		r.must(err)
	})
	wg.Go(func() {
		for i := range pages {
			if got := key(i); got != uint64(i*i) {
				r.t.Errorf("%s: key of page %d is %d", r.name, i, got)
			}
		}
	})
	wg.Wait()
	r.must(f.Sync())
	info, err := f.Stat()
	r.note("%s, %s", infoOf(info), r.describe(err))
}

// useUpload sends the file as the body of a request, whose transport closes it.
func useUpload(r *streamRun, f file) {
	_, err := f.Write(cachedPattern(longSourceSize, 1))
	r.must(err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%s, %v, length %d, %v", bytesOf(body), err, q.ContentLength, q.TransferEncoding)
	}))
	defer server.Close()
	for _, length := range []int64{longSourceSize, -1, 1000} {
		r.rewind(f)
		var body io.Reader = f
		if length > 0 {
			body = io.LimitReader(f, length)
		}
		request, err := http.NewRequest(http.MethodPut, server.URL, io.NopCloser(body))
		if length == longSourceSize {
			request, err = http.NewRequest(http.MethodPut, server.URL, noClose{f})
		}
		r.must(err)
		request.ContentLength = length
		response, err := server.Client().Do(request)
		if err != nil {
			r.t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		r.must(err)
		response.Body.Close()
		r.note("%s, %s", answer, r.position(f))
	}
	// Without protection the transport closes the file.
	r.rewind(f)
	response, err := server.Client().Post(server.URL, "application/octet-stream", f)
	if err != nil {
		r.t.Fatal(err)
	}
	response.Body.Close()
	r.note("%s", response.Status)
}

// noClose is a file that stays open when it is closed.
type noClose struct{ file }

func (noClose) Close() error { return nil }

// served is a request for a file and the difference it should make.
type served struct {
	name   string
	method string
	header http.Header
}

// http.ServeContent answers the same with a File: status, header and body.
func TestServeContent(t *testing.T) {
	for _, size := range []int{0, 1000, longSourceSize} {
		last := max(size-1, 0)
		requests := []served{
			{"everything", "GET", nil},
			{"the header", "HEAD", nil},
			{"one range", "GET", http.Header{"Range": {"bytes=100-299"}}},
			{"one byte", "GET", http.Header{"Range": {"bytes=0-0"}}},
			{"the end", "GET", http.Header{"Range": {"bytes=-50"}}},
			{"from the middle", "GET", http.Header{"Range": {fmt.Sprintf("bytes=%d-", size/2)}}},
			{"past the end", "GET", http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", last, last+100)}}},
			{"several ranges", "GET", http.Header{"Range": {"bytes=0-9,100-199,-30"}}},
			{"no such range", "GET", http.Header{"Range": {fmt.Sprintf("bytes=%d-", size+1)}}},
			{"nonsense", "GET", http.Header{"Range": {"bytes=9-2"}}},
			{"modified since long ago", "GET", http.Header{"If-Modified-Since": {whenever.AddDate(-1, 0, 0).Format(http.TimeFormat)}}},
			{"not modified", "GET", http.Header{"If-Modified-Since": {whenever.Format(http.TimeFormat)}}},
			{"not unmodified", "GET", http.Header{"If-Unmodified-Since": {whenever.AddDate(-1, 0, 0).Format(http.TimeFormat)}}},
			{"range if unchanged", "GET", http.Header{"Range": {"bytes=5-10"}, "If-Range": {whenever.Format(http.TimeFormat)}}},
			{"range if changed", "GET", http.Header{"Range": {"bytes=5-10"}, "If-Range": {whenever.AddDate(1, 0, 0).Format(http.TimeFormat)}}},
		}
		for _, name := range []string{"page.html", "no-extension"} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				compareStreams(t, t.TempDir(), streamWays, name, func(r *streamRun) {
					r.create(name, cachedPattern(size, 1))
					r.must(os.Chtimes(r.path(name), whenever, whenever))
					f := r.start(name, os.O_RDONLY, 0)
					info, err := f.Stat()
					r.must(err)
					handled := make(chan struct{}, 1)
					server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
						http.ServeContent(w, q, name, info.ModTime(), f)
						handled <- struct{}{}
					}))
					defer server.Close()
					for _, request := range requests {
						r.note("%s: %s", request.name, r.exchange(server, request))
						<-handled // sendfile moves the position after the bytes have arrived
						r.note("%s", r.position(f))
					}
				})
			})
		}
	}
}

// exchange sends a request and renders the response.
func (r *streamRun) exchange(server *httptest.Server, s served) string {
	r.t.Helper()
	request, err := http.NewRequest(s.method, server.URL, nil)
	r.must(err)
	request.Header = s.header
	if request.Header == nil {
		request.Header = http.Header{}
	}
	response, err := server.Client().Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	response.Header.Del("Date")
	text := fmt.Sprintf("%s %v %s, %s", response.Status, response.Header, bytesOf(body), r.describe(err))
	// The border between the parts of an answer is random.
	if _, border, ok := strings.Cut(response.Header.Get("Content-Type"), "boundary="); ok {
		text = fmt.Sprintf("%s %s", response.Status, bytesOf(bytes.ReplaceAll(body, []byte(border), []byte("border"))))
	}
	return text
}

// folder is a file system of Files.
type folder struct {
	dir     string
	options []mmapio.Option
}

func (d folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) || runtime.GOOS == "windows" && strings.Contains(name, `\`) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := mmapio.OpenInRoot(d.dir, filepath.FromSlash(name), d.options...)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// newFolder makes a tree of files. Its names are given back.
func newFolder(t *testing.T) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	for i, name := range []string{"empty", "index.html", "page.tmpl", "sub/one.txt", "sub/deep/two.txt", "sub/large.bin"} {
		content := cachedPattern(i*i*1000, i)
		if strings.HasSuffix(name, ".tmpl") {
			content = []byte("hello {{.}}")
		}
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, content, 0o666); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return dir, names
}

// A file system whose files are Files is a sound fs.FS, for the functions of io/fs
// and for those who use one.
func TestFileSystem(t *testing.T) {
	needKernel(t, "fstat leaves out parts of a second")
	dir, names := newFolder(t)
	want := os.DirFS(dir)
	for _, mapping := range []mmapio.Mapping{mmapio.MapAuto, mmapio.MapAlways, mmapio.MapNever} {
		got := folder{dir, []mmapio.Option{mmapio.WithMapping(mapping)}}
		if err := fstest.TestFS(got, names...); err != nil {
			t.Error(err)
		}
		for _, name := range names {
			a, err1 := fs.ReadFile(want, name)
			b, err2 := fs.ReadFile(got, name)
			if !bytes.Equal(a, b) || err1 != nil || err2 != nil {
				t.Errorf("ReadFile %s: %s, %v; with File %s, %v", name, bytesOf(a), err1, bytesOf(b), err2)
			}
		}
		if a, b := walk(t, want), walk(t, got); !slices.Equal(a, b) {
			t.Errorf("WalkDir: %q; with File %q", a, b)
		}
		a, err1 := fs.Glob(want, "sub/*.*")
		b, err2 := fs.Glob(got, "sub/*.*")
		if !slices.Equal(a, b) || len(a) == 0 || err1 != nil || err2 != nil {
			t.Errorf("Glob: %q, %v; with File %q, %v", a, err1, b, err2)
		}
		page, err := template.ParseFS(got, "*.tmpl")
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := page.Execute(&text, "you"); text.String() != "hello you" || err != nil {
			t.Errorf("template: %q, %v", text.String(), err)
		}
		target := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(target, got); err != nil {
			t.Errorf("CopyFS: %v", err)
		}
		if a, b := walk(t, want), walk(t, os.DirFS(target)); !slices.Equal(a, b) {
			t.Errorf("CopyFS: %q copied to %q", a, b)
		}
	}
}

// walk renders a whole file system.
func walk(t *testing.T, fsys fs.FS) (lines []string) {
	t.Helper()
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			lines = append(lines, name)
			return err
		}
		content, err := fs.ReadFile(fsys, name)
		lines = append(lines, name+" "+bytesOf(content))
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return lines
}

// http.FileServer shows a file system of Files as it shows one of os.
func TestFileServer(t *testing.T) {
	dir, names := newFolder(t)
	plain := http.FileServerFS(os.DirFS(dir))
	mapped := http.FileServer(http.FS(folder{dir, []mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}}))
	paths := append(names, "", "sub", "sub/", "none", "sub/deep/")
	for _, name := range paths {
		for _, ranges := range []string{"", "bytes=10-19", "bytes=0-3,7-9"} {
			request := httptest.NewRequest("GET", "/"+path.Clean("/" + name)[1:], nil)
			if strings.HasSuffix(name, "/") {
				request.URL.Path += "/"
			}
			if ranges != "" {
				request.Header.Set("Range", ranges)
			}
			a, b := httptest.NewRecorder(), httptest.NewRecorder()
			plain.ServeHTTP(a, request.Clone(t.Context()))
			mapped.ServeHTTP(b, request.Clone(t.Context()))
			if a.Code != b.Code || !bytes.Equal(withoutBorder(a), withoutBorder(b)) || a.Header().Get("Location") != b.Header().Get("Location") {
				t.Errorf("%q %q: %d %s; with File %d %s", name, ranges, a.Code, bytesOf(a.Body.Bytes()), b.Code, bytesOf(b.Body.Bytes()))
			}
		}
	}
}

func withoutBorder(w *httptest.ResponseRecorder) []byte {
	_, border, ok := strings.Cut(w.Header().Get("Content-Type"), "boundary=")
	if !ok {
		return w.Body.Bytes()
	}
	return bytes.ReplaceAll(w.Body.Bytes(), []byte(border), []byte("border"))
}

// childVariable makes this test binary the child of TestExec and says what it does.
const childVariable = "MMAPIO_TEST_CHILD"

// TestExecChild is the child process. It never returns to the testing package,
// which would write to its output.
func TestExecChild(t *testing.T) {
	task := os.Getenv(childVariable)
	if task == "" {
		t.Skip("this is the body of a child process")
	}
	if err := childTask(task); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

// moreTasks are those that not every platform knows.
var moreTasks = map[string]func() error{}

func childTask(task string) error {
	switch task {
	case "copy": // all of the input, in capitals
		in, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(bytes.ToUpper(in))
		return err
	case "take": // ten bytes of the input, and not more
		var b [10]byte
		if _, err := io.ReadFull(os.Stdin, b[:]); err != nil {
			return err
		}
		_, err := os.Stdout.Write(b[:])
		return err
	}
	if do := moreTasks[task]; do != nil {
		return do()
	}
	return fmt.Errorf("no task %q", task)
}

// child returns a command that does the task.
func child(t testing.TB, task string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestExecChild$")
	cmd.Env = childEnvironment(childVariable + "=" + task)
	cmd.Stderr = os.Stderr
	return cmd
}

// innerOf returns the os.File that a child can inherit.
func innerOf(f file) *os.File {
	if f, ok := f.(*mmapio.File); ok {
		return f.OSFile()
	}
	return f.(*os.File)
}

// childUse is something that a child process does with a file.
type childUse struct {
	name string
	run  func(r *streamRun, f file) error
}

var childUses = []childUse{
	{"the child reads its part of the input", func(r *streamRun, f file) error {
		cmd := child(r.t, "take")
		cmd.Stdin = innerOf(f)
		out, err := cmd.Output()
		r.note("%q", out)
		return err
	}},
	{"the child reads all of the input", func(r *streamRun, f file) error {
		cmd := child(r.t, "copy")
		cmd.Stdin = innerOf(f)
		out, err := cmd.Output()
		r.note("%s", bytesOf(out))
		return err
	}},
	{"the child writes its output", func(r *streamRun, f file) error {
		cmd := child(r.t, "copy")
		cmd.Stdin = strings.NewReader("what goes into the file")
		cmd.Stdout = innerOf(f)
		return cmd.Run()
	}},
	{"two children, one after the other", func(r *streamRun, f file) error {
		for range 2 {
			cmd := child(r.t, "take")
			cmd.Stdin = innerOf(f)
			out, err := cmd.Output()
			r.note("%q", out)
			if err != nil {
				return err
			}
			// And between them we read too.
			var b [5]byte
			n, err := f.Read(b[:])
			r.note("%q, %s", b[:n], r.describe(err))
		}
		return nil
	}},
	{"the file as a Reader", func(r *streamRun, f file) error {
		cmd := child(r.t, "copy")
		cmd.Stdin = readerOnly{f}
		out, err := cmd.Output()
		r.note("%s", bytesOf(out))
		return err
	}},
	{"the file as a Writer", func(r *streamRun, f file) error {
		cmd := child(r.t, "copy")
		cmd.Stdin = strings.NewReader("what goes into the file")
		cmd.Stdout = writerOnly{f}
		return cmd.Run()
	}},
}

// A child process gets a File as it gets an os.File: the same bytes from the same
// position, which both go on from.
func TestExec(t *testing.T) {
	for _, use := range childUses {
		t.Run(use.name, func(t *testing.T) { testExec(t, use.run) })
	}
}

func testExec(t *testing.T, run func(r *streamRun, f file) error) {
	// A process takes time to start; these two differ most.
	ways := []streamWay{streamWays[1], streamWays[3]}
	compareStreams(t, t.TempDir(), ways, "exec", func(r *streamRun) {
		r.create("file", bytes.Repeat([]byte("some text. "), 3000))
		f := r.start("file", os.O_RDWR, 1234)
		r.must(run(r, f))
		r.noteFile("file", f)
		n, err := f.WriteString("the end")
		r.note("%d, %s", n, r.describe(err))
		r.noteFile("file", f)
	})
}

// A File itself can be a child's input and output: os/exec copies then.
func TestExecPlain(t *testing.T) {
	dir := t.TempDir()
	in, err := mmapio.Create(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := mmapio.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := in.WriteString("what goes through the child"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(10, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "copy")
	cmd.Stdin, cmd.Stdout = in, out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out.Name())
	if want := "THROUGH THE CHILD"; string(content) != want || err != nil {
		t.Errorf("the output is %q, %v; want %q", content, err, want)
	}
}

// debug/elf reads this program through a File.
func TestConsumerELF(t *testing.T) {
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	describe := func(f file) (string, error) {
		program, err := elf.NewFile(f)
		if err != nil {
			return "", err
		}
		var text strings.Builder
		for _, section := range program.Sections {
			if section.Type == elf.SHT_NOBITS {
				continue
			}
			data, err := section.Data()
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&text, "%s %s\n", section.Name, bytesOf(data))
		}
		return text.String(), nil
	}
	plain, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	want, err := describe(plain)
	if err != nil {
		t.Skipf("programs are no ELF files here: %v", err)
	}
	for _, way := range []streamWay{streamWays[1], streamWays[3]} {
		f, err := way.open(name, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		warmUp(t, f)
		if got, err := describe(f); got != want || err != nil {
			t.Errorf("%s: %v\n%s\nwith os.File\n%s", way.name, err, got, want)
		}
	}
}
