package watch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/watch"
)

const (
	modified = watch.Modified
	metadata = watch.Metadata
	removed  = watch.Removed
	resized  = watch.Resized
	replaced = watch.Replaced
	overflow = watch.Overflow
)

type kinds []watch.Kind

// step is something that is done to a file, and what is told of it.
type step struct {
	do      func(t *testing.T, dir, name string)
	events  kinds // with events of the system
	polling kinds // nil: the same
	content kinds // content is compared, either way; nil: as without
}

var none = kinds{}

// The file is 128 KiB long, in blocks of 64 KiB, when a pattern begins.
const patternSize = 128 << 10

var patterns = []struct {
	name    string
	windows bool // also there
	looking bool // events alone do not tell all
	stamped bool // nothing is seen of the content; the time is set after it, which may be told on its own, as metadata
	prepare func(t *testing.T, dir, name string) (watched string)
	steps   []step
}{
	{name: "write in place", windows: true, steps: []step{
		{do: func(t *testing.T, dir, name string) { writeAt(t, name, 100, "new") }, events: kinds{modified}},
		{do: func(t *testing.T, dir, name string) { writeAt(t, name, 100, "newer") }, events: kinds{modified}},
	}},
	{name: "write the same", steps: []step{
		{do: func(t *testing.T, dir, name string) { writeAt(t, name, 100, "xxx") }, events: kinds{modified}, content: kinds{metadata}},
	}},
	{name: "append", windows: true, steps: []step{
		{do: func(t *testing.T, dir, name string) { appendTo(t, name, "more") }, events: kinds{resized, modified}},
	}},
	{name: "truncate", windows: true, steps: []step{
		{do: func(t *testing.T, dir, name string) { must(t, os.Truncate(name, 64<<10)) }, events: kinds{resized, modified}, content: kinds{resized}},
		{do: func(t *testing.T, dir, name string) { must(t, os.Truncate(name, 256<<10)) }, events: kinds{resized, modified}},
		{do: func(t *testing.T, dir, name string) { must(t, os.Truncate(name, 0)) }, events: kinds{resized, modified}, content: kinds{resized}},
	}},
	{name: "chmod", steps: []step{
		{do: func(t *testing.T, dir, name string) { must(t, os.Chmod(name, 0o600)) }, events: kinds{metadata}},
	}},
	{name: "chtimes", steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				must(t, os.Chtimes(name, time.Unix(1e9, 0), time.Unix(1e9, 0)))
			},
			events: kinds{metadata}, polling: kinds{modified}, content: kinds{metadata},
		},
	}},
	// VS Code, nano: cut, then write.
	{name: "save by truncating", windows: true, steps: []step{
		{do: func(t *testing.T, dir, name string) { write(t, name, "short") }, events: kinds{resized, modified}},
		{do: func(t *testing.T, dir, name string) { write(t, name, "short") }, events: kinds{modified}, content: kinds{metadata}},
		{do: func(t *testing.T, dir, name string) { write(t, name, "other") }, events: kinds{modified}},
	}},
	// gedit, many programs: a new file, renamed over.
	{name: "save by renaming", windows: true, steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				write(t, name+".tmp", "new")
				rename(t, name+".tmp", name)
			},
			events: kinds{replaced},
		},
		{do: func(t *testing.T, dir, name string) { appendTo(t, name, "more") }, events: kinds{resized, modified}},
	}},
	// vim with backupcopy=no, emacs: the old file becomes the backup.
	{name: "save with the old file as backup", windows: true, steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				rename(t, name, name+"~")
				write(t, name, strings.Repeat("x", patternSize))
				must(t, os.Chmod(name, 0o644))
				remove(t, name+"~")
			},
			events: kinds{replaced},
		},
		{do: func(t *testing.T, dir, name string) { writeAt(t, name, 1, "more") }, events: kinds{modified}},
	}},
	// vim with backupcopy=yes.
	{name: "save with a copy as backup", windows: true, steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				write(t, name+"~", strings.Repeat("x", patternSize))
				write(t, name, "new text")
				remove(t, name+"~")
			},
			events: kinds{resized, modified},
		},
	}},
	{name: "remove and create", windows: true, steps: []step{
		{do: func(t *testing.T, dir, name string) { remove(t, name) }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { write(t, name, "again") }, events: kinds{replaced}},
		{do: func(t *testing.T, dir, name string) { appendTo(t, name, "more") }, events: kinds{resized, modified}},
	}},
	{name: "remove and create at once", steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				remove(t, name)
				write(t, name, strings.Repeat("x", patternSize))
			},
			events: kinds{replaced},
		},
	}},
	{name: "rotate by renaming", windows: true, steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				rename(t, name, name+".1")
				write(t, name, "")
			},
			events: kinds{replaced},
		},
		{do: func(t *testing.T, dir, name string) { appendTo(t, name+".1", "late") }, events: none},
		{do: func(t *testing.T, dir, name string) { appendTo(t, name, "line\n") }, events: kinds{resized, modified}},
		{do: func(t *testing.T, dir, name string) { rename(t, name, name+".2") }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { write(t, name, "line\n") }, events: kinds{replaced}},
	}},
	{name: "rotate by copying", windows: true, steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				write(t, name+".1", strings.Repeat("x", patternSize))
				must(t, os.Truncate(name, 0))
			},
			events: kinds{resized, modified}, content: kinds{resized},
		},
		{do: func(t *testing.T, dir, name string) { appendTo(t, name, "line\n") }, events: kinds{resized, modified}},
	}},
	{name: "move away and back", steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				rename(t, name, name+".away")
				rename(t, name+".away", name)
			},
			events: kinds{metadata}, // renaming moves the time of the last change
		},
	}},
	{name: "other files", windows: true, steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				write(t, name+"x", "text")
				must(t, os.Mkdir(filepath.Join(dir, "sub", "sub"), 0o755))
				remove(t, name+"x")
			},
			events: none,
		},
	}},
	{name: "folder", steps: []step{
		{do: func(t *testing.T, dir, name string) { must(t, os.RemoveAll(filepath.Dir(name))) }, events: kinds{removed}},
		{
			do: func(t *testing.T, dir, name string) {
				must(t, os.Mkdir(filepath.Dir(name), 0o755))
				write(t, name, "again")
			},
			events: kinds{replaced},
		},
		{do: func(t *testing.T, dir, name string) { appendTo(t, name, "more") }, events: kinds{resized, modified}},
		{do: func(t *testing.T, dir, name string) { rename(t, filepath.Dir(name), dir+"/away") }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { appendTo(t, dir+"/away/file", "more") }, events: none},
		{do: func(t *testing.T, dir, name string) { rename(t, dir+"/away", filepath.Dir(name)) }, events: kinds{replaced}},
		{do: func(t *testing.T, dir, name string) { appendTo(t, name, "more") }, events: kinds{resized, modified}},
	}},
	{name: "folders above", looking: true, prepare: func(t *testing.T, dir, name string) string {
		must(t, os.MkdirAll(dir+"/a/b/c", 0o755))
		write(t, dir+"/a/b/c/file", strings.Repeat("x", patternSize))
		return dir + "/a/b/c/file"
	}, steps: []step{
		// No event tells of this one: it is found by looking, after two seconds.
		{do: func(t *testing.T, dir, name string) { rename(t, dir+"/a", dir+"/z") }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { must(t, os.MkdirAll(dir+"/a/b/c", 0o755)) }, events: none},
		{do: func(t *testing.T, dir, name string) { write(t, name, "again") }, events: kinds{replaced}},
		{do: func(t *testing.T, dir, name string) { must(t, os.RemoveAll(dir+"/a")) }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { rename(t, dir+"/z", dir+"/a") }, events: kinds{replaced}},
	}},
	{name: "symbolic link", prepare: func(t *testing.T, dir, name string) string {
		link := filepath.Join(dir, "link")
		must(t, os.Symlink(name, link))
		return link
	}, steps: []step{
		{do: func(t *testing.T, dir, name string) { writeAt(t, dir+"/sub/file", 5, "new") }, events: kinds{modified}},
		{
			do: func(t *testing.T, dir, name string) {
				must(t, os.Mkdir(dir+"/other", 0o755))
				write(t, dir+"/other/file", "other")
				must(t, os.Symlink("other/file", dir+"/link.new"))
				rename(t, dir+"/link.new", dir+"/link")
			},
			events: kinds{replaced},
		},
		{do: func(t *testing.T, dir, name string) { writeAt(t, dir+"/sub/file", 5, "newer") }, events: none},
		{do: func(t *testing.T, dir, name string) { writeAt(t, dir+"/other/file", 0, "newer") }, events: kinds{modified}},
		{do: func(t *testing.T, dir, name string) { remove(t, dir+"/other/file") }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { write(t, dir+"/other/file", "back") }, events: kinds{replaced}},
		{do: func(t *testing.T, dir, name string) { remove(t, dir+"/link") }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { must(t, os.Symlink(dir+"/sub/file", dir+"/link")) }, events: kinds{replaced}},
	}},
	// As Kubernetes mounts configuration: file -> ..data/file, ..data -> ..1
	{name: "link in the middle", prepare: func(t *testing.T, dir, name string) string {
		for _, version := range []string{"1", "2"} {
			must(t, os.Mkdir(dir+"/.."+version, 0o755))
			write(t, dir+"/.."+version+"/file", "version "+version)
		}
		must(t, os.Symlink("..1", dir+"/..data"))
		must(t, os.Symlink("..data/file", dir+"/file"))
		return dir + "/file"
	}, steps: []step{
		{
			do: func(t *testing.T, dir, name string) {
				must(t, os.Symlink("..2", dir+"/..tmp"))
				rename(t, dir+"/..tmp", dir+"/..data")
				must(t, os.RemoveAll(dir+"/..1"))
			},
			events: kinds{replaced},
		},
		{do: func(t *testing.T, dir, name string) { appendTo(t, dir+"/..2/file", "more") }, events: kinds{resized, modified}},
	}},
	{name: "hard link", prepare: func(t *testing.T, dir, name string) string {
		must(t, os.Mkdir(dir+"/other", 0o755))
		must(t, os.Link(name, dir+"/other/name"))
		return name
	}, steps: []step{
		{do: func(t *testing.T, dir, name string) { writeAt(t, dir+"/other/name", 5, "new") }, events: kinds{modified}},
		{do: func(t *testing.T, dir, name string) { must(t, os.Chmod(dir+"/other/name", 0o600)) }, events: kinds{metadata}},
		{do: func(t *testing.T, dir, name string) { remove(t, name) }, events: kinds{removed}},
		{do: func(t *testing.T, dir, name string) { must(t, os.Link(dir+"/other/name", name)) }, events: kinds{replaced}},
	}},
	{name: "stores by another process", windows: true, stamped: true, steps: []step{
		{do: func(t *testing.T, dir, name string) { runChild(t, "store", name, "70000", "stored") }, content: kinds{modified}},
		{do: func(t *testing.T, dir, name string) { runChild(t, "store", name, "80000", "stored") }, content: kinds{modified}},
	}},
}

