package async_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/async"
)

// closing closes the group, which must have no error left.
func closing(t *testing.T, g *async.Group) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Error("Close: ", err)
	}
}

func isDone[T any](f *async.Future[T]) bool {
	select {
	case <-f.Done():
		return true
	default:
		return false
	}
}

// As many operations run as the limit says, no more, no less, in order.
func TestLimit(t *testing.T) {
	for _, limit := range []int{-1, 1, 3, 10, 0} {
		synctest.Test(t, func(t *testing.T) {
			var options []async.Option
			want := max(runtime.GOMAXPROCS(0), 4)
			if limit != 0 { // else the default
				options, want = []async.Option{nil, async.WithLimit(limit)}, max(limit, 1)
			}
			g := async.NewGroup(t.Context(), options...)
			var began atomic.Int64
			release := make(chan struct{})
			var futures []*async.Future[int64]
			for i := range int64(50) {
				futures = append(futures, async.Go(g, func(context.Context) (int64, error) {
					began.Add(1)
					<-release
					return i * i, nil
				}))
			}
			for i := range 50 {
				synctest.Wait() // everybody waits for something
				if got := began.Load(); got != int64(min(i+want, 50)) {
					t.Fatalf("limit %d: %d operations began when %d were done", limit, got, i)
				}
				release <- struct{}{}
			}
			for i, future := range futures {
				if value, err := future.Wait(t.Context()); value != int64(i*i) || err != nil {
					t.Errorf("operation %d: %d, %v", i, value, err)
				}
			}
			closing(t, g)
		})
	}
}

// Operations begin in the order in which they are asked for.
func TestOrder(t *testing.T) {
	g := async.NewGroup(t.Context(), async.WithLimit(1))
	var order []int // only one operation runs at a time
	for i := range 1000 {
		async.Go(g, func(context.Context) (struct{}, error) {
			order = append(order, i)
			return struct{}{}, nil
		})
	}
	closing(t, g)
	for i, got := range order {
		if got != i {
			t.Fatalf("operation %d ran in place %d", got, i)
		}
	}
	if len(order) != 1000 {
		t.Errorf("%d operations ran", len(order))
	}
}

// The end of the context of Wait ends the waiting, not the operation.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := async.NewGroup(t.Context())
		release := make(chan struct{})
		future := async.Go(g, func(ctx context.Context) (string, error) {
			<-release
			return "result", ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if value, err := future.Wait(ctx); value != "" || err != context.Canceled || isDone(future) {
			t.Errorf("Wait returned %q, %v", value, err)
		}
		close(release)
		<-future.Done()
		for range 2 { // a result is there even for those who have no time
			if value, err := future.Wait(ctx); value != "result" || err != nil {
				t.Errorf("Wait returned %q, %v", value, err)
			}
		}
		closing(t, g)
	})
}

// What has not begun does not begin when the context ends, and is done at once.
func TestCancelGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := async.NewGroup(ctx, async.WithLimit(2))
		release := make(chan struct{})
		var began atomic.Int64
		operation := func(ctx context.Context) (int, error) {
			began.Add(1)
			<-release
			return 1, ctx.Err()
		}
		var futures []*async.Future[int]
		for range 10 {
			futures = append(futures, async.Go(g, operation))
		}
		removal := g.Remove("never looked at")
		synctest.Wait()
		cancel()
		synctest.Wait()
		for i, future := range futures {
			if isDone(future) != (i >= 2) {
				t.Errorf("operation %d: done is %v", i, isDone(future))
			}
		}
		close(release)
		for i, future := range futures {
			if _, err := future.Wait(t.Context()); err != context.Canceled {
				t.Errorf("operation %d: %v", i, err)
			}
		}
		_, err := removal.Wait(t.Context())
		if pathErr, ok := errors.AsType[*fs.PathError](err); !ok || pathErr.Path != "never looked at" || !errors.Is(err, context.Canceled) {
			t.Errorf("Remove: %v", err)
		}
		if n := began.Load(); n != 2 {
			t.Errorf("%d operations began", n)
		}
		late := async.Go(g, operation)
		if _, err := late.Wait(t.Context()); err != context.Canceled || began.Load() != 2 {
			t.Errorf("after the end: %v", err)
		}
		closing(t, g)
	})
}

