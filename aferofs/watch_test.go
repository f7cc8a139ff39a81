package aferofs_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"

	"github.com/mmapio/mmapio/extras"
	"github.com/mmapio/mmapio/extras/watch"
)

// Files can be watched, under BasePathFs too, which shows another name, and those of
// NewRooted, which show a name that means another file, or none, outside. Events have the
// name that the file shows.
func TestFilesCanBeWatched(t *testing.T) {
	for _, base := range bases[1:] {
		for _, wrapped := range []bool{false, true} {
			name := base.name
			if wrapped {
				name += " under BasePathFs"
			}
			t.Run(name, func(t *testing.T) {
				s, folder := base.make(t, t.TempDir())
				if wrapped {
					s, folder = afero.NewBasePathFs(s, folder), ""
				}
				name := filepath.Join(folder, "file")
				if err := afero.WriteFile(s, name, []byte("content"), 0o600); err != nil {
					t.Fatal(err)
				}
				opened, err := s.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				f, ok := extras.Find[*mmapio.File](opened)
				if !ok {
					t.Fatalf("%T has no File", opened)
				}
				var options []watch.Option
				if runtime.GOOS == "windows" { // events are for package watch to test: see .ci/wine
					options = []watch.Option{watch.WithPolling(), watch.WithInterval(10 * time.Millisecond)}
				}
				w, err := watch.File(t.Context(), f, options...)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				if err := opened.Close(); err != nil { // Windows renames nothing that is open
					t.Fatal(err)
				}
				next := func(kind watch.Kind) {
					t.Helper()
					for {
						select {
						case event := <-w.Events:
							if event.Kind == watch.Metadata || event.Kind == watch.Overflow { // on Windows
								continue
							}
							if event.Kind != kind || event.Name != f.Name() {
								t.Fatalf("%v, want %v of %s", event, kind, f.Name())
							}
							return
						case <-time.After(time.Minute):
							t.Fatalf("no event of %s", name)
						}
					}
				}
				change, err := s.OpenFile(name, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := change.Truncate(100); err != nil {
					t.Fatal(err)
				}
				if err := change.Close(); err != nil {
					t.Fatal(err)
				}
				next(watch.Resized)
				next(watch.Modified)
				if err := s.Remove(name); err != nil {
					t.Fatal(err)
				}
				next(watch.Removed)
			})
		}
	}
}