func init() {
	children["store"] = func(arguments []string) error {
		off, err := strconv.ParseInt(arguments[1], 10, 64)
		if err != nil {
			return err
		}
		f, err := mmapio.OpenFile(arguments[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		v, err := f.View(off, int64(len(arguments[2])))
		if err != nil {
			return err
		}
		copy(v.Bytes(), arguments[2])
		v.Release()
		return nil
	}
}

// TestPatterns does what editors, log rotation and others do to files, with events
// and polling, comparing the content and not.
func TestPatterns(t *testing.T) {
	quiet := 200 * time.Millisecond // so long that a step is one change on a busy machine too
	if slowOpening {
		quiet = time.Second
	}
	for _, pattern := range patterns {
		for _, mode := range []watch.Mode{watch.Events, watch.Polling} {
			for _, compare := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/content=%v", pattern.name, mode, compare), func(t *testing.T) {
					if runtime.GOOS == "windows" && !pattern.windows {
						t.Skip("Windows tells something else of this: see the package documentation")
					}
					t.Parallel()
					options := []watch.Option{watch.WithQuiet(quiet), watch.WithInterval(10 * time.Millisecond)}
					if mode == watch.Polling {
						options = append(options, watch.WithPolling())
					}
					if !pattern.looking && runtime.GOOS == "linux" {
						options = append(options, watch.WithoutLooking())
					}
					if compare {
						interval := time.Hour // what is seen is compared, and when the file is left alone
						if pattern.stamped {
							interval = 50 * time.Millisecond
						}
						options = append(options, watch.WithContent(64<<10, interval))
					}
					runPattern(t, folder(t), pattern.prepare, pattern.steps, pattern.stamped, mode, compare, options)
				})
			}
		}
	}
}

