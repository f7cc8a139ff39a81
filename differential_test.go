package mmapio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/mmapio/mmapio"
)

// Random lists of operations run over twin files, one through os.File and one
// through mmapio.File. After every operation both must have returned the same and
// others must see the same size; at the end, the same content.
//
// By default this takes a few seconds. Two environment variables change that:
//
//	MMAPIO_LONG=10m  run random lists for that long
//	MMAPIO_SEED=123  begin with that seed, which a failure prints
//
// A list that fails is made shorter before it is printed.

// operation is one step of a list. Offsets and sizes are relative to the file as
// it is when the operation runs, so that a list makes sense with steps left out.
type operation struct {
	kind   uint8  // an index into operationKinds
	anchor uint8  // what the offset is relative to, and whether it is spoiled
	delta  uint16 // the offset from there
	length uint16 // class in the lowest 3 bits, value above
	flavor uint8  // chooses among variants of the operation
	seed   uint8  // of the data written
}

// operationSize is the length of an encoded operation.
const operationSize = 8

func (o operation) encode() []byte {
	b := []byte{o.kind, o.anchor}
	b = binary.LittleEndian.AppendUint16(b, o.delta)
	b = binary.LittleEndian.AppendUint16(b, o.length)
	return append(b, o.flavor, o.seed)
}

func decodeOperation(b []byte) operation {
	return operation{
		kind:   b[0],
		anchor: b[1],
		delta:  binary.LittleEndian.Uint16(b[2:]),
		length: binary.LittleEndian.Uint16(b[4:]),
		flavor: b[6],
		seed:   b[7],
	}
}

// operationList is what runs over a pair of files.
type operationList struct {
	mode       int
	size       uint16 // of the file at the beginning: chooses among sizes
	limit      uint8  // chooses how long the file gets
	operations []operation
}

// listHeader is the length of what precedes the operations in an encoded list.
const listHeader = 4

func (l operationList) encode() []byte {
	b := []byte{byte(l.mode), 0, 0, l.limit}
	binary.LittleEndian.PutUint16(b[1:], l.size)
	for _, o := range l.operations {
		b = append(b, o.encode()...)
	}
	return b
}

// decodeList turns any bytes into a list. Bytes that do not fill an operation are
// left out, and so is what goes beyond most operations.
func decodeList(b []byte, most int) (operationList, bool) {
	if len(b) < listHeader {
		return operationList{}, false
	}
	list := operationList{
		mode:  int(b[0]) % len(differentialModes),
		size:  binary.LittleEndian.Uint16(b[1:]),
		limit: b[3],
	}
	for b = b[listHeader:]; len(b) >= operationSize && len(list.operations) < most; b = b[operationSize:] {
		list.operations = append(list.operations, decodeOperation(b))
	}
	return list, true
}

// longest returns how long the file gets in this list.
func (l operationList) longest() int64 {
	switch l.limit % 16 {
	case 0, 1, 2:
		return 3 * int64(os.Getpagesize())
	case 3:
		return 9 << 20
	case 5, 6, 7:
		return 900_000
	case 4:
		if l.limit == 4 {
			return 70 << 20
		}
		return 2<<20 + 20_000
	}
	return 300_000
}

// initialSize returns the length of the file at the beginning.
func (l operationList) initialSize() int64 {
	page := int64(os.Getpagesize())
	sizes := []int64{0, 1, page - 1, page, page + 1, 3*page + 7, 100_000, 65_536, 2 << 20, 5<<20 + 3}
	if l.size < 20 {
		return min(sizes[int(l.size)%len(sizes)], l.longest())
	}
	return min(int64(l.size)*l.longest()/65_536, 1<<20+int64(l.size))
}

// differentialMode is a way to open the file.
type differentialMode struct {
	name        string
	flag        int
	mapping     mmapio.Mapping
	preallocate int64 // if not 0, others may see a longer file, and must not change its size
	adopt       bool  // by FromFile
	direct      bool  // O_DIRECT
}

