package mmapio

import (
	"errors"
	"os"
	"testing"
)

// growing returns a new File that grows in steps of step bytes.
func growing(t testing.TB, step int64) (f *File, name string) {
	t.Helper()
	name = newNamedFile(t, 0)
	f, err := OpenFile(name, os.O_RDWR, 0, WithPreallocate(step), WithMapping(MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, name
}

// seenSize returns the size that others see.
func seenSize(t testing.TB, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// The file grows in steps, and everything that needs the true size cuts the tail off.
func TestTailComesAndGoes(t *testing.T) {
	const step = 100_000
	for what, end := range map[string]func(f *File) error{
		"Stat":     func(f *File) error { _, err := f.Stat(); return err },
		"Sync":     func(f *File) error { return f.Sync() },
		"Truncate": func(f *File) error { return f.Truncate(1000) },
		"Close":    func(f *File) error { return f.Close() },
		"Fd":       func(f *File) error { f.Fd(); return nil },
		"Detach": func(f *File) error {
			inner, err := f.Detach()
			if err != nil {
				return err
			}
			return inner.Close()
		},
	} {
		f, name := growing(t, step)
		for range 10 {
			if n, err := f.Write(make([]byte, 100)); n != 100 || err != nil {
				t.Fatal(n, err)
			}
		}
		if size := seenSize(t, name); size < 1000+step/2 {
			t.Errorf("others see %d bytes of 1000 and a step of %d", size, step)
		}
		if size, err := f.Size(); size != 1000 || err != nil {
			t.Errorf("Size: %d, %v", size, err)
		}
		if err := end(f); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if size := seenSize(t, name); size != 1000 {
			t.Errorf("others see %d bytes after %s", size, what)
		}
	}
}

// Where nothing can be allocated the tail is zeros that were written, or there is none.
func TestTailWithoutAllocation(t *testing.T) {
	for _, failure := range []error{errors.ErrUnsupported, errors.New("disk full")} {
		f, name := growing(t, 100_000)
		restore := Intercept(func(called string) error {
			if called == "allocate" {
				return failure
			}
			return nil
		})
		for range 10 {
			if n, err := f.Write([]byte("0123456789")); n != 10 || err != nil {
				t.Fatal(n, err)
			}
		}
		restore()
		if size := seenSize(t, name); (size > 100) != errors.Is(failure, errors.ErrUnsupported) {
			t.Errorf("others see %d bytes after %v", size, failure)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if size := seenSize(t, name); size != 100 {
			t.Errorf("%d bytes after %v", size, failure)
		}
	}
}