func runPattern(t *testing.T, dir string, prepare func(t *testing.T, dir, name string) string, steps []step, stamped bool, mode watch.Mode, compare bool, options []watch.Option) {
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	name := filepath.Join(dir, "sub", "file")
	write(t, name, strings.Repeat("x", patternSize))
	if prepare != nil {
		name = prepare(t, dir, name)
	}
	w := begin(t, name, options...)
	if w.Mode() != mode {
		t.Fatalf("the mode is %v, not %v: %v", w.Mode(), mode, w.Fallback())
	}
	nextChange := func() watch.Event {
		for {
			if event := nextChange(t, w); event.Kind != metadata || !stamped {
				return event
			}
		}
	}
	for i, step := range steps {
		if step.events == nil && !compare {
			continue // nothing is promised
		}
		step.do(t, dir, name)
		want := step.events
		if mode == watch.Polling && step.polling != nil {
			want = step.polling
		}
		if compare && step.content != nil {
			want = step.content
		}
		for j, kind := range want {
			if event := nextChange(); event.Kind != kind {
				t.Fatalf("step %d: event %d is %v, want %v of %v", i, j, event, kind, want)
			}
		}
	}
	// Had there been any other event, it would come before this.
	remove(t, name)
	if steps[len(steps)-1].events != nil || compare {
		if event := nextChange(); event.Kind != removed {
			t.Fatalf("after the last step: %v", event)
		}
	}
}
