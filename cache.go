package mmapio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"weak"
)

// cache is the part of a File that decides when to map it and keeps the mapping
// honest.
type cache struct {
	misses   atomic.Int32 // calls of the true path that a mapping could have served; below 0 during a rest
	rest     atomic.Int32 // how many calls the last rest took: see trial
	patience atomic.Int32 // so many of them before the file is mapped, beyond mapAfter
	busy     atomic.Bool  // somebody is mapping the file
	refused  atomic.Bool  // the file can never be mapped
	visited  atomic.Bool  // it was read, or written at an offset: not only appended to
	regular  atomic.Bool  // it is known to be a regular file: reads and writes are short
	page     atomic.Int64 // the length of its pages, or 0 where nobody has asked
	closed   atomic.Bool  // no mapping any more: see withdraw

	controls atomic.Pointer[controls] // what was asked for its memory, or nil
	asked    atomic.Bool              // somebody has asked for a mapping

	stored atomic.Bool  // bytes were stored through the mapping, and the file is to be stamped
	before atomic.Int64 // its modification time then: whoever sets an earlier one does so later
	timer  atomic.Pointer[time.Timer]
	moved  atomic.Int64 // when the time was moved last, in nanoseconds
}

const (
	// mapAfter is the number of true-path calls after which a file is mapped.
	// Mapping it costs about as much as that many of them.
	mapAfter = 16
	// longestPatience bounds how long a file that could not be mapped, or only
	// grew, is left alone.
	longestPatience = 1024
	// patienceWithAppends is how long a file is left alone that is only appended to; whoever
	// then uses it otherwise ends that.
	patienceWithAppends = 1 << 16
	// stampAfter is how long the modification time may lag behind stores.
	stampAfter = time.Second
	// stampApart is how long flushes leave the time alone after it was moved. System calls do
	// not move it more often than the clock of the kernel ticks either, which is every 1 to
	// 10 ms. Asking for the time and moving it costs a third of a small flush.
	stampApart = 4 * time.Millisecond
	// reserveFrom is the size from which address space is reserved ahead.
	reserveFrom = 1 << 20
	// smallestReserve is the least that is reserved for a file that grows.
	smallestReserve = 64 << 20
	// largestAhead is the most that is reserved beyond the size.
	largestAhead = 16 << 30
	// hugeAlign is the alignment at which the processor can map large folios.
	hugeAlign = 2 << 20
)

// sawRead learns from a read of the true path: n bytes at off.
func (f *File) sawRead(file *os.File, g glimpse, off int64, n int) {
	if n <= 0 || off < 0 {
		return
	}
	end := off + int64(n)
	if !f.covers(file, g, end) {
		f.visit()
		f.missed(file, 1)
		return
	}
	f.grow(g, end)
	f.lookForCut(file, g, end)
	if !g.trial.on() {
		g.sawRead(off, n)
	}
}

// sawRead learns what is in memory from a system call that read n > 0 bytes at off.
func (m *mapping) sawRead(off int64, n int) {
	switch {
	case !m.sparing:
		m.known.learn(uint64(off), uint64(n))
		if m.onlyOwn {
			break
		}
		if from, first := m.known.ask(uint64(off), func() bool { return m.hasOthers(uint64(off), uint64(n)) }); first {
			m.askKernel(from, min(from+neighbourhood, uint64(m.extent.Load())))
		}
	case !m.onlyOwn:
		m.askKernel(uint64(off)&^uint64(pageSize-1), uint64(off)+uint64(n))
	}
	noteTrueRead()
}

// vicinity is how far around a read hasOthers looks: a fraction of a neighbourhood, because the
// kernel needs longest for pages that are not there.
const vicinity = 32 << 10

// hasOthers reports whether pages around the n bytes at off, which have just been read, are in
// memory too: then it pays to ask about the neighbourhood. After a long read it does anyway.
func (m *mapping) hasOthers(off, n uint64) (found bool) {
	if n > vicinity {
		return true
	}
	from := (off - min(off, vicinity)) &^ uint64(pageSize-1)
	to := min(off+n+vicinity, uint64(m.extent.Load()))
	if to <= from {
		return false
	}
	sys.resident(m.address()+uintptr(from), uintptr(to-from), func(at, length uintptr) {
		at += uintptr(from)
		found = found || uint64(at) < off&^uint64(pageSize-1) || uint64(at+length) >= off+n+uint64(pageSize)
	})
	return found
}

