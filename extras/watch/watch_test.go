package watch_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/watch"
)

func TestWatchFile(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	f, err := mmapio.Create(name, mmapio.WithSize(1<<20))
	must(t, err)
	defer f.Close()
	w, err := watch.File(context.Background(), f, watch.WithContent(4096, time.Millisecond))
	must(t, err)
	defer w.Close()
	if w.Name() != name {
		t.Errorf("Name is %q", w.Name())
	}
	v, err := f.View(0, 1<<20)
	must(t, err)
	defer v.Release()
	v.Bytes()[500_000] = 1 // no system call tells of it
	event := nextChange(t, w)
	if event.Kind != modified || event.Offset != 499_712 || event.Len != 4096 || event.Name != name || event.Size != 1<<20 || event.Err != nil {
		t.Errorf("%+v", event)
	}
}

// TestWatchFileMoved: the open file has lost its name before the watch begins.
func TestWatchFileMoved(t *testing.T) {
	for _, polling := range []bool{false, true} {
		var options []watch.Option
		if polling {
			options = append(options, watch.WithPolling())
		}
		dir := folder(t)
		name := filepath.Join(dir, "file")
		write(t, name, "text")
		f, err := mmapio.Open(name)
		must(t, err)
		defer f.Close()
		if err := os.Rename(name, name+".old"); err != nil {
			t.Skipf("an open file cannot be renamed here: %v", err)
		}
		w, err := watch.File(context.Background(), f, options...)
		must(t, err)
		defer w.Close()
		expect(t, w, removed)
		write(t, name, "other")
		w2, err := watch.File(context.Background(), f, options...)
		must(t, err)
		defer w2.Close()
		expect(t, w2, replaced)
	}
}

func TestWatchErrors(t *testing.T) {
	dir := folder(t)
	name := filepath.Join(dir, "file")
	write(t, name, "text")
	closed, err := mmapio.Open(name)
	must(t, err)
	must(t, closed.Close())
	_, errClosed := closed.Stat() // on Windows it is not os.ErrClosed
	memory, err := fstest.MapFS{"file": &fstest.MapFile{}}.Open("file")
	must(t, err)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	ctx := context.Background()
	for _, test := range []struct {
		name  string
		start func() (*watch.Watch, error)
		want  error
		path  bool // a *fs.PathError
	}{
		{"nil interface", func() (*watch.Watch, error) { return watch.File(ctx, nil) }, os.ErrInvalid, false},
		{"nil file", func() (*watch.Watch, error) { return watch.File(ctx, (*mmapio.File)(nil)) }, os.ErrInvalid, false},
		{"closed file", func() (*watch.Watch, error) { return watch.File(ctx, closed) }, errors.Unwrap(errClosed), true},
		{"file in memory", func() (*watch.Watch, error) { return watch.File(ctx, named{memory}) }, errors.ErrUnsupported, true},
		{"nil function", func() (*watch.Watch, error) { return watch.PathFunc(ctx, name, nil) }, os.ErrInvalid, true},
		{"nil file function", func() (*watch.Watch, error) { return watch.FileFunc(ctx, nil, nil) }, os.ErrInvalid, true},
		{"missing", func() (*watch.Watch, error) { return watch.Path(ctx, name+"x") }, fs.ErrNotExist, true},
		{"folder", func() (*watch.Watch, error) { return watch.Path(ctx, dir) }, errors.ErrUnsupported, true},
		{"context", func() (*watch.Watch, error) { return watch.Path(ended, name) }, context.Canceled, false},
		{"quiet", func() (*watch.Watch, error) { return watch.Path(ctx, name, watch.WithQuiet(-1)) }, os.ErrInvalid, true},
		{"interval", func() (*watch.Watch, error) { return watch.Path(ctx, name, nil, watch.WithInterval(0)) }, os.ErrInvalid, true},
		{"small blocks", func() (*watch.Watch, error) { return watch.Path(ctx, name, watch.WithContent(63, 0)) }, os.ErrInvalid, true},
		{"large blocks", func() (*watch.Watch, error) { return watch.Path(ctx, name, watch.WithContent(1<<20+1, 0)) }, os.ErrInvalid, true},
		{"content interval", func() (*watch.Watch, error) { return watch.Path(ctx, name, watch.WithContent(64, -1)) }, os.ErrInvalid, true},
	} {
		w, err := test.start()
		var path *fs.PathError
		if w != nil || !errors.Is(err, test.want) || errors.As(err, &path) != test.path {
			t.Errorf("%s: %v, %v (%T)", test.name, w, err, err)
		}
	}
	eventually(t, "nothing is watched", watch.HubIsEmpty)
}

