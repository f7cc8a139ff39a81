package main

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
)

// A file that could not be written is not there for the next side.
func TestMade(t *testing.T) {
	w := tiny(t)
	full := errors.New("disk full")
	if _, err := w.made("a", kiB, func(f io.Writer) error {
		_, err := f.Write(make([]byte, 10*kiB))
		return errors.Join(err, full)
	}); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	calls := 0
	for range 2 {
		path, err := w.made("a", kiB, func(f io.Writer) error {
			calls++
			_, err := io.WriteString(f, "text")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); string(text) != "text" || err != nil {
			t.Fatalf("got %q, %v", text, err)
		}
	}
	if calls != 1 {
		t.Errorf("written %d times", calls)
	}
}

// Two files of the same size are the same, and no two of their pages are.
func TestFilled(t *testing.T) {
	w := tiny(t)
	path, size, err := w.filled("a", 16*miB)
	if err != nil || size != w.largest {
		t.Fatalf("%d bytes, %v", size, err)
	}
	other, _, err := w.written("b", 16*miB, kiB)
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(first)) != size || string(first) != string(second) {
		t.Error("the files differ")
	}
	pages := make(map[string]bool)
	for off := 0; off < len(first); off += pageSize {
		pages[string(first[off:off+pageSize])] = true
	}
	if len(pages) != len(first)/pageSize {
		t.Errorf("%d different pages of %d", len(pages), len(first)/pageSize)
	}
}

// A file that is being made when the comparison is interrupted is not there afterwards.
func TestMadeInterrupted(t *testing.T) {
	w := tiny(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	w.ctx = ctx
	stop := errors.New("stop")
	_, err := w.made("a", kiB, func(f io.Writer) error {
		if _, err := f.Write(make([]byte, 2*kiB)); err != nil {
			t.Errorf("before: %v", err)
		}
		cancel(stop)
		_, err := f.Write(make([]byte, 2*kiB))
		return err
	})
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(w.dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}