// One operation is cancelled, waiting or running; the others go on.
func TestCancelOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := async.NewGroup(t.Context(), async.WithLimit(1))
		release := make(chan struct{})
		running := async.Go(g, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		waiting := async.Go(g, func(context.Context) (int, error) {
			t.Error("began nevertheless")
			return 0, nil
		})
		other := async.Go(g, func(ctx context.Context) (int, error) {
			<-release
			return 7, ctx.Err()
		})
		waiting.Cancel()
		if _, err := waiting.Wait(t.Context()); err != context.Canceled || isDone(running) {
			t.Errorf("waiting: %v", err)
		}
		running.Cancel()
		if _, err := running.Wait(t.Context()); err != context.Canceled {
			t.Errorf("running: %v", err)
		}
		close(release)
		if value, err := other.Wait(t.Context()); value != 7 || err != nil {
			t.Errorf("other: %d, %v", value, err)
		}
		other.Cancel() // too late
		if value, err := other.Wait(t.Context()); value != 7 || err != nil {
			t.Errorf("other: %d, %v", value, err)
		}
		closing(t, g)
	})
}

// Errors that nobody has waited for come out of Close, in order, and only once.
func TestErrorsAreNotLost(t *testing.T) {
	g := async.NewGroup(t.Context(), async.WithLimit(2))
	fail := func(i int) *async.Future[int] {
		return async.Go(g, func(context.Context) (int, error) { return 0, fmt.Errorf("error %d", i) })
	}
	for i := range 20 {
		if future := fail(i); i%3 == 0 {
			if _, err := future.Wait(t.Context()); err == nil || err.Error() != fmt.Sprint("error ", i) {
				t.Errorf("Wait returned %v", err)
			}
		}
	}
	var want []string
	for i := range 20 {
		if i%3 != 0 {
			want = append(want, fmt.Sprint("error ", i))
		}
	}
	if err := g.Close(); err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("Close returned %v", err)
	}
	closing(t, g)

	late := g.Remove("late")
	if !isDone(late) {
		t.Error("a closed group begins operations")
	}
	if err := g.Close(); !errors.Is(err, fs.ErrClosed) || !strings.Contains(err.Error(), "late") {
		t.Errorf("Close returned %v", err)
	}
	if _, err := late.Wait(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Wait returned %v", err)
	}
}

// Close waits for what runs and what waits.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := async.NewGroup(t.Context(), async.WithLimit(1))
		release := make(chan struct{})
		var ran atomic.Int64
		for range 3 {
			async.Go(g, func(context.Context) (int, error) {
				<-release
				ran.Add(1)
				return 0, nil
			})
		}
		closed := make(chan error)
		for range 2 { // two may wait
			go func() { closed <- g.Close() }()
		}
		for range 3 {
			synctest.Wait()
			select {
			case <-closed:
				t.Error("Close did not wait")
			default:
			}
			release <- struct{}{}
		}
		if err := errors.Join(<-closed, <-closed); err != nil || ran.Load() != 3 {
			t.Errorf("%v, %d operations ran", err, ran.Load())
		}
	})
}

// Panics and the end of the goroutine become errors, and do no harm to other operations.
func TestPanics(t *testing.T) {
	g := async.NewGroup(t.Context(), async.WithLimit(1))
	inner := errors.New("inner")
	text := async.Go(g, func(context.Context) (int, error) { panic("a text") })
	failure := async.Go(g, func(context.Context) (int, error) { panic(inner) })
	goexit := async.Go(g, func(context.Context) (int, error) {
		runtime.Goexit()
		return 0, nil
	})
	good := async.Go(g, func(context.Context) (int, error) { return 1, nil })

	_, err := text.Wait(t.Context())
	panicked, ok := errors.AsType[*async.PanicError](err)
	if !ok || panicked.Value != "a text" || !strings.Contains(err.Error(), "a text") || !bytes.Contains(panicked.Stack, []byte("TestPanics")) {
		t.Errorf("a panic with a text: %v\n%s", err, panicked.Stack)
	}
	if _, err := failure.Wait(t.Context()); !errors.Is(err, inner) {
		t.Errorf("a panic with an error: %v", err)
	}
	_, err = goexit.Wait(t.Context())
	if panicked, ok := errors.AsType[*async.PanicError](err); !ok || panicked.Value != nil || err.Error() == "" {
		t.Errorf("Goexit: %v", err)
	}
	if value, err := good.Wait(t.Context()); value != 1 || err != nil {
		t.Errorf("afterwards: %d, %v", value, err)
	}
	async.Go(g, func(context.Context) (int, error) { panic("nobody waits") })
	if err := g.Close(); err == nil || !strings.Contains(err.Error(), "nobody waits") {
		t.Errorf("Close returned %v", err)
	}
}