var differentialModes = append([]differentialMode{
	{name: "always", flag: os.O_RDWR, mapping: mmapio.MapAlways},
	{name: "auto", flag: os.O_RDWR},
	{name: "never", flag: os.O_RDWR, mapping: mmapio.MapNever},
	{name: "read-only always", flag: os.O_RDONLY, mapping: mmapio.MapAlways},
	{name: "read-only auto", flag: os.O_RDONLY},
	{name: "append always", flag: os.O_RDWR | os.O_APPEND, mapping: mmapio.MapAlways},
	{name: "append auto", flag: os.O_RDWR | os.O_APPEND},
	{name: "sync always", flag: os.O_RDWR | os.O_SYNC, mapping: mmapio.MapAlways},
	{name: "write-only", flag: os.O_WRONLY, mapping: mmapio.MapAlways},
	{name: "adopted always", flag: os.O_RDWR, mapping: mmapio.MapAlways, adopt: true},
	{name: "preallocate 777 always", flag: os.O_RDWR, mapping: mmapio.MapAlways, preallocate: 777},
	{name: "preallocate 64 KiB always", flag: os.O_RDWR, mapping: mmapio.MapAlways, preallocate: 64 << 10},
	{name: "preallocate 64 KiB auto", flag: os.O_RDWR, preallocate: 64 << 10},
	{name: "preallocate 5000 never", flag: os.O_RDWR, mapping: mmapio.MapNever, preallocate: 5000},
	{name: "preallocate write-only", flag: os.O_WRONLY, mapping: mmapio.MapAlways, preallocate: 5000},
	{name: "preallocate sync", flag: os.O_RDWR | os.O_SYNC, mapping: mmapio.MapAlways, preallocate: 5000},
	{name: "preallocate adopted", flag: os.O_RDWR, mapping: mmapio.MapAlways, preallocate: 5000, adopt: true},
}, platformModes...)

// world is one side of a run.
type world struct {
	*side
	main   *side // opens what is compared; the side itself opens what is beside it, without preallocation
	path   string
	file   file     // what is compared
	other  *os.File // a second handle of this process, always of os
	second file     // a second handle of the same kind; nil until it is used
	source file     // another file of the same kind
	inner  *os.File // the os.File inside, once it was asked for
	buffer []byte   // for reads
}

// run is a list being carried out.
type run struct {
	mode      differentialMode
	list      operationList
	worlds    [2]*world // os, mmapio
	assistant *assistant
	page      int64
	most      int64 // the longest size that mmapio may know of
}

// step is an operation with its offsets made absolute.
type step struct {
	operation
	offset int64
	target int64 // an offset that is never negative, for what others do
	n      int
	data   []byte // n bytes to write
	size   int64
}

// operationKind is something that can be done.
type operationKind struct {
	name   string
	weight int
	// do carries it out on one side and renders what came out.
	do func(r *run, w *world, s step) string
	// cuts says that, if it succeeds, every File of the process knows the size.
	cuts bool
	// settles says that the size others see is exact afterwards, also with preallocation.
	settles bool
	// rare operations change how everything after them is served: most lists have none.
	rare bool
}

// operationKinds is in the order of the weights given, each kind as often as it weighs.
var operationKinds = func() []operationKind {
	var all []operationKind
	for _, kind := range append(slices.Clone(portableKinds), platformKinds...) {
		for range kind.weight {
			all = append(all, kind)
		}
	}
	return all
}()

func (o operation) what() operationKind { return operationKinds[int(o.kind)%len(operationKinds)] }

// done renders the result of a call that moves bytes.
func (w *world) done(n int64, err error) string { return fmt.Sprint(n, " ", w.describe(err)) }

func (w *world) read(n int, read func(b []byte) (int, error)) string {
	b := w.buffer[:n]
	n, err := read(b)
	return fmt.Sprint(n, " ", w.describe(err), " ", bytesOf(b[:max(n, 0)]))
}

