package watch_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mmapio/mmapio/extras/watch"
)

// limit is how long a test waits for what must happen.
const limit = 30 * time.Second

func must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// write does what most editors do: cut the file, then write.
func write(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.WriteFile(name, []byte(text), 0o644))
}

func writeAt(t testing.TB, name string, off int64, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(text), off)
	must(t, err)
	must(t, f.Close())
}

func appendTo(t testing.TB, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, err)
	must(t, f.Close())
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	must(t, os.Rename(from, to))
}

func remove(t testing.TB, name string) {
	t.Helper()
	must(t, os.Remove(name))
}

func begin(t testing.TB, name string, options ...watch.Option) *watch.Watch {
	t.Helper()
	w, err := watch.Path(context.Background(), name, options...)
	must(t, err)
	t.Cleanup(w.Close)
	return w
}

// next returns the next event.
func next(t testing.TB, w *watch.Watch) watch.Event {
	t.Helper()
	select {
	case event, ok := <-w.Events:
		if !ok {
			t.Fatal("the watch has ended")
		}
		return event
	case <-time.After(limit):
		t.Fatalf("no event of %s (%v, %v)", w.Name(), w.Mode(), w.Fallback())
	}
	panic("not reached")
}

// nextChange returns the next event that is not an overflow. On Linux there is none
// in these tests; on Windows it depends on what other tests do.
func nextChange(t testing.TB, w *watch.Watch) watch.Event {
	t.Helper()
	for {
		if event := next(t, w); event.Kind != watch.Overflow || runtime.GOOS != "windows" {
			return event
		}
	}
}

// expect waits for these kinds of events, in this order and no others before them.
func expect(t testing.TB, w *watch.Watch, kinds ...watch.Kind) []watch.Event {
	t.Helper()
	var events []watch.Event
	for i, kind := range kinds {
		event := next(t, w)
		events = append(events, event)
		if event.Kind != kind {
			t.Fatalf("event %d is %v, want %v of %v (%v)", i, event, kind, kinds, w.Mode())
		}
	}
	return events
}

// Children are this test binary started again.

const childVariable = "MMAPIO_WATCH_CHILD"

var children = map[string]func(arguments []string) error{}

func TestMain(m *testing.M) {
	text := os.Getenv(childVariable)
	if text == "" {
		flag.Parse()
		must(nil, flag.Set("test.parallel", "32")) // most of the time they wait
		os.Exit(m.Run())
	}
	arguments := strings.Split(text, "\n")
	if err := children[arguments[0]](arguments[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func runChild(t testing.TB, arguments ...string) {
	t.Helper()
	executable, err := os.Executable()
	must(t, err)
	command := exec.Command(executable)
	command.Env = append(os.Environ(), childVariable+"="+strings.Join(arguments, "\n"))
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("child %v: %v\n%s", arguments, err, output)
	}
}

// folder returns an empty folder as the system names it.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}
