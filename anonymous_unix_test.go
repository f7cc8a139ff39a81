//go:build unix

package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/mmapio/mmapio"
)

const sharedCounts = 10_000

func init() {
	// The child makes descriptor 3 longer, looks at what is there, and counts in it.
	moreTasks["anonymous"] = func() error {
		f := mmapio.NewFile(3, "shared")
		defer f.Close()
		var b [10]byte
		if _, err := f.ReadAt(b[:], 100); err != nil || string(b[:]) != "from above" {
			return fmt.Errorf("the child reads %q, %w", b, err)
		}
		if err := f.Truncate(3 << 20); err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte("from below"), 2<<20); err != nil {
			return err
		}
		v, err := f.View(0, 4096)
		if err != nil {
			return err
		}
		defer v.Release()
		word, err := v.Uint64(8)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		for range sharedCounts {
			word.Add(1)
		}
		return nil
	}
}

// Two processes have the same memory: what one stores the other sees, and so for the size.
func TestAnonymousInAChild(t *testing.T) {
	f := newAnonymous(t, 1<<20)
	if _, err := f.WriteAt([]byte("from above"), 100); err != nil {
		t.Fatal(err)
	}
	v, err := f.View(0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	word, err := v.Uint64(8)
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "anonymous")
	cmd.ExtraFiles = []*os.File{f.OSFile()}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Error(err)
	}
	for range sharedCounts {
		word.Add(1)
	}
	rest, err := io.ReadAll(out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("%v %s", err, rest)
	}
	if n := word.Load(); n != 2*sharedCounts {
		t.Errorf("both counted to %d, not %d", n, 2*sharedCounts)
	}
	if size, err := f.Size(); size != 3<<20 || err != nil {
		t.Errorf("Size is %d, %v", size, err)
	}
	var b [10]byte
	if _, err := f.ReadAt(b[:], 2<<20); err != nil || string(b[:]) != "from below" {
		t.Errorf("reads %q, %v", b, err)
	}
	runtime.KeepAlive(f)
}
