package watch

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// linger is how long the fsnotify.Watcher stays after the last Watch: closing it takes
// the kernel milliseconds, and the next Watch may be about to begin.
const linger = 100 * time.Millisecond

// signal is what the hub tells a Watch, in the bits of fsnotify.Op and two more.
type signal = uint32

const (
	signalWrite  = signal(fsnotify.Write)
	signalChmod  = signal(fsnotify.Chmod)
	signalCreate = signal(fsnotify.Create)
	signalRemove = signal(fsnotify.Remove)
	signalRename = signal(fsnotify.Rename)

	signalPath     signal = 1 << 30 // the path may lead elsewhere
	signalOverflow signal = 1 << 31 // events were lost

	signalsOfName = signalCreate | signalRemove | signalRename
)

// hub shares one fsnotify.Watcher among all watches, and each folder in it.
type hub struct {
	// changing is held while the watcher is made, changed or closed. mu is not held
	// then: on Windows the watcher must be able to get rid of events meanwhile.
	changing sync.Mutex
	watcher  *fsnotify.Watcher
	closing  *time.Timer

	mu     sync.Mutex
	byPath map[string]*spot
	byID   map[identity]*spot
}

// identity is what a folder is, whatever its path.
type identity struct{ device, inode uint64 }

// spot is something that fsnotify watches: a folder, or a file on its own account.
type spot struct {
	path    string
	id      identity
	members map[string]map[*Watch]bool // by name in the folder; true where it is the file itself
	count   int
}

// hold is the share that a Watch has in a spot.
type hold struct {
	spot *spot
	name string
}

var shared hub

// self is the name under which those who watch a file on its own account are found.
const self = ""

// fold returns a name as events are compared with it.
func fold(name string) string {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return strings.ToLower(name)
	}
	return name
}

var errMoved = errors.New("folder changed while it was looked at")

// acquire has w told of what happens to name in the folder path, or to the file path
// if name is self.
func (h *hub) acquire(w *Watch, path, name string, last bool) (hold, error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	before, err := stat(path)
	if err != nil {
		return hold{}, &fs.PathError{Op: "watch", Path: path, Err: err}
	}
	id := identity{before.device, before.inode}
	name = fold(name)

	h.mu.Lock()
	s := h.byID[id]
	if s == nil || id == (identity{}) {
		s = h.byPath[fold(path)]
		if s != nil && s.id != id {
			h.forget(s)
			s = nil
		}
	}
	if s != nil {
		s.add(w, name, last)
		h.mu.Unlock()
		return hold{s, name}, nil
	}
	h.mu.Unlock()

	if err := h.open(); err != nil {
		return hold{}, err
	}
	s = &spot{path: path, id: id, members: map[string]map[*Watch]bool{}}
	s.add(w, name, last)
	h.mu.Lock()
	if h.byPath == nil {
		h.byPath, h.byID = map[string]*spot{}, map[identity]*spot{}
	}
	h.byPath[fold(path)] = s
	if id != (identity{}) {
		h.byID[id] = s
	}
	h.mu.Unlock()
	_ = h.watcher.Remove(path) // what may be left of another folder of that name
	err = h.watcher.Add(path)
	if err == nil {
		if after, statErr := stat(path); statErr != nil || id != (identity{after.device, after.inode}) {
			_ = h.watcher.Remove(path)
			err = errMoved
		}
	}
	if err != nil {
		h.mu.Lock()
		h.forget(s)
		h.mu.Unlock()
		h.closeLater()
		if err != errMoved {
			err = &fs.PathError{Op: "watch", Path: path, Err: explain(err)}
		}
		return hold{}, err
	}
	return hold{s, name}, nil
}

// release undoes acquire.
func (h *hub) release(w *Watch, held hold) {
	h.changing.Lock()
	defer h.changing.Unlock()
	s := held.spot
	h.mu.Lock()
	if _, ok := s.members[held.name][w]; ok {
		delete(s.members[held.name], w)
		if len(s.members[held.name]) == 0 {
			delete(s.members, held.name)
		}
		s.count--
	}
	remove := s.count == 0 && h.byPath[fold(s.path)] == s
	if remove {
		h.forget(s)
	}
	h.mu.Unlock()
	if remove {
		_ = h.watcher.Remove(s.path) // it may have gone with its folder
	}
	h.closeLater()
}

func (s *spot) add(w *Watch, name string, last bool) {
	members := s.members[name]
	if members == nil {
		members = map[*Watch]bool{}
		s.members[name] = members
	}
	if _, ok := members[w]; !ok {
		s.count++
	}
	members[w] = last
}

// forget drops a spot that fsnotify does not watch any more. Its watches are told.
func (h *hub) forget(s *spot) {
	if h.byPath[fold(s.path)] == s {
		delete(h.byPath, fold(s.path))
	}
	if h.byID[s.id] == s {
		delete(h.byID, s.id)
	}
	for _, members := range s.members {
		for w := range members {
			w.tell(signalPath)
		}
	}
}

// renew makes the next acquire ask fsnotify again.
func (h *hub) renew(holds map[hold]struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for held := range holds {
		h.forget(held.spot)
	}
}

// open makes the watcher, unless there is one.
func (h *hub) open() error {
	if h.closing != nil {
		h.closing.Stop()
		h.closing = nil
	}
	if h.watcher != nil {
		return nil
	}
	watcher, err := newWatcher()
	if err != nil {
		return explain(err)
	}
	h.watcher = watcher
	go h.dispatch(watcher)
	return nil
}

// closeLater closes the watcher soon, if nobody uses it then.
func (h *hub) closeLater() {
	h.mu.Lock()
	used := len(h.byPath) != 0
	h.mu.Unlock()
	if used || h.watcher == nil || h.closing != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(linger, func() {
		h.changing.Lock()
		defer h.changing.Unlock()
		if h.closing != timer {
			return
		}
		h.closing = nil
		_ = h.watcher.Close() // nothing depends on it
		h.watcher = nil
	})
	h.closing = timer
}

// newWatcher is replaced by tests.
var newWatcher = fsnotify.NewWatcher

// dispatch tells watches what the watcher says. It never waits for one.
func (h *hub) dispatch(watcher *fsnotify.Watcher) {
	events, errs := watcher.Events, watcher.Errors
	for events != nil || errs != nil {
		select {
		case event, ok := <-events:
			if !ok {
				events = nil
				break
			}
			h.handle(event)
		case err, ok := <-errs:
			if !ok {
				errs = nil
				break
			}
			h.overflow(err)
		}
	}
}

func (h *hub) handle(event fsnotify.Event) {
	path := filepath.Clean(event.Name)
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.byPath[fold(path)]; s != nil {
		s.tell(self, signal(event.Op))
		if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
			h.forget(s)
		}
	}
	if s := h.byPath[fold(filepath.Dir(path))]; s != nil {
		s.tell(fold(filepath.Base(path)), signal(event.Op))
	}
}

// overflow tells all watches that they may have missed something, and why.
func (h *hub) overflow(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.byPath {
		for _, members := range s.members {
			for w := range members {
				w.lost.Store(&err)
				w.tell(signalOverflow)
			}
		}
	}
}

func (s *spot) tell(name string, signals signal) {
	for w, last := range s.members[name] {
		switch {
		case !last:
			if signals&signalsOfName != 0 {
				w.tell(signalPath)
			}
		case signals&signalsOfName != 0:
			w.tell(signals | signalPath)
		default:
			w.tell(signals)
		}
	}
}
