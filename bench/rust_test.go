package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// needRust returns the path of the Rust program, or skips where it cannot be built.
func needRust(t *testing.T, atomic bool) string {
	t.Helper()
	program, err := rustProgram(t.Context(), atomic)
	if err != nil {
		t.Skip("no Rust sides: ", err)
	}
	return program
}

// bytesFile returns the path of a file with the bytes 0, 1, 2, ...
func bytesFile(t *testing.T, size int) string {
	t.Helper()
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i)
	}
	path := filepath.Join(t.TempDir(), "file with spaces")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A Rust side reads what is in the file, goes on where it ended, and tells its time.
func TestRustReads(t *testing.T) {
	program := needRust(t, false)
	const size, n = 2 * pageSize, 64
	path := bytesFile(t, size)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, crate := range []string{sideCrate, sideMemmap2} {
		parameters := rustReads(n, n, 1, 1, "ro").parameters
		parameters["size"] = size
		s, err := startRust(t.Context(), program, crate, "read", path, parameters)
		if err != nil {
			t.Fatal(crate, err)
		}
		way := newWalk(size, n, seed)
		for _, ops := range []int{1, 0, 1000} {
			want, p := uint64(0), make([]byte, n)
			for range ops {
				way.x = next(way.x)
				copy(p, content[offset(way.x, way.unit, way.units):])
				want = mix(want, p)
			}
			sum, err := s.run(ops)
			if ops > 0 && sum != whole(want, p) || err != nil {
				t.Errorf("%s: %d operations: %x, %v; want %x", crate, ops, sum, err, whole(want, p))
			}
		}
		began := time.Now()
		if _, err := s.run(100_000); err != nil {
			t.Error(crate, err)
		}
		if took, most := s.took, time.Since(began); took <= 0 || took > most {
			t.Errorf("%s: took %v of %v", crate, took, most)
		}
		if err := s.close(); err != nil {
			t.Error(crate, err)
		}
	}
}

