package mmapio

import (
	"io/fs"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"
)

// mapping is a window of memory onto a file: onto its first bytes, or onto a region for
// the sake of one View. Offsets are counted from the start of the window.
//
// A mapping never moves. It is retired, not unmapped, when the file is closed, cut
// or mapped anew: inaccessible memory takes the place of the file, so that a copy
// which is still under way faults and is repeated on the true path. The addresses
// are given back when the garbage collector has proved that nobody can hold the
// mapping any more; until then no other memory can appear there.
//
// A View pins the mapping: it stays as it is until the last one is released, and for
// ever if that does not happen. Where faults cannot be relied upon (pinsCopies),
// copies pin it too, and the last pin unmaps.
type mapping struct {
	data     []byte       // the whole window; it may reach beyond the end of the file
	reach    atomic.Int64 // so far the file is mapped; the addresses behind that are reserved. It only grows
	extent   atomic.Int64 // so many bytes are known to exist
	known    residency    // pages known to be in memory
	writable bool         // the memory can be stored to
	direct   atomic.Bool  // a store needs no more than the copy: the fast paths may make it
	private  bool         // what is stored there nobody else sees

	trial    trial
	optional atomic.Bool   // it may go again: see trial
	version  atomic.Uint32 // changed whenever somebody cuts the file
	byCall   atomic.Int32  // so many writes are to be system calls yet: see preferCalls

	slot     *atomic.Pointer[mapping] // where the mapping is in use
	entry    *entry                   // its place in the registry
	onlyOwn  bool                     // mincore says nothing about this file
	hidden   bool                     // because this process neither owns nor may write it
	sparing  bool                     // what was read need not be in memory: see trust
	coherent bool                     // system calls see what was stored, and mappings what was written

	extending sync.Mutex  // held to change reach
	stuck     atomic.Bool // no more of the file could be mapped here
}

// access says what the memory of a mapping is for.
type access uint8

const (
	toRead  access = iota
	toStore        // into the file
	private        // into memory that nobody else sees
)

// newMapping maps length bytes of the file fd from off on, of which extent bytes exist.
func newMapping(fd uintptr, name string, off, length, extent int64, access access) (*mapping, error) {
	address, err := sys.mapFile(fd, off, uintptr(length), access)
	if err != nil {
		return nil, err
	}
	m := &mapping{
		data:     unsafe.Slice((*byte)(address), length),
		known:    newResidency(length, pageSize),
		writable: access != toRead,
		private:  access == private,
		entry:    &entry{name: name, off: off, address: uintptr(address), length: length, writable: access != toRead},
	}
	m.extent.Store(extent)
	m.reach.Store(length)
	if reach := reachFor(extent); reach < length && access != private {
		_ = sys.seal(uintptr(address)+uintptr(reach), uintptr(length-reach)) // and if not, growth takes longer
		m.reach.Store(reach)
	}
	m.entry.mapping = weak.Make(m)
	addEntry(m.entry)
	runtime.AddCleanup(m, releaseEntry, m.entry)
	return m, nil
}

// mapAhead is how far behind its end a file is mapped. Where it is to grow further, addresses
// are reserved: the kernel looks through all that is mapped behind the end whenever a size is
// set, see truncate_pagecache in mm/truncate.c, which doubled what growing by 1 MiB takes.
const mapAhead = 64 << 20

// reachFor returns how far a file of that size is mapped.
func reachFor(size int64) int64 { return alignUp(size, hugeAlign) + mapAhead }

// extend maps more of the file fd, so that the window, which must be long enough, covers
// end. It returns what came.
func (m *mapping) extend(fd uintptr, end int64) (span, error) {
	m.extending.Lock()
	defer m.extending.Unlock()
	s := span{m.reach.Load(), min(reachFor(end), int64(len(m.data)))}
	if end <= s.from {
		return span{}, nil // somebody else did
	}
	if !m.pin() {
		return span{}, fs.ErrClosed // retired: no file may be mapped there any more
	}
	defer m.unpin()
	access := toRead
	if m.writable {
		access = toStore
	}
	address, n := m.address()+uintptr(s.from), uintptr(s.to-s.from)
	if err := sys.mapAt(fd, m.entry.off+s.from, address, n, access); err != nil {
		m.stuck.Store(true)
		return span{}, err
	}
	m.reach.Store(s.to)
	return s, nil
}