// askKernel learns what is in memory from from, the start of a page, to to.
func (m *mapping) askKernel(from, to uint64) {
	for from < to {
		n := min(to-from, neighbourhood)
		sys.resident(m.address()+uintptr(from), uintptr(n), func(at, n uintptr) {
			m.known.learn(from+uint64(at), uint64(n))
		})
		from += n
	}
}

// sawWrite learns from a write of the true path: n bytes at off.
func (f *File) sawWrite(file *os.File, g glimpse, off int64, n int) {
	if n <= 0 || off < 0 {
		return
	}
	end := off + int64(n)
	if !f.covers(file, g, end) {
		f.visit()
		f.missedByWrite(file, 1)
		return
	}
	f.grow(g, end)
	f.lookForCut(file, g, end)
	f.judge(g, off, n, false)
	if !g.trial.on() {
		g.known.learn(uint64(off), uint64(n))
	}
	f.wroteByCall(g.mapping)
}

// lookForCut asks for the size of the file after a call of the true path, unless the
// call was for bytes at the end that were not known before: those prove it.
func (f *File) lookForCut(file *os.File, g glimpse, end int64) {
	if end > g.before {
		return
	}
	if size, _, err := sizeOf(file); err == nil {
		f.sawEnd(g, size)
	}
}

// missedByWrite is missed for writes. A File with a tail is not mapped while tail.mu
// is held: see missedWithTail.
func (f *File) missedByWrite(file *os.File, calls int32) {
	if f.tail == nil {
		f.missed(file, calls)
	}
}

// visit notes that somebody uses what is in the file.
func (f *File) visit() {
	if !f.cache.visited.Load() {
		f.cache.visited.Store(true)
		f.cache.patience.Store(0) // what was appended does not count
	}
}

// sawEnd learns that the file ended at end, or before, when a call got there or asked
// for its size.
func (f *File) sawEnd(g glimpse, end int64) {
	if g.mapping != nil && g.before > end {
		drop(g.mapping)
	}
}

// missed counts calls of the true path that a mapping, or a longer one, could have
// served, and maps the file when that pays.
func (f *File) missed(file *os.File, calls int32) {
	c := &f.cache
	if f.config.mapping == MapNever || c.refused.Load() {
		return
	}
	wait := c.patience.Load()
	if wait == patienceWithAppends && c.visited.Load() {
		wait = 0 // visit came just before that was found
	}
	if f.config.mapping == MapAuto {
		wait += mapAfter
	}
	if f.locks() {
		wait = 0
	}
	if !f.unasked() && c.misses.Load() < 0 {
		c.misses.Store(0) // no rest any more
	}
	if c.misses.Add(calls) < wait || !c.busy.CompareAndSwap(false, true) {
		return
	}
	defer c.busy.Store(false)
	if c.misses.Load() < wait {
		return // others were here: it is mapped, or has to rest
	}
	c.misses.Store(0)
	if f.remap(file, false) {
		return
	}
	if c.refused.Load() && f.tail == nil {
		f.share()
	} else if patience := c.patience.Load(); patience < longestPatience {
		c.patience.Store(min(2*patience+mapAfter, longestPatience))
	}
}

// mapNow maps the file, or more of it than old does, because somebody asks for that. It
// reports false where it could not be mapped.
func (f *File) mapNow(file *os.File, old *mapping) bool {
	c := &f.cache
	if f.config.mapping == MapNever || c.refused.Load() {
		return false
	}
	for !c.busy.CompareAndSwap(false, true) {
		runtime.Gosched()
	}
	defer c.busy.Store(false)
	if f.mapping.Load() != old {
		return true // somebody else did
	}
	c.misses.Store(0)
	if f.remap(file, true) {
		return true
	}
	if c.refused.Load() && f.tail == nil {
		f.share()
	}
	return false
}

