package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mmapio/mmapio"
	xexp "golang.org/x/exp/mmap"
)

// The programs below are what people do with files. A program is the same for all sides, but
// for the line that opens the file.

func programRows(full bool) []row {
	length := int64(256 * miB)
	if full {
		length = 1 << 30
	}
	return []row{
		{
			id: "index", what: "look a key up in a sorted index of " + size(length), rounds: 30,
			sides: []side{
				indexSide(sideMmapio, length, func(path string) (holder, error) { return mmapio.Open(path) }),
				indexSide(sideOS, length, func(path string) (holder, error) { return os.Open(path) }),
				indexSide(sideExp, length, func(path string) (holder, error) { return xexp.Open(path) }),
			},
			pairs: versus(sideOS, sideExp),
		},
		httpRow("size=4KiB,open=once", "serve a range of 4 KiB over HTTP, 4 clients, one file for all", 4*kiB, servedOnce),
		httpRow("size=64KiB,open=once", "serve a range of 64 KiB over HTTP, 4 clients, one file for all", 64*kiB, servedOnce),
		httpRow("size=64KiB,open=each", "serve a range of 64 KiB over HTTP, 4 clients, opened for each", 64*kiB, servedEach),
		{
			id: "log", what: "a line of 100 B, appended by one process and read by another", bytes: logLine, ops: 20000, rounds: 20,
			sides: []side{
				logSide(sideMmapio, func(path string) (io.ReadCloser, error) { return mmapio.Open(path) }),
				logSide(sideOS, func(path string) (io.ReadCloser, error) { return os.Open(path) }),
			},
			pairs: versus(sideOS),
		},
	}
}

// The index: records of a key and a value, in the order of the keys.
const recordSize = 16

// recordKey is the key of a record. Not every number is a key.
func recordKey(i int64) uint64 { return uint64(i)*3 + 1 }

func writeIndex(out io.Writer, length int64) error {
	record := make([]byte, recordSize)
	for i := range length / recordSize {
		binary.BigEndian.PutUint64(record, recordKey(i))
		binary.BigEndian.PutUint64(record[8:], next(uint64(i)))
		if _, err := out.Write(record); err != nil {
			return err
		}
	}
	return nil
}

var errNoKey = errors.New("no such key")

// lookUp returns the value of key in an index of so many records.
func lookUp(index io.ReaderAt, records int64, key uint64, record []byte) (uint64, error) {
	low, high := int64(0), records
	for low < high {
		middle := low + (high-low)/2
		if _, err := index.ReadAt(record, middle*recordSize); err != nil {
			return 0, err
		}
		switch found := binary.BigEndian.Uint64(record); {
		case found == key:
			return binary.BigEndian.Uint64(record[8:]), nil
		case found < key:
			low = middle + 1
		default:
			high = middle
		}
	}
	return 0, errNoKey
}

func indexSide(name string, length int64, open opener) side {
	return side{name: name, open: func(w *workspace) (*session, error) {
		length := min(length, w.largest)
		path, err := w.made("index", usualPiece, func(f io.Writer) error { return writeIndex(f, length) })
		if err != nil {
			return nil, err
		}
		index, err := open(path)
		if err != nil {
			return nil, err
		}
		if err := touch(index, length); err != nil {
			return nil, errors.Join(err, index.Close())
		}
		records, record, x := length/recordSize, make([]byte, recordSize), uint64(seed)
		return &session{close: index.Close, run: repeatedly(func() (uint64, error) {
			x = next(x)
			i := offset(x, 1, uint64(records))
			value, err := lookUp(index, records, recordKey(i), record)
			if err == nil && value != next(uint64(i)) {
				err = fmt.Errorf("record %d has the value %d", i, value)
			}
			return value, err
		})}, nil
	}}
}

// served makes the handler that serves ranges of the file at path, and what ends it.
type served func(path string, open func(path string) (httpFile, error)) (http.HandlerFunc, func() error, error)

type httpFile interface {
	io.ReaderAt
	io.ReadSeeker
	io.Closer
}

// servedOnce serves every request from one open file.
func servedOnce(path string, open func(path string) (httpFile, error)) (http.HandlerFunc, func() error, error) {
	f, err := open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "data.bin", info.ModTime(), io.NewSectionReader(f, 0, info.Size()))
	}, f.Close, nil
}

// servedEach opens the file for each request, as http.FileServer does.
func servedEach(path string, open func(path string) (httpFile, error)) (http.HandlerFunc, func() error, error) {
	return func(w http.ResponseWriter, r *http.Request) {
		f, err := open(path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "data.bin", time.Time{}, f)
	}, func() error { return nil }, nil
}

func httpRow(variant, what string, n int, serve served) row {
	return row{
		id: "http", variant: variant, what: what, bytes: n, rounds: 30,
		sides: []side{
			httpSide(sideMmapio, n, serve, func(path string) (httpFile, error) { return mmapio.Open(path) }),
			httpSide(sideOS, n, serve, func(path string) (httpFile, error) { return os.Open(path) }),
		},
		pairs: versus(sideOS),
	}
}

const httpClients = 4

