package aferofs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"

	"github.com/mmapio/mmapio/aferofs"
)

// raceTime is how long a race is run: MMAPIO_LONG, or a moment.
func raceTime(t testing.TB) time.Duration {
	long := os.Getenv("MMAPIO_LONG")
	if long == "" {
		return time.Second
	}
	if d, err := time.ParseDuration(long); err == nil {
		return d
	}
	return 30 * time.Second
}

// exchange makes two names change places, if not at once then by way of a third one.
var exchange = func(one, other string) error {
	spare := one + "-spare"
	if err := os.Rename(one, spare); err != nil {
		return err
	}
	if err := os.Rename(other, one); err != nil {
		return err
	}
	return os.Rename(spare, other)
}

// Somebody exchanges folders and files for links that lead out, while others work through
// them by every method: nothing outside is ever reached. That the links do lead there is
// seen by one who goes through them with os.
func TestRootedRacesWithLinks(t *testing.T) {
	if !canLink(t) {
		t.Skip("no symbolic links can be made here")
	}
	if runtime.GOOS == "js" {
		t.Skip("js: os.Root cannot withstand races there, and says so")
	}
	dir, outside := outsideOf(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "deep", "folder", "sub"), 0o755))
	must(os.Symlink("../../app-secret", filepath.Join(dir, "deep", "folder-link")))
	must(os.Symlink(outside, filepath.Join(dir, "deep", "folder-absolute")))
	must(os.WriteFile(filepath.Join(dir, "deep", "single"), []byte("inside, all of it"), 0o644))
	must(os.Symlink("../../app-secret/file", filepath.Join(dir, "deep", "single-link")))
	// The folder itself, wherever it is at the moment.
	folder, err := os.OpenRoot(filepath.Join(dir, "deep", "folder"))
	must(err)
	defer folder.Close()

	s := rooted(t, dir, mmapio.WithMapping(mmapio.MapAlways))
	var stop atomic.Bool
	var reached sync.Map
	var done sync.WaitGroup
	found := func(what string, detail any) {
		reached.Store(what, fmt.Sprint(detail))
		stop.Store(true)
	}
	work := func(what string, each func(round int)) {
		done.Go(func() {
			for round := 0; !stop.Load(); round++ {
				each(round)
			}
		})
	}
	var exchanges, seenOutside, opened, failed atomic.Int64
	at := func(name string) string { return filepath.Join(dir, "deep", name) }
	work("exchange", func(round int) {
		link := []string{"folder-link", "folder-absolute"}[round/2%2]
		if err := exchange(at("folder"), at(link)); err == nil {
			exchanges.Add(1)
			runtime.Gosched()
			if exchange(at("folder"), at(link)) != nil {
				// On systems that cannot move what is open it may take a while.
				for !stop.Load() && exchange(at("folder"), at(link)) != nil {
					runtime.Gosched()
				}
			}
		}
		if err := exchange(at("single"), at("single-link")); err == nil {
			runtime.Gosched()
			for !stop.Load() && exchange(at("single"), at("single-link")) != nil {
				runtime.Gosched()
			}
		}
	})
	work("repair", func(int) {
		_ = folder.Mkdir("sub", 0o755)
		_ = folder.WriteFile("file", []byte("inside, all of it"), 0o644)
		_ = folder.WriteFile("sub/file", []byte("inside, all of it"), 0o644)
	})
	work("os", func(int) { // the links do lead out
		if content, err := os.ReadFile(at("folder/secret")); err == nil && string(content) == "secret" {
			seenOutside.Add(1)
		}
	})
	names := []string{"deep/folder/file", "deep/folder/sub/file", "/deep/single", "deep/folder/secret", "deep/folder/sub/../secret", "deep/folder-link/secret", "deep/folder-absolute/file", "deep/single-link"}
	work("read", func(round int) {
		name := names[round%len(names)]
		f, err := s.Open(name)
		if err != nil {
			failed.Add(1)
			return
		}
		defer f.Close()
		opened.Add(1)
		b := make([]byte, 64)
		n, _ := f.ReadAt(b, 0)
		info, _ := f.Stat()
		if strings.Contains(string(b[:n]), "secret") || info != nil && info.ModTime().Equal(treeTime) {
			found("read "+name, string(b[:n]))
		}
	})
	work("write", func(round int) {
		name := append(names, "deep/folder/made", "deep/folder/sub/made")[round%(len(names)+2)]
		flag := []int{os.O_RDWR | os.O_CREATE | os.O_TRUNC, os.O_RDWR, os.O_WRONLY | os.O_CREATE | os.O_APPEND, os.O_RDWR | os.O_CREATE | os.O_EXCL}[round%4]
		f, err := s.OpenFile(name, flag, 0o644)
		if err != nil {
			failed.Add(1)
			return
		}
		opened.Add(1)
		fmt.Fprint(f, "written")
		f.Close()
	})
	work("list", func(round int) {
		for _, name := range []string{"deep/folder", "deep/folder/", "deep/folder/sub/.."} {
			infos, err := afero.ReadDir(s, name)
			if err != nil {
				continue
			}
			for _, info := range infos {
				if info.Name() == "secret" && info.ModTime().Equal(treeTime) {
					found("list "+name, info.Name())
				}
			}
			f, err := s.Open(name)
			if err != nil {
				continue
			}
			entries, _ := f.(fs.ReadDirFile).ReadDir(-1)
			for _, entry := range entries {
				if info, err := entry.Info(); err == nil && info.ModTime().Equal(treeTime) {
					found("describe "+name, entry.Name())
				}
			}
			f.Close()
		}
	})
	work("describe", func(round int) {
		for _, name := range names {
			if info, err := s.Stat(name); err == nil && info.ModTime().Equal(treeTime) {
				found("Stat "+name, info)
			}
			if info, _, err := s.LstatIfPossible(name); err == nil && info.ModTime().Equal(treeTime) {
				found("Lstat "+name, info)
			}
		}
	})
	work("remove", func(round int) {
		_ = s.Remove(names[round%len(names)])
		_ = s.RemoveAll("deep/folder/sub")
		_ = s.RemoveAll("deep/folder/made")
		_ = s.RemoveAll("/deep/folder/secret/")
	})
	work("rename", func(round int) {
		_ = s.Rename("deep/folder/file", "deep/folder/renamed")
		_ = s.Rename("deep/folder/secret", "deep/stolen")
		_ = s.Rename("deep/folder/sub", "deep/folder/sub2")
		_ = s.Rename("deep/folder/sub2", "deep/folder/sub")
		if content, err := os.ReadFile(at("stolen")); err == nil && strings.Contains(string(content), "secret") {
			found("rename", "deep/folder/secret")
		}
	})
	work("change", func(round int) {
		name := names[round%len(names)]
		_ = s.Chmod(name, 0o600)
		_ = s.Chown(name, os.Getuid(), os.Getgid())
		_ = s.Chtimes(name, time.Now(), time.Now())
		_ = s.MkdirAll("deep/folder/made/by/all", 0o755)
		_ = s.Mkdir("deep/folder/folder", fs.ModeSticky|0o755)
		_ = s.SymlinkIfPossible("nowhere", "deep/folder/symlink")
		_ = s.Remove("deep/folder/symlink")
	})
	timer := time.AfterFunc(raceTime(t), func() { stop.Store(true) })
	done.Wait()
	timer.Stop()
	reached.Range(func(what, detail any) bool {
		t.Errorf("%v reached what is outside: %v", what, detail)
		return true
	})
	t.Logf("%d exchanges, os was led out %d times; %d files opened, %d not", exchanges.Load(), seenOutside.Load(), opened.Load(), failed.Load())
	if exchanges.Load() == 0 || seenOutside.Load() == 0 || opened.Load() == 0 {
		t.Skipf("the race did not take place: %d exchanges, os was led out %d times, %d files opened", exchanges.Load(), seenOutside.Load(), opened.Load())
	}
}

// One file system is used by many goroutines.
func TestFileSystemsAreConcurrent(t *testing.T) {
	for _, side := range []string{"New", "NewRooted"} {
		t.Run(side, func(t *testing.T) {
			dir := memoryDir(t)
			var s afero.Fs = rooted(t, dir)
			if side == "New" {
				s = afero.NewBasePathFs(aferofs.New(), dir)
			}
			var done sync.WaitGroup
			for i := range 8 {
				done.Go(func() {
					name := fmt.Sprintf("dir%d/file", i%3)
					for round := range 50 {
						if err := s.MkdirAll(filepath.Dir(name), 0o755); err != nil {
							t.Error(err)
						}
						own := fmt.Sprintf("%s-%d", name, i)
						if err := afero.WriteFile(s, own, []byte(own), 0o644); err != nil {
							t.Error(err)
						}
						if content, err := afero.ReadFile(s, own); err != nil || string(content) != own {
							t.Errorf("%q, %v", content, err)
						}
						if _, err := afero.ReadDir(s, filepath.Dir(name)); err != nil {
							t.Error(err)
						}
						if round%2 == 0 {
							if err := s.Remove(own); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			done.Wait()
		})
	}
}
