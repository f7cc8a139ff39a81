package watch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mmapio/mmapio/extras/watch"
)

// eventually waits for something that follows without an event.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for start := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(start) > limit {
			t.Fatalf("not in %v: %s", limit, what)
		}
	}
}

// slowOpening: under Wine it takes milliseconds to open a file.
const slowOpening = runtime.GOOS == "windows"

// TestWatchManyFiles: thousands of watches share a watcher, and each folder in it.
func TestWatchManyFiles(t *testing.T) {
	eventually(t, "nothing is watched", watch.HubIsEmpty)
	folders, files := 10, 300
	if slowOpening {
		files = 30
	}
	dir := folder(t)
	var names []string
	for i := range folders {
		sub := filepath.Join(dir, fmt.Sprint(i))
		must(t, os.Mkdir(sub, 0o755))
		for j := range files {
			names = append(names, filepath.Join(sub, fmt.Sprint(j)))
			write(t, names[len(names)-1], "text")
		}
	}
	var watches []*watch.Watch
	for _, name := range names {
		watches = append(watches, begin(t, name))
	}
	if n := watch.Spots(); n != folders {
		t.Errorf("%d folders are %d watches of the system", folders, n)
	}
	checkInotify(t, 1, folders)
	for _, w := range watches {
		appendTo(t, w.Name(), "more")
	}
	for _, w := range watches {
		if event := next(t, w); event.Kind != resized || event.Name != w.Name() {
			t.Fatalf("%v of %s", event, w.Name())
		}
		expect(t, w, modified)
	}
	for _, w := range watches {
		w.Close()
	}
	eventually(t, "nothing is watched", watch.HubIsEmpty)
	checkInotify(t, 0, 0)
}

// TestWatchGivesFoldersBack: a folder is watched as long as one of its files is.
func TestWatchGivesFoldersBack(t *testing.T) {
	eventually(t, "nothing is watched", watch.HubIsEmpty)
	dir := folder(t)
	var watches []*watch.Watch
	for i := range 20 {
		must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i/2)), 0o755))
		name := filepath.Join(dir, fmt.Sprint(i/2), fmt.Sprint(i))
		write(t, name, "text")
		watches = append(watches, begin(t, name))
	}
	checkInotify(t, 1, 10)
	for _, w := range watches[1:] {
		w.Close()
	}
	if n := watch.Spots(); n != 1 {
		t.Errorf("%d folders are watched for one file", n)
	}
	checkInotify(t, 1, 1)
	appendTo(t, watches[0].Name(), "more")
	if event := nextChange(t, watches[0]); event.Kind == removed {
		t.Error(event)
	}
}

// TestWatchLeaksNothing starts and stops 10,000 watches.
func TestWatchLeaksNothing(t *testing.T) {
	eventually(t, "nothing is watched", watch.HubIsEmpty)
	dir := folder(t)
	name := filepath.Join(dir, "file")
	write(t, name, "text")
	startStop := func(i int, options ...watch.Option) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var w *watch.Watch
		var err error
		if i%2 == 0 {
			w, err = watch.Path(ctx, name, options...)
		} else {
			w, err = watch.PathFunc(ctx, name, func(watch.Event) {}, options...)
		}
		if err != nil {
			t.Error(err)
			return
		}
		if i%3 == 0 {
			cancel()
		} else {
			w.Close()
		}
		<-w.Done()
	}
	startStop(0)
	eventually(t, "nothing is watched", watch.HubIsEmpty)
	descriptors, goroutines := countDescriptors(t), runtime.NumGoroutine()
	times := 1250
	if slowOpening {
		times = 125
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range times {
				switch worker {
				case 0:
					startStop(i, watch.WithPolling())
				case 1:
					startStop(i, watch.WithContent(0, 0))
				default:
					startStop(i)
				}
			}
		})
	}
	group.Wait()
	eventually(t, "nothing is watched", watch.HubIsEmpty)
	checkInotify(t, 0, 0)
	eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "the descriptors are closed", func() bool { return countDescriptors(t) <= descriptors })
}

// TestWatchNoWatcher: where the system has no watcher to give, the file is polled,
// and the reason is said.
func TestWatchNoWatcher(t *testing.T) {
	eventually(t, "nothing is watched", watch.HubIsEmpty)
	refused := errors.New("refused")
	defer watch.SetNewWatcher(func() (*fsnotify.Watcher, error) { return nil, refused })()
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	w := begin(t, name, watch.WithInterval(time.Millisecond))
	if w.Mode() != watch.Polling || !errors.Is(w.Fallback(), refused) {
		t.Errorf("%v, %v", w.Mode(), w.Fallback())
	}
	appendTo(t, name, "more")
	expect(t, w, resized, modified)
	remove(t, name)
	expect(t, w, removed)
	write(t, name, "text")
	expect(t, w, replaced)
	w.Close()
}