// remap maps the file in place of the mapping it has, if any. Unless that was asked for
// it does not map a file that is only appended to.
func (f *File) remap(file *os.File, asked bool) bool {
	by, ok := beginMapping()
	if !ok {
		return false
	}
	defer endMapping(by)
	info, err := file.Stat()
	if err != nil {
		return false
	}
	if !info.Mode().IsRegular() {
		f.cache.refused.Store(true)
		return false
	}
	by.identify(info)
	f.cache.regular.Store(true)
	size, old := info.Size(), f.mapping.Load()
	if end, ok := f.tail.hides(file); ok {
		size = min(size, end)
	}
	if size == 0 || old != nil && old.extent.Load() == size {
		return false
	}
	if old == nil && !asked && f.appended(size) {
		f.cache.patience.Store(patienceWithAppends)
		return false
	}
	if !by.start() {
		return false
	}
	m, err := f.newMapping(file, info, size, old)
	if err != nil {
		return false
	}
	if old != nil {
		m.known.inherit(&old.known)
	}
	if asked {
		f.askedFor(m)
	}
	f.tryNew(m, old)
	if !publish(m, &f.mapping, by, &f.cache.closed) {
		m.abandon()
		return false
	}
	f.settle(m, m.mapped())
	return true
}

// appended reports whether the file, of that size, has only been appended to: who does that
// has no use for a mapping, unless it is to be locked.
func (f *File) appended(size int64) bool {
	return !f.cache.visited.Load() && f.config.mapping == MapAuto && f.mode == ReadWrite && f.tail == nil && f.offset.Load() == size && !f.locks()
}

// newMapping maps file as far as its size, and what growth is to be expected, suggest.
func (f *File) newMapping(file *os.File, info fs.FileInfo, size int64, old *mapping) (m *mapping, err error) {
	if size > registry.maxBytes/4 {
		return nil, errTooLarge
	}
	whole := info.Size() // with the tail, if there is one
	if whole > registry.maxBytes/4 {
		whole = size
	}
	length := windowFor(whole, old != nil || f.tail != nil)
	access := f.access(info)
	controlErr := control(file, func(fd uintptr) {
		trust := trustIn(fd, info, f.mode)
		if !trust.mappings && f.config.mapping != MapAlways {
			f.cache.refused.Store(true)
			err = errUntrusted
			return
		}
		if trust.hugePage > 0 {
			length = whole // a mapping that reaches further would make the file longer
		}
		m, err = newMapping(fd, f.Name(), 0, length, size, access)
		if least := alignUp(whole, int64(pageSize)); err != nil && length > least {
			m, err = newMapping(fd, f.Name(), 0, least, size, access)
		}
		if err != nil {
			counts.refused.Add(1)
			switch {
			case trust.hugePage > 0: // there may be free ones later
			case outOfAddresses(err):
				relieve()
			default:
				f.cache.refused.Store(true)
			}
			return
		}
		m.relyOn(trust)
		f.own(m)
	})
	if controlErr != nil {
		return nil, controlErr
	}
	return m, err
}

// covers reports whether the file is mapped as far as end, which is not behind its end, and
// sees to it where the window is long enough.
func (f *File) covers(file *os.File, g glimpse, end int64) bool {
	m := g.mapping
	return m != nil && (m.covers(end) || f.extend(file, m, end))
}

// extend has more of the file mapped in place, as far as end, and reports whether it was.
func (f *File) extend(file *os.File, m *mapping, end int64) bool {
	if end > int64(len(m.data)) || m.stuck.Load() {
		return false
	}
	var s span
	err := fs.ErrClosed
	_ = control(file, func(fd uintptr) { s, err = m.extend(fd, end) })
	if err != nil {
		return false
	}
	if !s.empty() {
		f.settle(m, s)
	}
	return true
}

// own makes m memory of the File, before anybody stores to it.
func (f *File) own(m *mapping) {
	m.direct.Store(f.storesDirectly(m))
	if !syncCoversMappings {
		registry.mu.Lock()
		m.entry.owner = weak.Make(f)
		registry.mu.Unlock()
	}
}

// access returns what a mapping of the file is for. A store is no write that the kernel
// knows of: it would neither take away the privileges of a program nor wait for the disk.
func (f *File) access(info fs.FileInfo) access {
	if f.mode == ReadWrite && storesIntoMappings && f.flag&unmappableWriteFlags == 0 && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) == 0 {
		return toStore
	}
	return toRead
}

// windowFor returns how much address space a file of that size gets.
func windowFor(size int64, grown bool) int64 {
	if !reservesAhead || size < reserveFrom && !grown {
		return alignUp(size, int64(pageSize))
	}
	ahead := min(max(size, smallestReserve), largestAhead)
	return alignUp(size, hugeAlign) + alignUp(ahead, hugeAlign)
}

