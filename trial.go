package mmapio

import (
	"runtime"
	"sync/atomic"
)

// A mapping serves what is in memory. Where more than a few reads have to wait for the disk
// it costs more than it brings: after each of them the size of the file is asked for, in case
// that it was cut, and mapped pages take the kernel longer to evict. So a mapping that nobody
// asked for is on trial when it is new, and after memory was short. Meanwhile reads and writes
// teach nothing of what is in memory, so that system calls see all of them, and a hot part of
// the file counts for as much as it is used. If the mapping does not pay, the file is left alone
// for a while.
//
// With 64 goroutines that read 4 KiB each at random, from a file of which a fifth to four
// fifths fit into memory, this took mapped files from 0.6 to 0.8 of the speed of unmapped ones
// to the same speed. Of one that fits almost, few enough reads wait that it stays mapped, and
// it is at 0.7 to 0.8 as before.

const (
	// trialCalls is how many reads and writes a trial takes.
	trialCalls = 64
	// tolerableWaits is how many of them may wait for the disk.
	tolerableWaits = trialCalls / 16
	// shortestRest is for how many calls the file is left alone after a trial that did not
	// go well; it is twice as many after the next one, up to longestRest.
	shortestRest = 1 << 10
	longestRest  = 1 << 15
)

// trial counts the calls of one.
type trial struct {
	left  atomic.Int32 // so many are to be looked at yet
	waits atomic.Int32 // so many had to wait for the disk
}

func (t *trial) on() bool { return t.left.Load() > 0 }

// tryOut begins a trial of the mapping, if it may go again.
func (m *mapping) tryOut() {
	if m.optional.Load() && !m.trial.on() {
		m.trial.waits.Store(0)
		m.trial.left.Store(trialCalls)
	}
}

// absent reports whether the page at off is not in memory, as far as the kernel tells. It is
// false when there is no trial.
func (g glimpse) absent(off int64) bool {
	m := g.mapping
	if m == nil || !m.trial.on() || off < 0 || off >= g.before {
		return false
	}
	var state [1]byte
	page := uintptr(off) &^ uintptr(pageSize-1)
	err := sys.pageStates(m.address()+page, uintptr(pageSize), state[:])
	runtime.KeepAlive(m)
	return err == nil && state[0]&1 == 0
}

// judge learns from a call that has read or written n bytes at off. WasAbsent says what absent
// did before: a call has waited if it brought the page in. The kernel says of some pages, such
// as huge ones, that they are absent however often they are read.
func (f *File) judge(g glimpse, off int64, n int, wasAbsent bool) {
	m := g.mapping
	if m == nil || n <= 0 || !m.trial.on() {
		return
	}
	if wasAbsent && !g.absent(off) {
		m.trial.waits.Add(1)
	}
	if m.trial.left.Add(-1) != 0 {
		return
	}
	c := &f.cache
	if m.trial.waits.Load() <= tolerableWaits {
		c.rest.Store(0)
		return
	}
	if !c.busy.CompareAndSwap(false, true) {
		m.trial.left.Store(1) // somebody is mapping: the next call judges
		return
	}
	defer c.busy.Store(false)
	if f.dispensable(m) && drop(m) {
		rest := min(max(2*c.rest.Load(), shortestRest), longestRest)
		c.rest.Store(rest)
		c.misses.Store(-rest)
	}
}

// tryNew begins the trial of m, which takes the place of old, if any, or goes on with that of
// old.
func (f *File) tryNew(m, old *mapping) {
	m.optional.Store(f.config.mapping == MapAuto && f.tail == nil && f.unasked() && !m.onlyOwn && !m.sparing)
	switch {
	case old == nil:
		m.tryOut()
	case m.optional.Load():
		m.trial.waits.Store(old.trial.waits.Load())
		m.trial.left.Store(old.trial.left.Load())
	}
}

// askedFor notes that somebody has asked for the mapping m, and those that take its place.
func (f *File) askedFor(m *mapping) {
	f.cache.asked.Store(true)
	m.optional.Store(false)
	m.trial.left.Store(0)
}

// unasked reports whether nobody has asked for a mapping of the file, or for anything that
// concerns its memory.
func (f *File) unasked() bool { return !f.cache.asked.Load() && f.cache.controls.Load() == nil }

// dispensable reports whether the mapping m may go: nobody has asked for it, or uses it by
// other means than reads and writes.
func (f *File) dispensable(m *mapping) bool {
	return m.optional.Load() && f.unasked() && m.entry.pins.Load() == 0
}