// named is an fs.File with the name that a Target has.
type named struct{ fs.File }

func (named) Name() string { return "file" }

func TestWatchFunc(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	var w *watch.Watch
	ready := make(chan struct{})
	var events []watch.Event
	w, err := watch.PathFunc(context.Background(), name, func(event watch.Event) {
		<-ready
		if event.Kind == overflow {
			return
		}
		events = append(events, event)
		if event.Kind == removed {
			w.Close() // from inside
			w.Close()
		}
	})
	must(t, err)
	close(ready)
	if w.Events != nil {
		t.Error("there is a channel too")
	}
	remove(t, name)
	select {
	case <-w.Done():
	case <-time.After(limit):
		t.Fatal("the watch has not ended")
	}
	if len(events) != 1 {
		t.Errorf("%v", events)
	}
}

func TestWatchEnds(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	ctx, cancel := context.WithCancel(context.Background())
	byContext, err := watch.Path(ctx, name)
	must(t, err)
	byClose, err := watch.Path(context.Background(), name)
	must(t, err)
	appendTo(t, name, "more") // nobody receives it
	cancel()
	byClose.Close()
	for _, w := range []*watch.Watch{byContext, byClose} {
		select {
		case <-w.Done():
		case <-time.After(limit):
			t.Fatal("the watch has not ended")
		}
		if event, ok := <-w.Events; ok {
			t.Errorf("%v after the end", event)
		}
		w.Close()
	}
	eventually(t, "nothing is watched", watch.HubIsEmpty)
}

// TestWatchSlowReceiver: what happens while nobody receives is told as the difference
// between before and after.
func TestWatchSlowReceiver(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	w := begin(t, name, watch.WithQuiet(0), watch.WithPolling(), watch.WithInterval(time.Millisecond))
	must(t, os.Truncate(name, 10))
	first := next(t, w) // the rest of what is told of this waits now
	if first.Kind != resized || first.Size != 10 {
		t.Fatal(first)
	}
	for size := range int64(1000) {
		must(t, os.Truncate(name, 20+size))
	}
	must(t, os.Truncate(name, 5))
	if event := next(t, w); event.Kind != modified || event.Size != 10 {
		t.Fatal(event)
	}
	if event := next(t, w); event.Kind != resized || event.Size != 5 || event.Offset != 5 || event.Len != 0 {
		t.Fatal(event)
	}
	expect(t, w, modified)
	remove(t, name)
	expect(t, w, removed)
}

// TestWatchCannotLook: an error other than that there is no file is told once, and what
// has happened is told afterwards.
func TestWatchCannotLook(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege")
	}
	for _, polling := range []bool{false, true} {
		options := []watch.Option{watch.WithInterval(time.Millisecond)}
		if polling {
			options = append(options, watch.WithPolling())
		}
		name := filepath.Join(folder(t), "file")
		write(t, name, "text")
		w := begin(t, name, options...)
		rename(t, name, name+".away")
		must(t, os.Symlink("loop", name+".link"))
		must(t, os.Symlink("loop", filepath.Join(filepath.Dir(name), "loop")))
		rename(t, name+".link", name)
		event := next(t, w)
		if event.Kind == removed { // it was looked at between
			event = next(t, w)
		}
		var path *fs.PathError
		if event.Kind != overflow || !errors.As(event.Err, &path) || !strings.Contains(event.String(), "links") {
			t.Fatal(event)
		}
		remove(t, name)
		expect(t, w, removed)
	}
}