// A Rust side writes into the file.
func TestRustWrites(t *testing.T) {
	program := needRust(t, false)
	path := bytesFile(t, pageSize)
	s, err := startRust(t.Context(), program, sideCrate, "write", path, map[string]any{"size": pageSize, "n": pageSize, "unit": pageSize})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(1); err != nil {
		t.Error(err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	content, err := os.ReadFile(path)
	if want := next(seed); err != nil || binary.LittleEndian.Uint64(content) != want {
		t.Errorf("wrote %x, %v; want %x first", content[:8], err, want)
	}
}

// What a Rust side cannot do is told when it is opened, and what goes wrong when it runs is
// told then.
func TestRustFailures(t *testing.T) {
	program := needRust(t, false)
	path := bytesFile(t, pageSize)
	for _, test := range []struct {
		crate, workload, path string
		parameters            map[string]any
		want                  string
	}{
		{"mmap-oi", "touch", path, nil, `no side "mmap-oi"`},
		{sideCrate, "teach", path, nil, `no workload "teach"`},
		{sideCrate, "touch", path, map[string]any{"n": 1}, "no parameter n"},
		{sideCrate, "write", path, nil, "= is missing"},
		{sideCrate, "touch", path + "-not", nil, "os error 2"},
		{sideCrate, "count", path, map[string]any{"threads": 1, "times": 1}, "atomic words"},
		{sideMemmap2, "update", path, map[string]any{"n": 8, "span": 8, "flush": "none", "policy": "bytes:8"}, "flush policies"},
	} {
		parameters := map[string]any{"size": pageSize}
		for name, value := range test.parameters {
			parameters[name] = value
		}
		s, err := startRust(t.Context(), program, test.crate, test.workload, test.path, parameters)
		if err == nil {
			t.Errorf("%s of %s: no error, %v", test.workload, test.crate, s.close())
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s of %s: %v, want %q", test.workload, test.crate, err, test.want)
		}
	}

	s, err := startRust(t.Context(), program, sideCrate, "create", filepath.Join(t.TempDir(), "file"), map[string]any{"size": pageSize})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(2); err != nil {
		t.Error(err)
	}
	if _, err := s.run(-1); err == nil || !strings.Contains(err.Error(), "no command") {
		t.Errorf("a command that is none: %v", err)
	}
	if _, err := s.run(1); err == nil {
		t.Error("a run of a side that has ended: no error")
	}
	if err := s.close(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Error(err)
	}
}

// A side that opens its file again reads what has become of it, and only where its workload is
// told to.
func TestRustReopens(t *testing.T) {
	program := needRust(t, false)
	path := bytesFile(t, 2*pageSize)
	w := &workspace{ctx: t.Context()}
	for _, crate := range []string{sideCrate, sideMemmap2} {
		opened := 0
		work := rustWork{
			name: "cold", parameters: map[string]any{"n": 64, "unit": 64, "walks": 1},
			between: func(path string) error {
				opened++
				return os.WriteFile(path, bytes.Repeat([]byte{byte(opened)}, 2*pageSize), 0o600)
			},
		}
		s, err := work.side(crate, false, func(*workspace) (string, int64, error) { return path, 2 * pageSize, nil }).open(w)
		if err != nil {
			t.Fatal(crate, err)
		}
		for i := range 2 {
			p := bytes.Repeat([]byte{byte(i + 1)}, 64)
			if sum, err := s.do(1); sum != whole(mix(0, p), p) || err != nil {
				t.Errorf("%s: %x, %v; want %x", crate, sum, err, whole(mix(0, p), p))
			}
		}
		if err := s.end(); err != nil {
			t.Error(crate, err)
		}
		p, err := startRust(t.Context(), program, crate, "crc", path, map[string]any{"size": 2 * pageSize})
		if err != nil {
			t.Fatal(crate, err)
		}
		if err := p.tell("shut"); err == nil || !strings.Contains(err.Error(), "open all the time") {
			t.Errorf("%s: got %v", crate, err)
		}
		if err := p.close(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Error(crate, err)
		}
	}
}

// A Rust side ends with the comparison.
func TestRustStopped(t *testing.T) {
	program := needRust(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := startRust(ctx, program, sideCrate, "touch", bytesFile(t, pageSize), map[string]any{"size": pageSize})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if line, err := p.from.ReadString('\n'); err != io.EOF {
		t.Errorf("a process that was to end said %q, %v", line, err)
	}
	if err := p.close(); err == nil {
		t.Error("it has ended by itself")
	}
	if _, err := p.run(1); err == nil {
		t.Error("a run of a side that has ended: no error")
	}
}

// A build that was stopped is not the last word.
func TestBuildStopped(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var b rustBuild
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{stopped, t.Context()} {
		if _, err := b.get(ctx); err == nil {
			t.Fatal("built without cargo")
		}
		if b.done != (ctx.Err() == nil) {
			t.Errorf("done: %v, %v", b.done, ctx.Err())
		}
	}
}

// Atomic words need the other build, and count.
func TestRustCounts(t *testing.T) {
	program := needRust(t, true)
	for _, crate := range []string{sideCrate, sideMemmap2} {
		path := bytesFile(t, pageSize)
		s, err := startRust(t.Context(), program, crate, "count", path, map[string]any{"size": pageSize, "threads": 2, "times": 100})
		if err != nil {
			t.Fatal(crate, err)
		}
		const start = 0x0706050403020100
		if sum, err := s.run(3); sum != start+3*2*100 || err != nil {
			t.Errorf("%s: %x, %v", crate, sum, err)
		}
		if err := s.close(); err != nil {
			t.Error(crate, err)
		}
	}
}

// Without cargo the crates are left out, and rows that are about them are skipped.
func TestWithoutRust(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := buildRust(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "cargo") {
		t.Fatalf("built without cargo: %v", err)
	}
	if version, err := rustCrate(sideCrate)(t.Context()); err == nil {
		t.Errorf("without cargo there is %q", version)
	}
}

// What many rows of one identifier do without, for one reason, is told once.
func TestRemarks(t *testing.T) {
	left := []absent{{"b", "not installed"}}
	rep := report{Rows: []result{
		{ID: "X", Variant: "a", LeftOut: left}, {ID: "X", Variant: "b", LeftOut: left},
		{ID: "Y", Variant: "a", LeftOut: left}, {ID: "Y", Variant: "b", Skipped: "no room"},
	}}
	want := []string{
		"Y/b skipped: no room",
		"X (2 rows) without b: not installed",
		"Y/a without b: not installed",
		"goals: 0 reached, 0 missed; rows skipped: 1, failed: 0",
	}
	if got := rep.remarks(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The source is unpacked once, whole, and a second time it is found.
func TestUnpackRust(t *testing.T) {
	parent := t.TempDir()
	first, err := unpackRust(parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Cargo.toml", "Cargo.lock", filepath.Join("src", "main.rs"), filepath.Join("src", "sides.rs"), filepath.Join("src", "workloads.rs")} {
		want, err := os.ReadFile(filepath.Join("rust", name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(first, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
	if second, err := unpackRust(parent); second != first || err != nil {
		t.Errorf("again: %q, %v; want %q", second, err, first)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, crate := range []string{sideCrate, sideMemmap2} {
		if version := lockedVersion(crate); strings.Count(version, ".") != 2 {
			t.Errorf("%s has version %q", crate, version)
		}
	}
	if version := lockedVersion("no-such-crate"); version != "" {
		t.Errorf("a crate that is none has version %q", version)
	}
}
