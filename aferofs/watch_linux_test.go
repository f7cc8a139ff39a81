package aferofs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// Who watches files needs to know where they really are: the os.File inside says so, also
// for a file of NewRooted. A write is an event there.
func TestFilesCanBeWatched(t *testing.T) {
	dir := t.TempDir()
	for _, base := range bases[1:] {
		t.Run(base.name, func(t *testing.T) {
			s, folder := base.make(t, dir)
			f, err := s.Create(filepath.Join(folder, "file"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			real := f.(*mmapio.File).OSFile().Name()
			watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
			if err != nil {
				t.Skipf("nothing can be watched: %v", err)
			}
			defer unix.Close(watch)
			if _, err := unix.InotifyAddWatch(watch, filepath.Dir(real), unix.IN_MODIFY); err != nil {
				t.Fatalf("%s: %v", real, err)
			}
			if _, err := f.Write([]byte("seen")); err != nil {
				t.Fatal(err)
			}
			events := make([]byte, 4096)
			if n, err := unix.Read(watch, events); err != nil || !bytes.Contains(events[:n], []byte("file\x00")) {
				t.Errorf("events %q, %v", events[:max(n, 0)], err)
			}
			if content, err := os.ReadFile(real); string(content) != "seen" || err != nil {
				t.Errorf("%q, %v", content, err)
			}
		})
	}
}