func httpSide(name string, n int, serve served, open func(path string) (httpFile, error)) side {
	return side{name: name, open: onFile("served", 256*miB, func(path string, size int64) (_ *session, err error) {
		handler, done, err := serve(path, open)
		if err != nil {
			return nil, err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, done())
		}
		server := &http.Server{Handler: handler}
		stopped := make(chan error, 1)
		go func() { stopped <- server.Serve(listener) }()
		transport := &http.Transport{MaxIdleConnsPerHost: httpClients, DisableCompression: true}
		client, url := &http.Client{Transport: transport}, "http://"+listener.Addr().String()
		ways, buffers := make([]*walk, httpClients), make([]*bytes.Buffer, httpClients)
		for i := range ways {
			ways[i], buffers[i] = newWalk(size, n, seed+uint64(i)), new(bytes.Buffer)
		}
		return &session{
			close: func() error {
				transport.CloseIdleConnections()
				err := server.Close()
				if e := <-stopped; !errors.Is(e, http.ErrServerClosed) {
					err = errors.Join(err, e)
				}
				return errors.Join(err, done())
			},
			run: func(ops int) (uint64, error) {
				sums, errs := make([]uint64, httpClients), make([]error, httpClients)
				var clients sync.WaitGroup
				for i := range httpClients {
					clients.Go(func() {
						for range ops*(i+1)/httpClients - ops*i/httpClients {
							ways[i].x = next(ways[i].x)
							sum, err := getRange(client, url, offset(ways[i].x, ways[i].unit, ways[i].units), n, buffers[i])
							if err != nil {
								errs[i] = err
								return
							}
							sums[i] = sums[i]*31 + sum
						}
					})
				}
				clients.Wait()
				sum := uint64(0)
				for _, s := range sums {
					sum ^= s
				}
				return sum, errors.Join(errs...)
			},
		}, nil
	})}
}

// getRange gets n bytes at an offset and returns their checksum.
func getRange(client *http.Client, url string, off int64, n int, body *bytes.Buffer) (uint64, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(n)-1))
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body.Reset()
	got, err := body.ReadFrom(response.Body)
	switch {
	case err != nil:
		return 0, err
	case response.StatusCode != http.StatusPartialContent || got != int64(n):
		return 0, fmt.Errorf("%s, and %d bytes of %d", response.Status, got, n)
	}
	return uint64(crc32.Checksum(body.Bytes(), castagnoli)), nil
}

// The log: this program runs itself again as the process that appends. It reads from its
// standard input how many lines to append.
const (
	logLine   = 100
	logWriter = "MMAPIO_BENCH_LOG_WRITER" // the side, in the environment of the other process
	logPoll   = 100 * time.Microsecond    // how long a reader at the end waits for more
)

// wroteLog appends to a log if this process is the one for that, and tells so.
func wroteLog() (bool, error) {
	name, ok := os.LookupEnv(logWriter)
	if !ok {
		return false, nil
	}
	path := os.Args[len(os.Args)-1]
	const flag = os.O_WRONLY | os.O_APPEND | os.O_CREATE
	var f io.WriteCloser
	var err error
	if name == sideMmapio {
		f, err = mmapio.OpenFile(path, flag, 0o600)
	} else {
		f, err = os.OpenFile(path, flag, 0o600)
	}
	if err != nil {
		return true, err
	}
	return true, errors.Join(appendLines(f, os.Stdin), f.Close())
}

// appendLines appends as many lines as orders ask for.
func appendLines(f io.Writer, orders io.Reader) error {
	line, number := make([]byte, logLine), 0
	for s := bufio.NewScanner(orders); s.Scan(); {
		n, err := strconv.Atoi(s.Text())
		if err != nil {
			return err
		}
		for range n {
			fillLine(line, number)
			number++
			if _, err := f.Write(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillLine makes the line of a number.
func fillLine(line []byte, number int) {
	for i := range line {
		line[i] = '.'
	}
	strconv.AppendInt(line[:0], int64(number), 10)
	line[len(line)-1] = '\n'
}

func logSide(name string, open func(path string) (io.ReadCloser, error)) side {
	return side{name: name, open: func(w *workspace) (_ *session, err error) {
		path := w.path("log-" + name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return nil, err
		}
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		writer := command(w.ctx, program, path)
		writer.Env = append(os.Environ(), logWriter+"="+name)
		var complaints strings.Builder
		writer.Stderr = &complaints
		orders, err := writer.StdinPipe()
		if err == nil {
			err = writer.Start()
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		exited := make(chan error, 1)
		go func() { exited <- writer.Wait() }()
		log, number, want := bufio.NewReader(f), 0, make([]byte, logLine)
		var got []byte
		return &session{
			file: path,
			close: func() error {
				err := orders.Close()
				if e := <-exited; e != nil {
					err = errors.Join(err, fmt.Errorf("the process that appends: %w: %s", e, &complaints))
				}
				return errors.Join(err, f.Close())
			},
			run: func(n int) (uint64, error) {
				if _, err := fmt.Fprintln(orders, n); err != nil {
					return 0, err
				}
				for range n {
					fillLine(want, number)
					number++
					for got = got[:0]; len(got) < logLine; {
						part, err := log.ReadSlice('\n')
						got = append(got, part...)
						if err == io.EOF {
							select {
							case e := <-exited:
								exited <- e
								return 0, fmt.Errorf("the process that appends has ended: %w: %s", e, &complaints)
							case <-time.After(logPoll):
							}
							continue
						}
						if err != nil {
							return 0, err
						}
					}
					if !bytes.Equal(got, want) {
						return 0, fmt.Errorf("read %q, want %q", got, want)
					}
				}
				return uint64(n), nil
			},
		}, nil
	}}
}