// A group that has nothing to do has no goroutine, and its context keeps nothing of it.
func TestNoGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails if one is left
		ctx, cancel := context.WithCancel(context.Background())
		g := async.NewGroup(ctx, async.WithLimit(5))
		for range 100 {
			async.Go(g, func(context.Context) (int, error) { return 0, nil })
		}
		closing(t, g)
		cancel()
	})
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	name, second := filepath.Join(dir, "file"), filepath.Join(dir, "copy")
	g := async.NewGroup(t.Context())
	wait := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	f, err := g.Create(name, mmapio.WithSize(1<<20)).Wait(t.Context())
	wait("Create", err)
	defer f.Close()
	want := make([]byte, 1<<20+100)
	var writes []*async.Future[int]
	for off := 0; off < len(want); off += 1000 {
		b := bytes.Repeat([]byte{byte(off / 1000)}, min(700, len(want)-off))
		copy(want[off:], b)
		writes = append(writes, g.WriteAt(f, b, int64(off)))
	}
	for i, write := range writes {
		if n, err := write.Wait(t.Context()); n != min(700, len(want)-i*1000) || err != nil {
			t.Fatalf("WriteAt: %d, %v", n, err)
		}
	}
	_, err = g.FlushRange(f, 1000, 5000).Wait(t.Context())
	wait("FlushRange", err)
	_, err = g.Flush(f).Wait(t.Context())
	wait("Flush", err)
	var last [2]int64
	_, err = g.Copy(second, name, func(done, total int64) { last = [2]int64{done, total} }).Wait(t.Context())
	wait("Copy", err)
	for _, path := range []string{name, second} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	if size := int64(len(want)); last != [2]int64{size, size} {
		t.Errorf("progress ended with %v", last)
	}
	_, err = g.Remove(second).Wait(t.Context())
	wait("Remove", err)
	if _, err := os.Stat(second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed, but: %v", err)
	}
	closing(t, g)
}