// secondFile returns the second handle, which is opened when it is first used.
func (r *run) secondFile(w *world) file {
	if w.second == nil {
		f, err := w.open(w.path, os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		w.later(func() { f.Close() })
		w.second = f
	}
	return w.second
}

// innerFile returns the os.File inside.
func innerFile(f file) *os.File {
	switch f := f.(type) {
	case *os.File:
		return f
	case *mmapio.File:
		return f.OSFile()
	}
	panic("neither os nor mmapio")
}

var portableKinds = []operationKind{
	{name: "Read", weight: 8, do: func(r *run, w *world, s step) string { return w.read(s.n, w.file.Read) }},
	{name: "ReadAt", weight: 8, do: func(r *run, w *world, s step) string {
		return w.read(s.n, func(b []byte) (int, error) { return w.file.ReadAt(b, s.offset) })
	}},
	{name: "Write", weight: 8, do: func(r *run, w *world, s step) string {
		n, err := w.file.Write(s.data)
		return w.done(int64(n), err)
	}},
	{name: "WriteAt", weight: 8, do: func(r *run, w *world, s step) string {
		n, err := w.file.WriteAt(s.data, s.offset)
		return w.done(int64(n), err)
	}},
	{name: "WriteString", weight: 2, do: func(r *run, w *world, s step) string {
		n, err := w.file.WriteString(unsafe.String(unsafe.SliceData(s.data), len(s.data)))
		return w.done(int64(n), err)
	}},
	{name: "Seek from the start", weight: 4, do: func(r *run, w *world, s step) string { return w.done(w.file.Seek(s.offset, io.SeekStart)) }},
	{name: "Seek from here", weight: 2, do: func(r *run, w *world, s step) string {
		return w.done(w.file.Seek(int64(int8(s.flavor))*int64(s.delta%97), io.SeekCurrent))
	}},
	{name: "Seek from the end", weight: 2, settles: true, do: func(r *run, w *world, s step) string {
		return w.done(w.file.Seek(s.offset-s.size, io.SeekEnd))
	}},
	{name: "Seek from nowhere", weight: 1, do: func(r *run, w *world, s step) string {
		return w.done(w.file.Seek(s.offset, 5+int(s.flavor)))
	}},
	{name: "Seek to ask", weight: 3, do: func(r *run, w *world, s step) string { return w.done(w.file.Seek(0, io.SeekCurrent)) }},
	{name: "Truncate", weight: 3, settles: true, cuts: true, do: func(r *run, w *world, s step) string {
		return w.describe(w.file.Truncate(s.offset))
	}},
	{name: "Stat", weight: 2, settles: true, do: func(r *run, w *world, s step) string {
		info, err := w.file.Stat()
		return infoOf(info) + w.describe(err)
	}},
	{name: "Size", weight: 1, do: func(r *run, w *world, s step) string {
		if f, ok := w.file.(*mmapio.File); ok {
			return w.done(f.Size())
		}
		info, err := w.file.Stat()
		if err != nil {
			return w.done(0, err)
		}
		return w.done(info.Size(), nil)
	}},
	{name: "Sync", weight: 1, settles: true, do: func(r *run, w *world, s step) string {
		if s.flavor >= 32 {
			_, err := w.file.Stat() // Sync is slow
			return w.describe(err)
		}
		return w.describe(w.file.Sync())
	}},

	// Streams into the file.
	{name: "ReadFrom memory", weight: 2, do: func(r *run, w *world, s step) string {
		source := bytes.NewReader(s.data)
		n, err := w.file.ReadFrom(source)
		return fmt.Sprint(w.done(n, err), " left ", source.Len())
	}},
	{name: "ReadFrom a plain reader", weight: 2, do: func(r *run, w *world, s step) string {
		source := &brokenReader{data: s.data, err: io.EOF}
		if s.flavor%2 == 1 {
			source.err = errBrokenReader
		}
		n, err := w.file.ReadFrom(source)
		return fmt.Sprint(w.done(n, err), " left ", len(source.data))
	}},
	{name: "ReadFrom an os.File", weight: 1, do: func(r *run, w *world, s step) string {
		source := w.plainFile("source", s.data)
		defer source.Close()
		n, err := w.file.ReadFrom(source)
		return w.done(n, err) + tell(w.side, source)
	}},
	{name: "ReadFrom a file of its own kind", weight: 2, do: func(r *run, w *world, s step) string {
		if _, err := w.source.Seek(int64(s.delta), io.SeekStart); err != nil {
			return w.describe(err)
		}
		limited := &io.LimitedReader{R: w.source, N: int64(s.n)}
		n, err := w.file.ReadFrom(limited)
		return fmt.Sprint(w.done(n, err), " left ", limited.N, tell(w.side, w.source))
	}},
	{name: "ReadFrom all of a file of its own kind", weight: 1, do: func(r *run, w *world, s step) string {
		if _, err := w.source.Seek(-int64(s.n%65_536), io.SeekEnd); err != nil {
			return w.describe(err)
		}
		n, err := w.file.ReadFrom(w.source)
		return w.done(n, err) + tell(w.side, w.source)
	}},
	{name: "ReadFrom the same file", weight: 1, do: func(r *run, w *world, s step) string {
		if r.mode.preallocate > 0 {
			return "left out" // it would read what is preallocated
		}
		from := r.secondFile(w)
		if _, err := from.Seek(s.target, io.SeekStart); err != nil {
			return w.describe(err)
		}
		// Not more than a page: overlapping copies depend on how they are cut.
		n, err := w.file.ReadFrom(&io.LimitedReader{R: from, N: int64(s.n) % 4096})
		return w.done(n, err) + tell(w.side, from)
	}},
	{name: "io.Copy in", weight: 1, do: func(r *run, w *world, s step) string {
		n, err := io.Copy(w.file, io.MultiReader(bytes.NewReader(s.data[:s.n/2]), bytes.NewReader(s.data[s.n/2:])))
		return w.done(n, err)
	}},
	{name: "io.CopyN in", weight: 1, do: func(r *run, w *world, s step) string {
		n, err := io.CopyN(w.file, bytes.NewReader(s.data), int64(s.delta))
		return w.done(n, err)
	}},

	// Streams out of the file.
	{name: "WriteTo memory", weight: 1, do: func(r *run, w *world, s step) string {
		var to bytes.Buffer
		n, err := w.file.WriteTo(&to)
		return w.done(n, err) + bytesOf(to.Bytes())
	}},
	{name: "WriteTo a plain writer", weight: 2, do: func(r *run, w *world, s step) string {
		to := &brokenWriter{left: int(s.target) / (1 + int(s.flavor)%3)}
		n, err := w.file.WriteTo(to)
		return w.done(n, err) + bytesOf(to.taken.Bytes())
	}},
	{name: "WriteTo a hash", weight: 2, do: func(r *run, w *world, s step) string {
		to := &brokenHash{Hash32: crc32.NewIEEE(), left: 1 << 40}
		if s.flavor%2 == 1 {
			to.left = s.target
		}
		if s.flavor%4 >= 2 {
			w.file.Seek(int64(s.delta%100), io.SeekStart)
		}
		n, err := w.file.WriteTo(to)
		return fmt.Sprintf("%s %08x", w.done(n, err), to.Sum32())
	}},
	{name: "WriteTo an os.File", weight: 1, do: func(r *run, w *world, s step) string {
		to := w.plainFile("to", nil)
		defer to.Close()
		n, err := w.file.WriteTo(to)
		return w.done(n, err) + tell(w.side, to) + w.contentOf("to")
	}},
	{name: "WriteTo a file of its own kind", weight: 1, do: func(r *run, w *world, s step) string {
		to := w.ownFile("to", s.data)
		defer to.Close()
		n, err := w.file.WriteTo(to)
		return w.done(n, err) + tell(w.side, to) + w.contentOf("to")
	}},
	{name: "WriteTo a pipe", weight: 1, do: func(r *run, w *world, s step) string {
		var result string
		got := throughPipe(func(to *os.File) { result = w.done(w.file.WriteTo(to)) })
		return result + got
	}},
	{name: "io.CopyN out", weight: 2, do: func(r *run, w *world, s step) string {
		var to bytes.Buffer
		n, err := io.CopyN(&to, w.file, int64(s.n))
		return w.done(n, err) + bytesOf(to.Bytes())
	}},
	{name: "io.CopyN to a file", weight: 1, do: func(r *run, w *world, s step) string {
		to := w.plainFile("to", nil)
		defer to.Close()
		n, err := io.CopyN(to, w.file, int64(s.n))
		if err != nil && err != io.EOF {
			// Only with an os.File as its source does os name copy_file_range in the error.
			return fmt.Sprint(n, " failed", errors.Is(err, os.ErrClosed), w.contentOf("to"))
		}
		return w.done(n, err) + w.contentOf("to")
	}},

	// What others do: another os.File of this process.
	{name: "other WriteAt", weight: 2, do: func(r *run, w *world, s step) string {
		n, err := w.other.WriteAt(r.confined(s), s.target)
		return w.done(int64(n), err)
	}},
	{name: "other Truncate", weight: 1, do: func(r *run, w *world, s step) string {
		if !r.othersResize() {
			return "left out"
		}
		return w.describe(w.other.Truncate(s.target))
	}},
	{name: "other ReadAt", weight: 2, settles: true, do: func(r *run, w *world, s step) string {
		if r.mode.preallocate > 0 {
			w.file.Stat()
		}
		return w.read(s.n, func(b []byte) (int, error) { return w.other.ReadAt(b, s.target) })
	}},
	// Another file of the same kind.
	{name: "second WriteAt", weight: 2, do: func(r *run, w *world, s step) string {
		n, err := r.secondFile(w).WriteAt(r.confined(s), s.target)
		return w.done(int64(n), err)
	}},
	{name: "second Write", weight: 1, do: func(r *run, w *world, s step) string {
		f := r.secondFile(w)
		if _, err := f.Seek(s.target, io.SeekStart); err != nil {
			return w.describe(err)
		}
		n, err := f.Write(r.confined(s))
		return w.done(int64(n), err)
	}},
	{name: "second Truncate", weight: 2, cuts: true, do: func(r *run, w *world, s step) string {
		if r.mode.preallocate > 0 {
			return "left out"
		}
		return w.describe(r.secondFile(w).Truncate(s.target))
	}},
	{name: "second ReadAt", weight: 2, settles: true, do: func(r *run, w *world, s step) string {
		if r.mode.preallocate > 0 {
			w.file.Stat()
			r.secondFile(w).Stat()
		}
		return w.read(s.n, func(b []byte) (int, error) { return r.secondFile(w).ReadAt(b, s.target) })
	}},
	{name: "second opened with O_TRUNC", weight: 1, cuts: true, do: func(r *run, w *world, s step) string {
		if r.mode.preallocate > 0 || s.flavor >= 128 {
			return "left out"
		}
		f, err := w.open(w.path, os.O_RDWR|os.O_TRUNC, 0)
		if err != nil {
			return w.describe(err)
		}
		return w.describe(f.Close())
	}},
	// Another process.
	{name: "process WriteAt", weight: 2, do: func(r *run, w *world, s step) string {
		return r.ask(request{Do: "write", Path: w.path, Offset: s.target, Length: len(r.confined(s)), Seed: int(s.seed)})
	}},
	{name: "process append", weight: 1, do: func(r *run, w *world, s step) string {
		if !r.othersResize() || s.size > r.list.longest() {
			return "left out"
		}
		return r.ask(request{Do: "append", Path: w.path, Length: s.n, Seed: int(s.seed)})
	}},
	{name: "process Truncate", weight: 1, do: func(r *run, w *world, s step) string {
		if !r.othersResize() {
			return "left out"
		}
		return r.ask(request{Do: "truncate", Path: w.path, Offset: s.target})
	}},
	{name: "process ReadAt", weight: 2, settles: true, do: func(r *run, w *world, s step) string {
		if r.mode.preallocate > 0 {
			w.file.Stat()
		}
		return r.ask(request{Do: "read", Path: w.path, Offset: s.target, Length: s.n})
	}},

	// What changes the way the file is used.
	{name: "Fd", weight: 1, rare: true, settles: true, do: func(r *run, w *world, s step) string {
		return fmt.Sprint(w.file.Fd() == ^uintptr(0))
	}},
	{name: "SyscallConn", weight: 1, do: func(r *run, w *world, s step) string {
		// Asking for it changes nothing; using it does.
		c, err := w.file.SyscallConn()
		if err != nil {
			return w.describe(err)
		}
		if s.flavor >= 16 {
			return "not used"
		}
		return w.describe(c.Control(func(uintptr) {}))
	}},
	{name: "the os.File inside", weight: 2, rare: true, settles: true, do: func(r *run, w *world, s step) string {
		w.inner = innerFile(w.file)
		return tell(w.side, w.inner)
	}},
	{name: "Read through the os.File inside", weight: 2, do: func(r *run, w *world, s step) string {
		if w.inner == nil || r.mode.preallocate > 0 {
			return "left out"
		}
		return w.read(s.n, w.inner.Read)
	}},
	{name: "Write through the os.File inside", weight: 2, do: func(r *run, w *world, s step) string {
		if w.inner == nil || r.mode.preallocate > 0 {
			return "left out"
		}
		n, err := w.inner.Write(s.data)
		return w.done(int64(n), err)
	}},
	{name: "open again", weight: 1, rare: true, settles: true, do: func(r *run, w *world, s step) string {
		result := tell(w.side, w.file) + w.describe(w.file.Close())
		f, err := r.openFile(w)
		if err != nil {
			return w.describe(err)
		}
		w.file, w.inner = f, nil
		return result
	}},
	{name: "detach and adopt", weight: 1, rare: true, settles: true, do: func(r *run, w *world, s step) string {
		w.inner = nil
		f, ok := w.file.(*mmapio.File)
		if !ok {
			return tell(w.side, w.file)
		}
		inner, err := f.Detach()
		if errors.Is(err, os.ErrClosed) {
			return tell(w.side, f)
		}
		if err != nil {
			return w.describe(err)
		}
		result := tell(w.side, inner)
		if w.file, err = w.main.wrap(inner); err != nil {
			return w.describe(err)
		}
		return result
	}},
	{name: "close", weight: 1, rare: true, do: func(r *run, w *world, s step) string {
		if s.flavor%16 != 0 {
			return "left out"
		}
		return w.describe(w.file.Close())
	}},
}

// othersResize reports whether others may change the size of the file.
func (r *run) othersResize() bool {
	// Windows does not let others cut a file that is mapped, and preallocation is
	// for files that only one File grows.
	return r.mode.preallocate == 0 && runtime.GOOS != "windows"
}

// confined returns the data of s, cut so that it stays within the file where
// others must not make it longer.
func (r *run) confined(s step) []byte {
	if r.mode.preallocate == 0 {
		return s.data
	}
	return s.data[:max(0, min(int64(s.n), s.size-s.target))]
}

// ask has the other process do something.
func (r *run) ask(q request) string {
	a, err := r.assistant.do(q)
	if err != nil {
		panic(err)
	}
	return fmt.Sprint(a.N, " ", a.Data, a.Err)
}

func (r *run) openFile(w *world) (file, error) {
	if !r.mode.adopt {
		return w.main.open(w.path, r.mode.flag, 0)
	}
	inner, err := os.OpenFile(w.path, r.mode.flag, 0)
	if err != nil {
		return nil, err
	}
	return w.main.wrap(inner)
}

// resolve makes the offsets and the length of o absolute.
func (r *run) resolve(o operation) (step, error) {
	s := step{operation: o}
	info, err := r.worlds[0].other.Stat()
	if err != nil {
		return s, err
	}
	s.size = info.Size()
	longest := r.list.longest()

	value := int64(o.length >> 3)
	switch o.length & 7 {
	case 0:
		s.n = 0
	case 1, 2:
		s.n = int(value % 17)
	case 3, 4:
		s.n = int(value % 600)
	case 5:
		s.n = int(r.page*(value%4) + value/8%9)
	case 6:
		s.n = int(max(0, r.page*(value%3)-value/8%9))
	case 7:
		s.n = int(value * 16) // up to 128 KiB
	}
	delta := int64(o.delta)
	small := delta%33 - 16
	switch o.anchor % 8 {
	case 0:
		s.target = delta * longest / 65_536
	case 1:
		s.target = s.size + small
	case 2:
		s.target = (delta>>4%(s.size/r.page+2))*r.page + delta%16 - 8
	case 3:
		s.target = (s.size+r.page-1)/r.page*r.page + small
	case 4:
		s.target = small
	case 5:
		s.target = s.size - int64(s.n) + small/8
	case 6:
		s.target = delta % (s.size + 1)
	case 7:
		s.target = (delta>>4%(longest>>21+1))<<21 + small
	}
	if r.mode.direct && o.flavor%4 != 0 {
		s.target &^= r.page - 1
		s.n &^= int(r.page - 1)
	}
	s.target = max(0, min(s.target, longest))
	s.offset = s.target
	switch o.anchor >> 3 {
	case 30:
		s.offset = -1 - delta
	}
	s.data = alignedBuffer(s.n)
	pattern(s.data, int(o.seed))
	return s, nil
}

// size returns the length of the file as a new look at it shows.
func (w *world) size() (int64, error) {
	info, err := os.Stat(w.path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// carryOut runs the whole list in a new folder below dir. It returns nil, or what
// differed.
func (l operationList) carryOut(dir string, a *assistant) (err error) {
	dir, err = os.MkdirTemp(dir, "run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mode := differentialModes[l.mode%len(differentialModes)]
	r := &run{mode: mode, list: l, assistant: a, page: int64(os.Getpagesize())}
	options := []mmapio.Option{mmapio.WithMapping(mode.mapping)}
	r.worlds = [2]*world{
		{side: osSide(dir + "/os"), main: osSide(dir + "/os")},
		{side: mmapioSide(dir+"/mm", options...), main: mmapioSide(dir+"/mm", append(options, mmapio.WithPreallocate(mode.preallocate))...)},
	}
	for _, w := range r.worlds {
		if err := os.Mkdir(w.dir, 0o777); err != nil {
			return err
		}
		defer w.finish()
		w.path = w.side.path("file")
		w.buffer = alignedBuffer(256 << 10)
		w.other = w.plainFile("file", patterned(int(l.initialSize()), int(l.size)))
		if w.file, err = r.openFile(w); err != nil {
			if mode.direct && errors.Is(err, syscall.EINVAL) {
				return nil // not on this file system
			}
			return err
		}
		defer func() { w.file.Close() }()
		w.source = w.ownFile("other", patterned(70_000, 9))
	}
	r.most = l.initialSize()
	for i, o := range l.operations {
		if err := r.one(o); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return r.end()
}

// one runs one operation on both sides and compares.
func (r *run) one(o operation) (err error) {
	kind := o.what()
	if kind.rare && o.flavor >= 24 {
		return nil
	}
	if r.mode.direct && (strings.HasPrefix(kind.name, "io.Copy") || strings.HasPrefix(kind.name, "ReadFrom")) {
		return nil // the buffers of such copies are aligned only by chance
	}
	s, err := r.resolve(o)
	if err != nil {
		return err
	}
	defer func() {
		if cause := recover(); cause != nil {
			stack := make([]byte, 8<<10)
			err = fmt.Errorf("%s: panic: %v\n%s", kind.name, cause, stack[:runtime.Stack(stack, false)])
		}
	}()
	want := kind.do(r, r.worlds[0], s)
	got := kind.do(r, r.worlds[1], s)
	if got != want {
		return fmt.Errorf("%s:\n got %s\nwant %s", r.list.line(o, s), got, want)
	}
	if r.mode.direct && strings.Contains(want, "invalid argument") {
		if err := r.even(); err != nil {
			return err
		}
	}
	wantSize, err := r.worlds[0].size()
	if err != nil {
		return err
	}
	gotSize, err := r.worlds[1].size()
	if err != nil {
		return err
	}
	if exact := r.mode.preallocate == 0 || kind.settles; exact && gotSize != wantSize || gotSize < wantSize {
		return fmt.Errorf("%s: others see %d bytes, want %d", r.list.line(o, s), gotSize, wantSize)
	}
	r.notice(wantSize, kind.cuts && want == "nil")
	return nil
}

// even gives both files the same content again: how much of a write that is not
// aligned as O_DIRECT demands arrives is up to the moment.
func (r *run) even() error {
	truth, err := os.ReadFile(r.worlds[0].path)
	if err != nil {
		return err
	}
	mine, err := os.ReadFile(r.worlds[1].path)
	if err != nil {
		return err
	}
	// Only where they differ: holes shall stay holes.
	for from := 0; from < len(truth); from += 4096 {
		to := min(from+4096, len(truth))
		if to <= len(mine) && bytes.Equal(truth[from:to], mine[from:to]) {
			continue
		}
		if _, err := r.worlds[1].other.WriteAt(truth[from:to], int64(from)); err != nil {
			return err
		}
	}
	return r.worlds[1].other.Truncate(int64(len(truth)))
}

// notice allows for what is documented: where a shrink by others ends within a
// page, a File may know of it only after it has been asked for the size. A shrink
// that ends at a page border is seen without asking, and one made through a File of
// the process (known) as well.
func (r *run) notice(size int64, known bool) {
	if known || size >= r.most {
		r.most = size
		return
	}
	if size%r.page == 0 {
		return
	}
	for _, w := range r.worlds {
		w.file.Stat()
		if w.second != nil {
			w.second.Stat()
		}
	}
	r.most = size
}

// end compares the content as the file itself and as others see it.
func (r *run) end() error {
	var results [2]string
	for i, w := range r.worlds {
		results[i] = tell(w.side, w.file)
		var b bytes.Buffer
		_, err := io.Copy(&b, io.NewSectionReader(w.file, 0, 1<<40))
		results[i] += "\nitself " + bytesOf(b.Bytes()) + w.describe(err)
		b.Reset()
		w.file.Stat() // ends preallocation
		_, err = io.Copy(&b, io.NewSectionReader(w.other, 0, 1<<40))
		results[i] += "\nothers " + bytesOf(b.Bytes()) + w.describe(err)
		results[i] += "\nclose " + w.describe(w.file.Close()) + w.describe(w.file.Close())
		results[i] += "\nthen " + w.contentOf("file")
	}
	if results[0] != results[1] {
		return fmt.Errorf("at the end:\n got %s\nwant %s", results[1], results[0])
	}
	return nil
}

// line renders an operation.
func (l operationList) line(o operation, s step) string {
	return fmt.Sprintf("%s (offset %d, %d bytes, size %d) %#v", o.what().name, s.offset, s.n, s.size, o)
}

// String renders the list so that it can be pasted into a test.
func (l operationList) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "mode %s, %d bytes at first, at most %d\n", differentialModes[l.mode].name, l.initialSize(), l.longest())
	fmt.Fprintf(&text, "operationList{mode: %d, size: %d, limit: %d, operations: []operation{\n", l.mode, l.size, l.limit)
	for _, o := range l.operations {
		fmt.Fprintf(&text, "\t{%d, %d, %d, %d, %d, %d}, // %s\n", o.kind, o.anchor, o.delta, o.length, o.flavor, o.seed, o.what().name)
	}
	text.WriteString("}}")
	return text.String()
}

// shrink leaves out operations as long as fails says that the rest fails.
func (l operationList) shrink(fails func(operationList) bool) operationList {
	for chunk := max(1, len(l.operations)/2); ; {
		shorter := false
		for at := 0; at+chunk <= len(l.operations); {
			candidate := l
			candidate.operations = slices.Concat(l.operations[:at], l.operations[at+chunk:])
			if fails(candidate) {
				l, shorter = candidate, true
			} else {
				at += chunk
			}
		}
		if chunk == 1 && !shorter {
			return l
		}
		if !shorter || chunk > len(l.operations) {
			chunk = max(1, chunk/2)
		}
	}
}

// check runs the list and reports a failure, made shorter.
func (l operationList) check(t *testing.T, dir string, a *assistant, origin string) {
	t.Helper()
	err := l.carryOut(dir, a)
	if err == nil {
		return
	}
	t.Logf("%s: %v; making the list shorter", origin, err)
	tries := 0
	short := l.shrink(func(candidate operationList) bool {
		if tries++; tries > 400 {
			return false
		}
		return candidate.carryOut(dir, a) != nil
	})
	if again := short.carryOut(dir, a); again != nil {
		err = again
	}
	t.Fatalf("%s: %v\nin %v", origin, err, short)
}

// randomList makes a list from a seed.
func randomList(seed uint64, mode int, operations int) operationList {
	random := rand.New(rand.NewPCG(seed, uint64(mode)))
	b := make([]byte, listHeader+operations*operationSize)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	b[0] = byte(mode)
	if random.IntN(2) == 0 {
		b[1], b[2] = byte(random.IntN(20)), 0 // one of the special sizes
	}
	list, _ := decodeList(b, operations)
	return list
}

// differentialEffort says how many lists to run for each mode, or for how long.
func differentialEffort(t *testing.T) (seed uint64, lists int, until time.Time) {
	t.Helper()
	seed, lists = 1, 16
	if testing.Short() || runtime.GOOS == "windows" {
		lists = 4
	}
	if text := os.Getenv("MMAPIO_LONG"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("MMAPIO_LONG: %v", err)
		}
		until = time.Now().Add(d)
		seed = uint64(time.Now().UnixNano())
	}
	if text := os.Getenv("MMAPIO_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MMAPIO_SEED: %v", err)
		}
	}
	return seed, lists, until
}

