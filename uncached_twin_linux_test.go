package mmapio_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
)

// Where mappings and system calls do not see the same bytes, no file is mapped unless that
// was asked for, for reading only, and so all is as with os.File, whoever writes.
func TestUncached(t *testing.T) {
	defer mmapio.BeUncached()()
	helper := newAssistant(t)
	dir := memoryDir(t)
	for mode, m := range differentialModes {
		if m.mapping == mmapio.MapAlways && m.flag&(os.O_RDWR|os.O_WRONLY) == 0 || m.direct {
			continue
		}
		for seed := range uint64(5) {
			randomList(seed, mode, 100).check(t, dir, helper, fmt.Sprintf("seed %d, mode %s", seed, m.name))
		}
	}
	name := newFilled(t, 100_000, 1)
	f := openFor(t, name, os.O_RDWR)
	for range 3 {
		warm(f)
		if mmapio.IsMapped(f) {
			t.Fatal("a file was mapped that nobody asked to map")
		}
	}
}

// Asked for, a file that is opened for reading only is mapped. One that is opened for
// writing is not: this File could not see what it has written itself.
func TestUncachedAskedFor(t *testing.T) {
	defer mmapio.BeUncached()()
	model := patterned(100_000, 1)
	read := openFor(t, newFilled(t, len(model), 1), os.O_RDONLY, mmapio.WithMapping(mmapio.MapAlways))
	warm(read)
	if !mmapio.IsMapped(read) {
		t.Fatal("not mapped")
	}
	if got := permissionsOf(t, read); strings.Contains(got, "w") {
		t.Errorf("mapped %s", got)
	}
	b := make([]byte, len(model))
	for range 2 {
		if _, err := read.ReadAt(b, 0); err != nil || !bytes.Equal(b, model) {
			t.Fatalf("other bytes, %v", err)
		}
	}
	f := openFor(t, newFilled(t, len(model), 1), os.O_RDWR, mmapio.WithMapping(mmapio.MapAlways))
	warm(f)
	if mmapio.IsMapped(f) {
		t.Error("a file to write to is mapped")
	}
	for at := range len(model) / 5000 {
		copy(model[at*5000:], "changed")
		if _, err := f.WriteAt([]byte("changed"), int64(at)*5000); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, model) {
			t.Fatalf("this File does not see what it has written: %v", err)
		}
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, model) {
		t.Errorf("the file does not have what was written: %v", err)
	}
	if err := f.Flush(); err != nil {
		t.Error(err)
	}
	v, err := f.View(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	if v.Writable() || !bytes.Equal(v.Bytes(), model[:100]) {
		t.Errorf("a View that can be stored to: %v, of %q", v.Writable(), v.Bytes())
	}
}

// permissionsOf returns the permissions that the kernel knows of the memory of f.
func permissionsOf(t *testing.T, f *mmapio.File) string {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(maps)) {
		if fields := strings.Fields(line); len(fields) > 5 && fields[5] == f.Name() {
			found = append(found, fields[1])
		}
	}
	if len(found) == 0 {
		t.Fatalf("no memory of %s", f.Name())
	}
	return strings.Join(found, " ")
}
