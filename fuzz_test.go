package mmapio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/mmapio/mmapio"
)

// FuzzOperations runs the lists of TestDifferential that the fuzzer makes up.
//
//	go test -run '^$' -fuzz FuzzOperations
func FuzzOperations(f *testing.F) {
	for mode := range differentialModes {
		f.Add(randomList(1000, mode, 30).encode())
	}
	// Written, read back, cut and read at the end.
	f.Add(operationList{size: 3, operations: []operation{{kind: 20}, {kind: 0}, {kind: 50}, {kind: 8}}}.encode())
	helper := newAssistant(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		list, ok := decodeList(b, 200)
		if !ok {
			t.Skip("too short for a list")
		}
		list.check(t, memoryDir(t), helper, "fuzzed")
	})
}

// FuzzReadAtWriteAt reads and writes at any offset of a file of any length.
func FuzzReadAtWriteAt(f *testing.F) {
	for _, offset := range []int64{0, 1, 4095, 4096, 8292, 1 << 31, 1 << 40, -1, -1 << 63, 1<<63 - 1} {
		f.Add(offset, uint16(1), uint16(8292), true)
		f.Add(offset, uint16(5000), uint16(4096), false)
	}
	f.Fuzz(func(t *testing.T, offset int64, length, size uint16, warmed bool) {
		var results [2]string
		dir := memoryDir(t)
		for i, s := range []*side{
			osSide(dir + "/os"),
			mmapioSide(dir+"/mm", mmapio.WithMapping(mmapio.MapAlways)),
		} {
			defer s.finish()
			if err := os.Mkdir(s.dir, 0o777); err != nil {
				t.Fatal(err)
			}
			file := s.ownFile("file", patterned(int(size), 1))
			if warmed {
				warm(file)
			}
			for range 2 {
				results[i] += readAtRow(int(length), offset)(s, file) + "\n"
				results[i] += writeAtRow(int(length), offset)(s, file) + "\n"
				results[i] += readAtRow(int(length)+10, offset)(s, file) + "\n"
			}
			info, err := os.Stat(s.path("file"))
			if err != nil {
				t.Fatal(err)
			}
			results[i] += fmt.Sprint(info.Size(), tell(s, file))
			if info.Size() < 1<<20 {
				results[i] += s.contentOf("file")
			}
		}
		if results[0] != results[1] {
			t.Errorf("offset %d, %d bytes, size %d:\n got %s\nwant %s", offset, length, size, results[1], results[0])
		}
	})
}

// The decoder of FuzzOperations reaches each mode and each operation, and the same
// bytes are always the same list.
func TestFuzzDecoding(t *testing.T) {
	modes := make(map[string]bool)
	for first := range 256 {
		list, ok := decodeList([]byte{byte(first), 1, 2, 3}, 10)
		if !ok || len(list.operations) != 0 {
			t.Fatalf("a header alone decoded to %v, %v", list, ok)
		}
		modes[differentialModes[list.mode].name] = true
	}
	if len(modes) != len(differentialModes) {
		t.Errorf("reached %d of %d modes", len(modes), len(differentialModes))
	}
	kinds := make(map[string]bool)
	for kind := range 256 {
		b := append([]byte{0, 0, 0, 0}, operation{kind: uint8(kind)}.encode()...)
		list, ok := decodeList(b, 10)
		if !ok || len(list.operations) != 1 || !bytes.Equal(list.encode(), b) {
			t.Fatalf("kind %d decoded to %v, %v", kind, list, ok)
		}
		kinds[list.operations[0].what().name] = true
	}
	for _, kind := range operationKinds {
		if !kinds[kind.name] {
			t.Errorf("%s cannot be reached", kind.name)
		}
	}
}