// alignUp rounds n up to a multiple of alignment, a power of two.
func alignUp(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// store copies b to off, where the file holds it, through the mapping. It reports
// whether it did.
func (f *File) store(m *mapping, b []byte, off int64) bool {
	if !m.copyIn(b, off) {
		return false
	}
	f.sawStore()
	return true
}

// sawStore must be called after bytes were stored to memory of the file: a stamp that
// comes between the two must not be the last one.
func (f *File) sawStore() {
	if !f.cache.stored.Load() {
		f.stampSoon()
	}
}

// stampSoon sees to it that the modification time is moved.
func (f *File) stampSoon() {
	if f.private != nil || f.cache.closed.Load() || !f.cache.stored.CompareAndSwap(false, true) {
		return
	}
	if file, err := f.inner(); err == nil {
		f.moveTime(file) // now too: see before
		f.cache.before.Store(modified(file))
	}
	f.cache.timer.Store(time.AfterFunc(stampAfter, f.stamp))
}

// modified returns the modification time of the file, or 0.
func modified(file *os.File) int64 {
	info, err := file.Stat()
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

// stamp moves the modification time if bytes were stored through the mapping: the
// kernel does that for system calls only. It is best effort. A time that somebody has
// set to the past or the future meanwhile is left alone.
func (f *File) stamp() {
	if !f.cache.stored.Swap(false) {
		return
	}
	if timer := f.cache.timer.Swap(nil); timer != nil {
		timer.Stop()
	}
	file, err := f.inner()
	if err != nil {
		return
	}
	if at := modified(file); at < f.cache.before.Load() || at > time.Now().UnixNano() {
		return
	}
	f.moveTime(file)
}

// moveTime sets the modification time to now.
func (f *File) moveTime(file *os.File) {
	_ = control(file, func(fd uintptr) { _ = sys.stamp(fd) })
	f.cache.moved.Store(time.Now().UnixNano())
}

// stampAtFlush is stamp, unless the time was moved just now. Another flush, the timer or
// whoever asks for the time moves it then.
func (f *File) stampAtFlush() {
	if since := time.Now().UnixNano() - f.cache.moved.Load(); since < 0 || since >= int64(stampApart) {
		f.stamp()
	}
}

// resize sets the size of the file. All that map it in this process know.
func (f *File) resize(file *os.File, size int64) error {
	if size < 0 {
		return file.Truncate(size)
	}
	var info fs.FileInfo // which file
	var err error
	if m := f.mapping.Load(); m != nil {
		info = m.entry.info
	} else if info, err = file.Stat(); err != nil {
		return file.Truncate(size) // which has its own error
	}
	return explained(cut(size, info, func() error { return file.Truncate(size) }))
}

// explained says what to do about the error of cutting a file that has Views, where that
// is one.
func explained(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok && mustUnmapToResize && errors.Is(err, errMapped) {
		return &fs.PathError{Op: failed.Op, Path: failed.Path, Err: fmt.Errorf("%w: release the Views of the file, or wait for others to unmap it", failed.Err)}
	}
	return err
}

// folder is where names begin: an os.Root, or system.
type folder interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
}

// system is the folder of names that may be anywhere.
type system struct{}

func (system) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// openTruncating is os.OpenFile with a flag that cuts the file. Nothing can be lost by
// telling others afterwards: no page is left that a copy could hit.
func openTruncating(in folder, name string, flag int, perm fs.FileMode) (*os.File, error) {
	file, err := in.OpenFile(name, flag, perm)
	if mustUnmapToResize && errors.Is(err, errMapped) {
		file, err = openUnmapped(in, name, flag, perm, err)
	}
	if err != nil {
		return nil, explained(err)
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		_ = cut(0, info, func() error { return nil })
	}
	return file, nil
}

// openUnmapped tries to open a file again after those who map it have let go of it.
func openUnmapped(in folder, name string, flag int, perm fs.FileMode, first error) (*os.File, error) {
	other, err := in.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, first
	}
	info, err := other.Stat()
	if err := errors.Join(err, other.Close()); err != nil {
		return nil, first
	}
	var file *os.File
	err = cut(0, info, func() (err error) {
		file, err = in.OpenFile(name, flag, perm)
		return err
	})
	return file, err
}

// control runs do with the descriptor of file, which stays open meanwhile.
func control(file *os.File, do func(fd uintptr)) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	if conn.Control(do) != nil {
		return fs.ErrClosed // its only error, which os does not translate here
	}
	return nil
}
