package main

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// sumLine is what the tool should print, by way of the standard library alone.
func sumLine(name string, content []byte) string {
	return fmt.Sprintf("%x  %08x  %s\n", sha256.Sum256(content), crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)), name)
}

func TestSum(t *testing.T) {
	folder := t.TempDir()
	var args []string
	var want strings.Builder
	for i, content := range [][]byte{nil, []byte("123456789"), random(64 << 10), random(5<<20 + 3)} {
		path := filepath.Join(folder, strconv.Itoa(i))
		write(t, path, content)
		args = append(args, path)
		want.WriteString(sumLine(path, content))
	}
	got := succeed(t, append([]string{"sum"}, args...)...)
	if got != want.String() {
		t.Errorf("prints\n%swant\n%s", got, want.String())
	}
	if !strings.Contains(got, "  e3069283  ") {
		t.Errorf("CRC-32C of 123456789 must be e3069283:\n%s", got)
	}

	t.Run("sha256sum", func(t *testing.T) {
		program, err := exec.LookPath("sha256sum")
		if err != nil {
			t.Skip(err)
		}
		out, err := exec.CommandContext(t.Context(), program, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		theirs, ours := strings.Split(string(out), "\n"), strings.Split(got, "\n")
		if len(theirs) != len(ours) {
			t.Fatalf("%d lines, sha256sum prints %d", len(ours), len(theirs))
		}
		for i := range len(args) {
			if a, b := strings.Fields(ours[i])[0], strings.Fields(theirs[i])[0]; a != b {
				t.Errorf("%s: SHA-256 is %s, sha256sum says %s", args[i], a, b)
			}
		}
	})
}

func TestSumGoesOn(t *testing.T) {
	folder := t.TempDir()
	first, last := filepath.Join(folder, "first"), filepath.Join(folder, "last")
	missing := filepath.Join(folder, "missing")
	write(t, first, []byte("a"))
	write(t, last, []byte("b"))
	r := tool(t, "sum", first, missing, folder, last)
	if r.status != 1 {
		t.Errorf("status %d, want 1", r.status)
	}
	if want := sumLine(first, []byte("a")) + sumLine(last, []byte("b")); r.stdout != want {
		t.Errorf("prints\n%swant\n%s", r.stdout, want)
	}
	lines := strings.SplitAfter(r.stderr, "\n")
	if len(lines) != 3 || lines[2] != "" {
		t.Fatalf("standard error %q, want two lines", r.stderr)
	}
	wantLine(t, lines[0], missing)
	wantLine(t, lines[1], folder, "folder")
}

// TestSumQuotes has names that would break a line, and that would colour the terminal.
func TestSumQuotes(t *testing.T) {
	for _, name := range []string{"two\nlines", "\x1b[31mred"} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("a"), 0o644); err != nil {
			t.Skipf("no control characters in names here: %v", err)
		}
		if got, want := succeed(t, "sum", path), sumLine(strconv.Quote(path), []byte("a")); got != want {
			t.Errorf("prints %q, want %q", got, want)
		}
		if r := tool(t, "sum", path+"-missing"); strings.Count(r.stderr, "\n") != 1 || strings.Contains(r.stderr, "\x1b") {
			t.Errorf("standard error %q", r.stderr)
		}
	}
}