func TestDifferential(t *testing.T) {
	seed, lists, until := differentialEffort(t)
	helper := newAssistant(t)
	disk, memory := t.TempDir(), memoryDir(t)
	for round := 0; ; round++ {
		if until.IsZero() && round == lists || !until.IsZero() && time.Now().After(until) {
			break
		}
		for mode := range differentialModes {
			now := seed + uint64(round)
			list := randomList(now, mode, 100)
			dir := memory
			if round%8 == 0 || list.longest() > 10<<20 || differentialModes[mode].direct {
				dir = disk
			}
			list.check(t, dir, helper, fmt.Sprintf("MMAPIO_SEED=%d, mode %s", now, differentialModes[mode].name))
		}
	}
}

// Encoding and decoding are each other's inverse, and decoding takes anything.
func TestOperationListCoding(t *testing.T) {
	list := randomList(7, 3, 20)
	again, ok := decodeList(list.encode(), 20)
	if !ok || again.String() != list.String() || len(again.operations) != 20 {
		t.Errorf("got %v, want %v", again, list)
	}
	if short, _ := decodeList(list.encode(), 5); len(short.operations) != 5 {
		t.Errorf("%d operations, want at most 5", len(short.operations))
	}
	o := operation{kind: 1, anchor: 2, delta: 0x304, length: 0x506, flavor: 7, seed: 8}
	if got := decodeOperation(o.encode()); got != o {
		t.Errorf("got %v, want %v", got, o)
	}
	for n := range listHeader + 2*operationSize {
		list, ok := decodeList(make([]byte, n), 10)
		if ok != (n >= listHeader) || ok && len(list.operations) != (n-listHeader)/operationSize {
			t.Errorf("%d bytes: %v, %v", n, list, ok)
		}
	}
	if list, _ := decodeList([]byte{255, 255, 255, 255}, 10); list.mode >= len(differentialModes) || list.initialSize() > list.longest() {
		t.Errorf("decoded to %v", list)
	}
}

// Shrinking keeps what makes the list fail and drops the rest.
func TestOperationListShrinking(t *testing.T) {
	list := randomList(8, 0, 100)
	first, second := list.operations[17], list.operations[61]
	short := list.shrink(func(l operationList) bool {
		return slices.Contains(l.operations, first) && slices.Contains(l.operations, second)
	})
	if !slices.Equal(short.operations, []operation{first, second}) {
		t.Errorf("shrunk to %v", short)
	}
}

// Random lists reach every kind of operation.
func TestOperationListsReachEverything(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(300) {
		for _, o := range randomList(seed, 0, 100).operations {
			if kind := o.what(); !kind.rare || o.flavor < 24 {
				seen[kind.name] = true
			}
		}
	}
	for _, kind := range operationKinds {
		if !seen[kind.name] {
			t.Errorf("no list does %s", kind.name)
		}
	}
}