// The errors are those of the calls.
func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing", "file")
	g := async.NewGroup(t.Context())
	closed, err := mmapio.Create(filepath.Join(dir, "closed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	_, createErr := g.Create(missing).Wait(t.Context())
	_, folderErr := g.Create(dir).Wait(t.Context())
	_, optionErr := g.Create(filepath.Join(dir, "new"), mmapio.WithSize(-1)).Wait(t.Context())
	_, copyErr := g.Copy(filepath.Join(dir, "copy"), missing, nil).Wait(t.Context())
	_, removeErr := g.Remove(missing).Wait(t.Context())
	for what, err := range map[string]error{"Create": createErr, "Copy": copyErr, "Remove": removeErr} {
		if pathErr, ok := errors.AsType[*fs.PathError](err); !ok || pathErr.Path != missing || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, osErr := os.Create(dir)
	if folderErr == nil || folderErr.Error() != osErr.Error() {
		t.Errorf("Create of a folder: %v, with os: %v", folderErr, osErr)
	}
	if !errors.Is(optionErr, os.ErrInvalid) {
		t.Errorf("Create with a wrong option: %v", optionErr)
	}
	_, writeErr := g.WriteAt(closed, []byte("x"), 0).Wait(t.Context())
	_, flushErr := g.Flush(closed).Wait(t.Context())
	_, rangeErr := g.FlushRange(closed, 0, 1).Wait(t.Context())
	for what, err := range map[string]error{"WriteAt": writeErr, "Flush": flushErr, "FlushRange": rangeErr} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s of a closed File: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"WriteAt":    second(g.WriteAt(nil, nil, 0).Wait(t.Context())),
		"Flush":      second(g.Flush(nil).Wait(t.Context())),
		"FlushRange": second(g.FlushRange(nil, 0, 0).Wait(t.Context())),
	} {
		if !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%s of a nil File: %v", what, err)
		}
	}
	closing(t, g)
	if entries, err := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func second[T any](_ T, err error) error { return err }

// A copy that is cancelled at each of its steps leaves nothing.
func TestCancelCopy(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	content := bytes.Repeat([]byte("content "), 1<<17)
	if err := os.WriteFile(src, content, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, old := range []bool{false, true} {
		names := 1
		if old {
			names = 2
			if err := os.WriteFile(dst, []byte("old"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		for stage := 1; stage <= 2; stage++ {
			for _, whole := range []bool{false, true} {
				ctx, cancel := context.WithCancel(t.Context())
				g := async.NewGroup(ctx)
				at, resume := make(chan struct{}), make(chan struct{})
				calls := 0
				future := g.Copy(dst, src, func(done, total int64) {
					if calls++; calls == stage {
						close(at)
						<-resume
					}
				})
				<-at
				if whole {
					cancel()
				} else {
					future.Cancel()
				}
				close(resume)
				if _, err := future.Wait(t.Context()); !errors.Is(err, context.Canceled) {
					t.Errorf("stage %d: %v", stage, err)
				}
				cancel()
				closing(t, g)
				entries, err := os.ReadDir(dir)
				if err != nil || len(entries) != names {
					t.Errorf("the folder holds %v, %v", entries, err)
				}
				if got, err := os.ReadFile(dst); old && (string(got) != "old" || err != nil) {
					t.Errorf("the target has become %d bytes, %v", len(got), err)
				}
			}
		}
	}
}

// optionThat is an option that changes nothing and calls f.
func optionThat(f func()) mmapio.Option {
	of := reflect.TypeFor[mmapio.Option]()
	return reflect.MakeFunc(of, func([]reflect.Value) []reflect.Value {
		f()
		return []reflect.Value{reflect.Zero(of.Out(0))}
	}).Interface().(mmapio.Option)
}

// A Create that is cancelled while it runs removes a file that it has made, and no other.
func TestCancelCreate(t *testing.T) {
	for _, exists := range []bool{false, true} {
		dir := t.TempDir()
		name := filepath.Join(dir, "file")
		if exists {
			if err := os.WriteFile(name, []byte("old"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		g := async.NewGroup(ctx)
		f, err := g.Create(name, optionThat(cancel)).Wait(t.Context())
		if pathErr, ok := errors.AsType[*fs.PathError](err); f != nil || !ok || pathErr.Path != name || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", f, err)
		}
		if _, err := os.Stat(name); exists != (err == nil) {
			t.Errorf("there before: %v, afterwards: %v", exists, err)
		}
		cancel()
		closing(t, g)
	}
}

// A file that a Create makes behind a symbolic link stays, and so does the link.
func TestCancelCreateBehindLink(t *testing.T) {
	dir := t.TempDir()
	name, target := filepath.Join(dir, "link"), filepath.Join(dir, "target")
	if err := os.Symlink(target, name); err != nil {
		t.Skip(err)
	}
	if got, err := os.Readlink(name); err != nil || got != target {
		t.Skipf("symbolic links cannot be read here: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := async.NewGroup(ctx)
	_, err := g.Create(name, optionThat(cancel)).Wait(t.Context())
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, path := range []string{name, target} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	closing(t, g)
}

// Many of everything at once, some cancelled.
func TestMany(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := async.NewGroup(ctx, async.WithLimit(8))
	f, err := mmapio.Create(filepath.Join(dir, "file"), mmapio.WithSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var copies []*async.Future[struct{}]
	for i := range 200 {
		g.WriteAt(f, []byte("written"), int64(i)*1000)
		future := g.Copy(filepath.Join(dir, fmt.Sprint("copy", i%20)), f.Name(), nil)
		if copies = append(copies, future); i%5 == 0 {
			future.Cancel()
		}
		if i == 150 {
			cancel()
		}
	}
	done := 0
	for _, future := range copies {
		switch _, err := future.Wait(t.Context()); {
		case err == nil:
			done++
		case !errors.Is(err, context.Canceled) && runtime.GOOS != "windows": // open files cannot be replaced there
			t.Error(err)
		}
	}
	_ = g.Close() // errors of cancelled writes
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".tmp") {
			t.Errorf("%s is left behind", entry.Name())
		}
		if info, err := entry.Info(); err != nil || info.Size() != 1<<20 {
			t.Errorf("%s: %v, %v", entry.Name(), info, err)
		}
	}
	t.Logf("%d of %d copies were made", done, len(copies))
}
