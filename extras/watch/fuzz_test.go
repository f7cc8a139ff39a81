package watch_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mmapio/mmapio/extras/watch"
)

// FuzzPath watches files of any name: who can write such a file is told that it was written,
// and what cannot be watched is a *fs.PathError.
func FuzzPath(f *testing.F) {
	for _, name := range []string{"file", "", ".", "..", "a b", "ä", "\xff", "a\x00b", "dir/file", "./file", "dir/../file", "file/", "*", "[", "new\nline", strings.Repeat("l", 255), strings.Repeat("l", 256), "-", "~", `\`, `a\b`} {
		f.Add(name, true)
		f.Add(name, false)
	}
	f.Fuzz(func(t *testing.T, name string, polling bool) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "dir"), 0o777); err != nil {
			t.Fatal(err)
		}
		path := dir + string(filepath.Separator) + name
		if rest, err := filepath.Rel(dir, filepath.Clean(path)); err != nil || !filepath.IsLocal(rest) && rest != "." {
			t.Skip("leads out of the folder")
		}
		writable := os.WriteFile(path, []byte("before"), 0o666) == nil
		options := []watch.Option{watch.WithQuiet(0)}
		if polling {
			options = append(options, watch.WithPolling(), watch.WithInterval(time.Millisecond))
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w, err := watch.Path(ctx, path, options...)
		if err != nil {
			if _, ok := errors.AsType[*fs.PathError](err); !ok || writable {
				t.Fatalf("%q, which can be written: %v: %v", name, writable, err)
			}
			return
		}
		defer w.Close()
		if !writable {
			return
		}
		if err := os.WriteFile(path, []byte("after, and longer"), 0o666); err != nil {
			t.Fatal(err)
		}
		select {
		case _, ok := <-w.Events:
			if !ok {
				t.Fatalf("%q: no events any more", name)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%q was written, and nothing told", name)
		}
	})
}
