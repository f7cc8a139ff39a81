package watch_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mmapio/mmapio/extras/watch"
)

// TestWatchPollingTimes checks when the file is looked at, on a clock of its own.
func TestWatchPollingTimes(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		start := time.Now()
		w, err := watch.Path(ctx, name, watch.WithPolling(), watch.WithInterval(time.Hour), watch.WithQuiet(time.Minute))
		must(t, err)
		at := func(want time.Duration, kinds ...watch.Kind) {
			t.Helper()
			for _, kind := range kinds {
				if event := <-w.Events; event.Kind != kind {
					t.Errorf("%v, want %v", event, kind)
				}
				if got := time.Since(start); got != want {
					t.Errorf("%v after %v, want %v", kind, got, want)
				}
			}
		}
		time.Sleep(time.Minute)
		must(t, os.Truncate(name, 10))
		at(61*time.Minute, resized, modified)
		// The next look is an hour after the last.
		must(t, os.Remove(name))
		at(122*time.Minute, removed)
		cancel()
		<-w.Done()
		if _, ok := <-w.Events; ok {
			t.Error("an event after the end")
		}
	})
}

// TestWatchContentTimes: content is compared at its own interval.
func TestWatchContentTimes(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	old := time.Unix(1e9, 0)
	must(t, os.Chtimes(name, old, old))
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w, err := watch.Path(context.Background(), name, watch.WithPolling(), watch.WithInterval(1000*time.Hour),
			watch.WithQuiet(0), watch.WithContent(64, time.Minute))
		must(t, err)
		defer w.Close()
		time.Sleep(90 * time.Second)
		writeAt(t, name, 0, "T")
		if event := <-w.Events; event.Kind != modified || event.Len != 4 || time.Since(start) != 2*time.Minute {
			t.Errorf("%v after %v", event, time.Since(start))
		}
	})
}

// TestWatchQuietTimes: a burst is one change, told when it is over, or at ten
// times the quiet time.
func TestWatchQuietTimes(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	synctest.Test(t, func(t *testing.T) {
		w, err := watch.Path(context.Background(), name, watch.WithPolling(), watch.WithInterval(1000*time.Hour), watch.WithQuiet(time.Second))
		must(t, err)
		defer w.Close()
		start := time.Now()
		for range 5 {
			w.Tell(fsnotify.Write)
			time.Sleep(time.Second / 2)
		}
		if event := <-w.Events; event.Kind != modified || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", event, time.Since(start))
		}
		start = time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 30 {
				w.Tell(fsnotify.Write)
				time.Sleep(time.Second / 2)
			}
		}()
		if event := <-w.Events; event.Kind != modified || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", event, time.Since(start))
		}
		<-done
		if event := <-w.Events; event.Kind != modified {
			t.Errorf("%v after %v", event, time.Since(start))
		}
	})
}