// holds reports whether the n bytes at off exist and are known to be in memory.
// It is false for n = 0: what that means is the true path's to say.
func (m *mapping) holds(off int64, n int) bool {
	return n > 0 && off >= 0 && off <= m.extent.Load()-int64(n) && m.known.has(uint64(off), uint64(n))
}

// The Go scheduler cannot interrupt a copy, so that everything that stops the world, such as
// the garbage collector, waits for its end. Long ones are therefore made in pieces.
//
// On most processors of type amd64 a copy of 1 MiB or more writes past the caches, see
// runtime/memmove_amd64.s. That is 1.5 to 2.5 times as fast where the bytes would not stay in
// the caches anyhow, and half as fast where they do.
const (
	cachedCopy    = 256 << 10 // what is copied at once
	streamedCopy  = 1 << 20   // the same past the caches
	streamedFrom  = 8 << 20   // copies of this length and more go past them
	streamedStore = 32 << 20  // so do shorter ones to files of this length
)

// pieceOf returns how much is copied at once of a copy of n bytes.
func pieceOf(n int) int {
	if runtime.GOARCH != "amd64" || n < streamedFrom {
		return cachedCopy
	}
	return streamedCopy
}

// storesOf returns how much is copied at once of a store of n bytes.
func (m *mapping) storesOf(n int) int {
	if n >= streamedCopy && m.extent.Load() >= streamedStore {
		n = max(n, streamedFrom)
	}
	return pieceOf(n)
}

// load copies len(b) bytes at off to b, if the mapping holds them. It reports
// whether it did; if not, b may have been overwritten in part.
//
// This is what every fast read comes down to, in one function because calls are
// what it costs.
func (m *mapping) load(b []byte, off int64) (ok bool) {
	from := uint64(off)
	to := from + uint64(len(b))
	if from >= to || to > uint64(m.extent.Load()) { // also what is negative, and nothing at all
		return false
	}
	first, last := from>>granuleShift, (to-1)>>granuleShift
	if m.known.granules[first/32].Load()&(1<<(first%32)) == 0 || first != last && (to-from > cachedCopy || !m.known.hasAll(first, last)) {
		return to-from > cachedCopy && m.loadLong(b, off)
	}
	if pinsCopies && !m.pin() {
		return false
	}
	panicOnFault := debug.SetPanicOnFault(true)
	defer func() {
		if !ok {
			m.faulted(panicOnFault, recover())
		}
	}()
	copy(b, m.data[from:to])
	runtime.KeepAlive(m) // the window stays where it is until here
	m.leave(panicOnFault)
	return true
}

// longestRead is the most that os.File reads in one go: longer ones are left to it.
const longestRead = 1 << 30

// loadLong is load for what is copied in pieces.
func (m *mapping) loadLong(b []byte, off int64) bool {
	if len(b) > longestRead || !m.holds(off, len(b)) {
		return false
	}
	return m.copyPieces(b, m.data[off:off+int64(len(b))], pieceOf(len(b)))
}

// copyIn copies b to off, where there must be room for it in what is mapped. It
// reports whether it did; if not, a part may have been stored.
func (m *mapping) copyIn(b []byte, off int64) bool {
	switch {
	case !m.covers(off + int64(len(b))):
		return false
	case len(b) > cachedCopy:
		return m.copyPieces(m.data[off:], b, m.storesOf(len(b)))
	}
	return m.copyGuarded(m.data[off:], b)
}

// copyPieces is copyGuarded, piece by piece.
func (m *mapping) copyPieces(dst, src []byte, piece int) bool {
	for at := 0; at < len(src); at += piece {
		if !m.copyGuarded(dst[at:], src[at:min(at+piece, len(src))]) {
			return false
		}
	}
	return true
}

// copyGuarded copies src to dst, one of which is in the window and which has room for it. It
// reports whether it did; if not, a part may have been copied.
func (m *mapping) copyGuarded(dst, src []byte) (ok bool) {
	if pinsCopies && !m.pin() {
		return false
	}
	panicOnFault := debug.SetPanicOnFault(true)
	defer func() {
		if !ok {
			m.faulted(panicOnFault, recover())
		}
	}()
	copy(dst, src)
	runtime.KeepAlive(m)
	m.leave(panicOnFault)
	return true
}

