package watch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio/extras/watch"
)

func countDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// checkInotify compares what the kernel says the process has.
func checkInotify(t testing.TB, instances, watches int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fdinfo")
	must(t, err)
	foundInstances, foundWatches := 0, 0
	for _, entry := range entries {
		if target, _ := os.Readlink("/proc/self/fd/" + entry.Name()); target != "anon_inode:inotify" {
			continue
		}
		foundInstances++
		text, err := os.ReadFile("/proc/self/fdinfo/" + entry.Name())
		must(t, err)
		foundWatches += strings.Count(string(text), "inotify wd:")
	}
	if foundInstances != instances || foundWatches != watches {
		t.Errorf("%d inotify instances with %d watches, want %d with %d", foundInstances, foundWatches, instances, watches)
	}
}

// TestWatchQueueOverflow fills the kernel's queue: that is an Overflow, and no Modified.
func TestWatchQueueOverflow(t *testing.T) {
	dir := folder(t)
	name := filepath.Join(dir, "file")
	write(t, name, "text")
	w := begin(t, name)
	release := watch.HoldHub()
	var files []*os.File
	for _, other := range []string{"a", "b"} {
		f, err := os.Create(filepath.Join(dir, other))
		must(t, err)
		defer f.Close()
		files = append(files, f)
	}
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	var queue int
	_, err = fmt.Sscan(string(text), &queue)
	must(t, err)
	for i := range 2*queue + 20_000 {
		_, err := files[i%2].Write([]byte("x"))
		must(t, err)
	}
	release()
	event := next(t, w)
	if event.Kind != overflow || event.Size != 4 || !errors.Is(event.Err, fsnotify.ErrEventOverflow) {
		t.Fatal(event)
	}
	remove(t, name)
	expect(t, w, removed)
}

func init() {
	// A process that has used up its descriptors.
	children["descriptors"] = func(arguments []string) error {
		watch.SetRetryInterval(time.Millisecond)
		null, err := os.Open(os.DevNull) // makes the runtime's poller, which needs some
		if err != nil {
			return err
		}
		defer null.Close()
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			return err
		}
		few := old
		few.Cur = uint64(null.Fd()) + 1
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
			return err
		}
		w, err := watch.Path(context.Background(), arguments[0], watch.WithInterval(time.Millisecond))
		if err != nil {
			return err
		}
		defer w.Close()
		if w.Mode() != watch.Polling || !errors.Is(w.Fallback(), unix.EMFILE) {
			return fmt.Errorf("without descriptors: %v, %v", w.Mode(), w.Fallback())
		}
		if err := unix.Truncate(arguments[0], 100); err != nil {
			return err
		}
		if event := <-w.Events; event.Kind != watch.Resized || event.Size != 100 {
			return fmt.Errorf("without descriptors: %v", event)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			return err
		}
		<-w.Events
		for w.Mode() != watch.Events {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	// A process that may have one inotify watch.
	children["watches"] = func(arguments []string) error {
		watch.SetRetryInterval(time.Millisecond)
		if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("1"), 0); err != nil {
			return err
		}
		var watches []*watch.Watch
		for _, name := range arguments {
			w, err := watch.Path(context.Background(), name, watch.WithInterval(time.Millisecond))
			if err != nil {
				return err
			}
			watches = append(watches, w)
		}
		if watches[0].Mode() != watch.Events {
			return fmt.Errorf("the first watch: %v", watches[0].Fallback())
		}
		if watches[1].Mode() != watch.Polling || !errors.Is(watches[1].Fallback(), unix.ENOSPC) ||
			!strings.Contains(watches[1].Fallback().Error(), "max_user_watches") {
			return fmt.Errorf("the second watch: %v, %v", watches[1].Mode(), watches[1].Fallback())
		}
		watches[0].Close()
		for watches[1].Mode() != watch.Events { // there is one left now
			time.Sleep(time.Millisecond)
		}
		watches[1].Close()
		return nil
	}
}

func TestWatchFewDescriptors(t *testing.T) {
	name := filepath.Join(folder(t), "file")
	write(t, name, "text")
	runChild(t, "descriptors", name)
}

func TestWatchFewWatches(t *testing.T) {
	dir := folder(t)
	must(t, os.Mkdir(dir+"/a", 0o755))
	must(t, os.Mkdir(dir+"/b", 0o755))
	write(t, dir+"/a/file", "text")
	write(t, dir+"/b/file", "text")
	executable, err := os.Executable()
	must(t, err)
	command := exec.Command(executable)
	command.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{"watches", dir + "/a/file", dir + "/b/file"}, "\n"))
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	output, err := command.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("no user namespace to be had: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// TestWatchRemote: file systems that have no events are polled.
func TestWatchRemote(t *testing.T) {
	w := begin(t, "/proc/self/status")
	if w.Mode() != watch.Polling || w.Fallback() == nil {
		t.Errorf("%v, %v", w.Mode(), w.Fallback())
	}
}

// TestWatchRemoteReplaced: when the name leads to a file system that has events, they are
// used, and the other way round.
func TestWatchRemoteReplaced(t *testing.T) {
	dir := folder(t)
	name := filepath.Join(dir, "file")
	lead := func(target string) {
		must(t, os.Symlink(target, name+".new"))
		rename(t, name+".new", name)
	}
	write(t, filepath.Join(dir, "local"), "text")
	lead("/proc/self/status")
	w := begin(t, name, watch.WithInterval(time.Millisecond))
	if w.Mode() != watch.Polling || w.Fallback() == nil {
		t.Fatalf("%v, %v", w.Mode(), w.Fallback())
	}
	wait := func(kind watch.Kind) { // times of files of the kernel change as they like
		for next(t, w).Kind != kind {
		}
	}
	lead("local")
	wait(replaced)
	if w.Mode() != watch.Events || w.Fallback() != nil {
		t.Fatalf("%v, %v", w.Mode(), w.Fallback())
	}
	appendTo(t, filepath.Join(dir, "local"), "more")
	expect(t, w, resized, modified)
	lead("/proc/self/status")
	wait(replaced)
	if w.Mode() != watch.Polling || w.Fallback() == nil {
		t.Fatalf("%v, %v", w.Mode(), w.Fallback())
	}
}
