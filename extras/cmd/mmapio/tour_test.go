package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wantTable checks that the tour printed all rows of its table.
func wantTable(t *testing.T, out string) {
	t.Helper()
	for _, name := range []string{"random reads", "sequential reads", "random writes", "io.Copy", "appends", "preallocated"} {
		rows := 0
		for line := range strings.Lines(out) {
			if strings.Contains(line, name) && strings.HasSuffix(line, " x\n") {
				rows++
			}
		}
		if rows != 1 {
			t.Errorf("%d rows for %s in\n%s", rows, name, out)
		}
	}
}

func TestTour(t *testing.T) {
	out := succeed(t, "tour") // which checks that the temporary folder is empty again
	wantTable(t, out)
	if !strings.Contains(out, "3 MiB") {
		t.Errorf("no word of the size in\n%s", out)
	}
}

// TestTourOfFile checks that the tour leaves a given file as it is.
func TestTourOfFile(t *testing.T) {
	for _, size := range []int{1, accessSize - 1, accessSize, 100_000, 5 << 20} {
		folder := t.TempDir()
		path := filepath.Join(folder, "file")
		content := random(size)
		write(t, path, content)
		then := time.Now().Add(-time.Hour).Truncate(time.Second)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		out := succeed(t, "tour", path)
		wantTable(t, out)
		if !strings.Contains(out, path) {
			t.Errorf("no word of %s in\n%s", path, out)
		}
		wantContent(t, path, content)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !info.ModTime().Equal(then) {
			t.Errorf("a file of %d bytes was modified at %v, want %v", size, info.ModTime(), then)
		}
		wantNames(t, folder, "file")
	}
}

// TestTourNoRoom has the temporary folder missing.
func TestTourNoRoom(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	wantFailure(t, finish(t, toolCommand(t, missing, "tour")), 1, missing)
}

// content is a file that is read only.
type content struct {
	file
	*bytes.Reader
}

func (c content) Read(b []byte) (int, error)                { return c.Reader.Read(b) }
func (c content) ReadAt(b []byte, off int64) (int, error)   { return c.Reader.ReadAt(b, off) }
func (c content) Seek(off int64, whence int) (int64, error) { return c.Reader.Seek(off, whence) }
func (content) Name() string                                { return "content" }

// TestTourSeesDifferences compares files that are not the same.
func TestTourSeesDifferences(t *testing.T) {
	right := random(100_000)
	wrong := bytes.Clone(right)
	wrong[50_000]++
	files := func(a, b []byte) pair {
		return pair{content{Reader: bytes.NewReader(a)}, content{Reader: bytes.NewReader(b)}}
	}
	tour := tour{ctx: t.Context(), plan: plan{lookAt: 1 << 20}}
	if _, err := tour.compare(files(right, right), 100_000); err != nil {
		t.Errorf("the same bytes: %v", err)
	}
	if _, err := tour.compare(files(right, wrong), 100_000); err == nil {
		t.Error("different bytes are found to be the same")
	}
	tour.plan.positions = 1000
	if err := tour.comparePositions(files(right, right), 100_000); err != nil {
		t.Errorf("the same bytes: %v", err)
	}
	if err := tour.comparePositions(files(right, wrong), 100_000); err == nil {
		t.Error("different bytes at random positions are found to be the same")
	}
	if err := tour.comparePositions(files(right, right[:99_999]), 100_000); err == nil {
		t.Error("different ends are found to be the same")
	}
}

// TestTourSeesLostRecords checks the check of the appended records.
func TestTourSeesLostRecords(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l := &log{file: file}
	if err := errors.Join(l.do(5), l.reset(), l.do(10), l.check()); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(make([]byte, appendSize), 3*appendSize); err != nil {
		t.Fatal(err)
	}
	if err := l.check(); err == nil {
		t.Error("a wrong record is not seen")
	}
	if err := errors.Join(l.reset(), l.do(10), file.Truncate(9*appendSize)); err != nil {
		t.Fatal(err)
	}
	if err := l.check(); err == nil {
		t.Error("a missing record is not seen")
	}
}

func TestByteCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 256 << 20: "256 MiB", 256<<20 + 1: "256 MiB", 1<<63 - 1: "8 EiB",
	} {
		if got := byteCount(n); got != want {
			t.Errorf("byteCount(%d) = %q, want %q", n, got, want)
		}
	}
}
