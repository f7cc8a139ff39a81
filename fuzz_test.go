package mmapio_test

import (
	"bytes"
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