// copyLong is copy in pieces, for those whose copies are guarded already.
func copyLong(dst, src []byte) {
	n := min(len(dst), len(src))
	piece := pieceOf(n)
	for at := 0; at < n; at += piece {
		copyAtOnce(dst[at:min(at+piece, n)], src[at:])
	}
}

// copyAtOnce is a call, at the beginning of which the scheduler can interrupt.
//
//go:noinline
func copyAtOnce(dst, src []byte) { copy(dst, src) }

// guard runs do. A fault in memory of a mapped file becomes the error it returns.
func guard(op string, do func() error) (err error) {
	returned := false
	panicOnFault := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(panicOnFault)
		if returned {
			return
		}
		recovered := recover()
		if recovered == nil {
			return // runtime.Goexit
		}
		address, isFault := faultAddress(recovered)
		if !isFault {
			panic(recovered)
		}
		e := entryOf(address)
		if e == nil {
			panic(recovered)
		}
		counts.faults.Add(1)
		err = e.fault(op, address)
	}()
	err = do()
	returned = true
	return err
}

// leave ends a guarded copy.
func (m *mapping) leave(panicOnFault bool) {
	debug.SetPanicOnFault(panicOnFault)
	if pinsCopies {
		m.unpin()
	}
}

// faulted ends a guarded copy that did not end well. It panics again with what was
// recovered unless that was a memory fault: on whichever side of the copy that was,
// the true path has the operating system's answer to it.
func (m *mapping) faulted(panicOnFault bool, recovered any) {
	m.leave(panicOnFault)
	if _, ok := faultAddress(recovered); !ok {
		panic(recovered)
	}
	counts.faults.Add(1)
}

// faultAddress returns the address of the memory fault that was recovered.
func faultAddress(recovered any) (address uintptr, ok bool) {
	fault, ok := recovered.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		return 0, false
	}
	return fault.Addr(), true
}

// covers reports whether the file is mapped as far as end, so that it can grow to there in
// place.
func (m *mapping) covers(end int64) bool { return end <= m.reach.Load() }

// glimpse is the mapping a call of the true path began with. What the call finds
// out holds only for that one.
type glimpse struct {
	*mapping
	version uint32
	before  int64 // the extent then
}

func glimpseOf(m *mapping) glimpse {
	if m == nil {
		return glimpse{}
	}
	return glimpse{m, m.version.Load(), m.extent.Load()}
}

// grow notes that the file has been seen to have end bytes, which the mapping
// covers, unless somebody cut it since.
func (g glimpse) grow(end int64) {
	for {
		extent := g.extent.Load()
		if end <= extent || g.mapping.version.Load() != g.version {
			return
		}
		if g.extent.CompareAndSwap(extent, end) {
			break
		}
	}
	if g.mapping.version.Load() != g.version {
		drop(g.mapping) // a cut came between; whether it has seen the new extent is not known
	}
}

// cutTo tells the mapping that the file is being cut to size. It reports whether
// the mapping reaches further and must be retired.
func (m *mapping) cutTo(size int64) bool {
	m.version.Add(1) // first: see grow
	extent := m.extent.Load()
	if extent > size {
		return true
	}
	// A byte less is known now: whoever is about to grow the extent has to look again.
	m.extent.CompareAndSwap(extent, max(extent-1, 0))
	return false
}

// retire makes the memory of the mapping inaccessible and lets go of the file, as soon
// as nothing pins it. The mapping must have been taken out of use before.
func (m *mapping) retire() {
	m.entry.retire()
	runtime.KeepAlive(m)
}

// abandon gives back a mapping that was not put into use, or not for long. If nobody else
// can have seen it, its addresses are free at once: there may be few of them.
func (m *mapping) abandon() {
	if m.slot == nil {
		releaseEntry(m.entry)
		runtime.KeepAlive(m)
		return
	}
	m.retire()
}

func (m *mapping) address() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(m.data))) }

// While one of these runs the mapping must not be collected: memory is sealed, or
// unmapped, by address, and that must still be the address of this one.

func (m *mapping) pin() bool {
	ok := m.entry.pin()
	runtime.KeepAlive(m)
	return ok
}

func (m *mapping) unpin() {
	m.entry.unpin()
	runtime.KeepAlive(m)
}

// pinView is pin for a View, which unpins in Release.
func (m *mapping) pinView() bool {
	if !m.entry.pin() {
		runtime.KeepAlive(m)
		return false
	}
	if pinsCopies || m.private {
		m.entry.views.Add(1)
	}
	return true
}