// FuzzView asks for Views, and for words and ranges of them, at any offset, and compares
// with a slice.
func FuzzView(f *testing.F) {
	for _, off := range []int64{0, 1, 8, 4095, 4096, 10_000, 1 << 32, -1, -1 << 63, 1<<63 - 1} {
		f.Add(off, int64(100), int64(8), 3, uint16(10_000), uint8(0))
		f.Add(int64(4096), off, off, int(off), uint16(10_000), uint8(1))
		f.Add(int64(4), int64(100), off, 1, uint16(4096), uint8(2))
	}
	ways := [][]mmapio.Option{nil, {mmapio.WithMapping(mmapio.MapNever)}, {mmapio.WithMapping(mmapio.MapAlways)}}
	f.Fuzz(func(t *testing.T, off, length, at int64, count int, size uint16, way uint8) {
		if !mmapio.SupportsMapping {
			t.Skip("no mappings on this system")
		}
		model := patterned(int(size), 1)
		file := openFor(t, newFilled(t, int(size), 1), os.O_RDWR, ways[int(way)%len(ways)]...)
		v, err := file.View(off, length)
		inside := off >= 0 && length >= 0 && off <= int64(size) && length <= int64(size)-off
		if inside != (err == nil) || err != nil && !errors.Is(err, mmapio.ErrOutOfRange) {
			t.Fatalf("View(%d, %d) of %d: %v", off, length, size, err)
		}
		if err != nil {
			return
		}
		defer v.Release()
		part := model[off : off+length]
		if !bytes.Equal(v.Bytes(), part) || cap(v.Bytes()) != len(part) {
			t.Fatal("other bytes")
		}
		b := make([]byte, uint8(count))
		reader := bytes.NewReader(part)
		want := make([]byte, len(b))
		n, err := v.ReadAt(b, at)
		if at >= 0 {
			if m, wantErr := reader.ReadAt(want, at); len(b) > 0 && (n != m || err != wantErr) || !bytes.Equal(b, want) {
				t.Fatalf("ReadAt of %d at %d: %d, %v; want %d, %v", len(b), at, n, err, m, wantErr)
			}
		} else if n != 0 || !errors.Is(err, mmapio.ErrOutOfRange) {
			t.Fatalf("ReadAt at %d: %d, %v", at, n, err)
		}
		if !v.Writable() {
			return
		}
		words, err := v.Uint64s(at, count)
		switch fits := at >= 0 && count >= 0 && at <= length && int64(count) <= (length-at)/8; {
		case !fits:
			if !errors.Is(err, mmapio.ErrOutOfRange) {
				t.Fatalf("%d words at %d of %d: %v", count, at, length, err)
			}
		case (off+at)%8 != 0:
			if !errors.Is(err, mmapio.ErrMisaligned) {
				t.Fatalf("%d words at %d+%d: %v", count, off, at, err)
			}
		case err != nil || len(words) != count:
			t.Fatalf("%d words at %d of %d: %d, %v", count, at, length, len(words), err)
		default:
			for i := range words {
				if got := words[i].Load(); got != binary.NativeEndian.Uint64(part[at+8*int64(i):]) {
					t.Fatalf("word %d is %x", i, got)
				}
				words[i].Add(1)
				binary.NativeEndian.PutUint64(part[at+8*int64(i):], words[i].Load())
			}
		}
		n, err = v.WriteAt(want, at)
		if fits := at >= 0 && at <= length && int64(len(want)) <= length-at; fits != (err == nil) || fits && n != len(want) || !fits && n != 0 {
			t.Fatalf("WriteAt of %d at %d of %d: %d, %v", len(want), at, length, n, err)
		} else if fits {
			copy(part[at:], want)
		}
		if got, err := os.ReadFile(file.Name()); err != nil || !bytes.Equal(got, model) {
			t.Fatalf("the file is not the model: %v", err)
		}
	})
}

// FuzzOptions opens files with any flags and options: what os.File has too is as there, and
// what is wrong with an option is an error before a file is made.
func FuzzOptions(f *testing.F) {
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_EXCL, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, 3} {
		f.Add(flag, uint32(0o644), uint8(0), int64(0), int64(0), true)
		f.Add(flag, uint32(0o600), uint8(1), int64(5000), int64(4096), false)
		f.Add(flag, uint32(0), uint8(7), int64(-1), int64(-1), true)
	}
	const meant = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREATE | os.O_EXCL | os.O_TRUNC | os.O_SYNC
	f.Fuzz(func(t *testing.T, flag int, perm uint32, which uint8, size, step int64, exists bool) {
		flag &= meant
		size, step = size%(1<<20), step%(1<<20)
		dir := memoryDir(t)
		mapping, advice := mmapio.WithMapping(mmapio.Mapping(which%3)), mmapio.WithAdvice(mmapio.Advice(which%4))
		if err := os.WriteFile(dir+"/probe", patterned(10_000, 1), 0o666); err != nil {
			t.Fatal(err)
		}
		probe, err := mmapio.OpenFile(dir+"/probe", flag&(os.O_WRONLY|os.O_RDWR|os.O_APPEND|os.O_SYNC), 0, mapping, advice)
		if err != nil {
			advice = nil // not on this system, not for such a file, or not now
		} else if err := probe.Close(); err != nil {
			t.Fatal(err)
		}
		var results [2]string
		for i, s := range []*side{
			osSide(dir + "/os"),
			mmapioSide(dir+"/mm", mapping, advice),
		} {
			defer s.finish()
			if err := os.Mkdir(s.dir, 0o777); err != nil {
				t.Fatal(err)
			}
			if exists {
				if err := os.WriteFile(s.path("file"), patterned(10_000, 1), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			file, err := s.open(s.path("file"), flag, os.FileMode(perm)&os.ModePerm)
			results[i] = s.describe(err) + "\n"
			if err == nil {
				warm(file)
				results[i] += readAtRow(100, 9950)(s, file) + "\n" + writeAtRow(100, 5000)(s, file) + "\n" + tell(s, file) + "\n"
				results[i] += s.describe(file.Close()) + "\n"
			}
			if info, err := os.Stat(s.path("file")); err == nil {
				results[i] += fmt.Sprint(info.Size(), info.Mode())
			}
		}
		if results[0] != results[1] {
			t.Errorf("flag %#x, mode %o, exists %v:\n got %s\nwant %s", flag, perm, exists, results[1], results[0])
		}
		// What os.File does not have.
		name := dir + "/own"
		file, err := mmapio.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666, mmapio.WithSize(size), mmapio.WithPreallocate(step))
		if err != nil {
			if size >= 0 && step >= 0 {
				t.Fatalf("WithSize(%d), WithPreallocate(%d): %v", size, step, err)
			}
			if _, err := os.Stat(name); err == nil {
				t.Fatal("a file was made although an option is wrong")
			}
			return
		}
		defer file.Close()
		if got, err := file.Size(); err != nil || got != size {
			t.Fatalf("WithSize(%d): %d, %v", size, got, err)
		}
	})
}
