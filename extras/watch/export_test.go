package watch

import (
	"time"

	"github.com/fsnotify/fsnotify"
)

// HoldHub keeps the hub from taking events until release is called.
func HoldHub() (release func()) {
	shared.mu.Lock()
	return shared.mu.Unlock
}

// SetNewWatcher replaces what makes the fsnotify.Watcher until restore is called.
func SetNewWatcher(f func() (*fsnotify.Watcher, error)) (restore func()) {
	old := newWatcher
	newWatcher = f
	return func() { newWatcher = old }
}

// SetRetryInterval changes how often it is tried again to have events. It is for
// child processes.
func SetRetryInterval(d time.Duration) { retryInterval = d }

// WithoutLooking relies on events alone.
func WithoutLooking() Option {
	return func(c *config) error {
		c.looking = 1000 * time.Hour
		return nil
	}
}

// HubIsEmpty reports whether nothing is watched and the watcher is closed.
func HubIsEmpty() bool {
	shared.changing.Lock()
	defer shared.changing.Unlock()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return shared.watcher == nil && len(shared.byPath) == 0 && len(shared.byID) == 0
}

// Spots returns how many things fsnotify watches.
func Spots() int {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return len(shared.byPath)
}

// Tell does what the hub does when there is an event.
func (w *Watch) Tell(op fsnotify.Op) { w.tell(signal(op)) }

// FailReads makes reading for a comparison fail, where fails says so, until restore is
// called. It is for tests that run alone.
func FailReads(fails func(off int64) error) (restore func()) {
	readFails = fails
	return func() { readFails = nil }
}
