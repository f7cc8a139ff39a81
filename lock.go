package mmapio

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
)

// ofFile is the owner of what a File has locked. Views have higher numbers.
const ofFile = 0

// lastLocker is the number of the View that locked memory last.
var lastLocker atomic.Uint64

var everything = span{0, math.MaxInt64}

// Lock keeps the n bytes at off in memory until Unlock or Close: they are read in now,
// and what is stored to them can still be written to the disk. The range is widened to
// whole pages. The File remembers it: it holds for memory that is mapped later and, where
// it reaches beyond the end of the file, for what the file grows to, or when it comes to
// be that long again. With n = 0 it does nothing. Locks do not add up: one Unlock ends
// them.
//
// Lock maps the file, and the mapping of a File with locks does not make room for others.
// When it is replaced by a longer one the bytes are locked again right after. If the limit
// is reached then, or while the file grows, part of it stays unlocked, which nobody is
// told; locking the range again tells.
//
// Pages of a private copy stay those of the file until they are written to. On systems
// other than Linux they may become the copy's own, as if they had been written to.
//
// The error is a [*fs.PathError]: with a [*RangeError] inside for a negative range,
// [fs.ErrPermission] for a file that is opened for writing only, [errors.ErrUnsupported]
// for one that is not mapped for itself ([MapNever], network file systems: lock a [View])
// and on systems without mappings, or the errno of the kernel: ENOMEM or EPERM when the
// limit of the process does not allow so much. That is RLIMIT_MEMLOCK (ulimit -l) on
// Unix, and the size of the working set on Windows. After an error nothing more is locked
// than before.
//
// Memory on hugetlbfs is always locked, in a way: Linux never takes it back, and does not
// count it.
func (f *File) Lock(off, n int64) error { return f.lock(off, n, false) }

// LockOnFault is Lock, but pages that are not in memory are locked when they come in, and
// not read now: mlock2(2) of Linux 4.4. Elsewhere the error is [errors.ErrUnsupported].
func (f *File) LockOnFault(off, n int64) error { return f.lock(off, n, true) }

// LockAll is Lock for the whole file, as far as it ever grows.
func (f *File) LockAll() error { return f.Lock(0, math.MaxInt64) }

// Unlock ends what Lock and LockOnFault have begun, for the n bytes at off, widened to
// whole pages. What is not locked stays so, without an error. Memory that a [View] has
// locked too stays locked. Errors are those of [File.Lock]. After one, a part may still be
// locked, and calling it again unlocks that.
func (f *File) Unlock(off, n int64) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	s, err := spanOf(off, n)
	if err == nil {
		err = control(file, func(uintptr) {})
	}
	if err == nil && n > 0 {
		err = f.unlock(s.widen(f.pageSizeOf(file)))
	}
	if err != nil {
		return f.fail("unlock", innerError(err))
	}
	return nil
}

// UnlockAll is Unlock for the whole file.
func (f *File) UnlockAll() error { return f.Unlock(0, math.MaxInt64) }

var errNoLockOnFault = fmt.Errorf("memory cannot be locked on fault on this system: %w", errors.ErrUnsupported)

func (f *File) lock(off, n int64, onFault bool) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	s, err := spanOf(off, n)
	if err == nil && onFault && !locksOnFault {
		err = errNoLockOnFault
	}
	if err == nil && n > 0 {
		err = f.lockSpan(file, s.widen(f.pageSizeOf(file)), onFault)
	}
	if err != nil {
		return f.fail("lock", innerError(err))
	}
	return nil
}

func (f *File) lockSpan(file *os.File, s span, onFault bool) error {
	m, err := f.toControl(file, s.to)
	if err != nil {
		return err
	}
	c := f.makeControls()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locking.Store(true) // first: who makes the file longer meanwhile waits, see grow
	defer func() { c.locking.Store(len(c.locks) > 0) }()
	if m != nil {
		defer m.unpin()
		s := m.existing(s)
		if err := f.makeOwn(m, s, !locksOnFault, func() error { return m.lock(ofFile, s, onFault) }); err != nil {
			return err
		}
	}
	c.locks, _ = c.locks.split(s, func(marked) bool { return true })
	c.locks = c.locks.join(marked{span: s, onFault: onFault})
	if now := f.mapping.Load(); now != nil && now != m && now.pin() { // it came meanwhile
		defer now.unpin()
		c.lockAgain(now, span{0, now.extent.Load()})
	}
	return nil
}

func (f *File) unlock(s span) error {
	c := f.cache.controls.Load()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := f.mapping.Load()
	c.locks, _ = c.locks.split(s, func(marked) bool { return true })
	c.locking.Store(len(c.locks) > 0)
	if m == nil || !m.pin() {
		return nil
	}
	defer m.unpin()
	return m.entry.unlock(ofFile, s)
}

// locks reports whether memory of the File is to be locked.
func (f *File) locks() bool {
	c := f.cache.controls.Load()
	return c != nil && c.locking.Load()
}

// keepLocked locks again what Truncate has unlocked, or added.
func (f *File) keepLocked(file *os.File) {
	if f.locks() {
		if m, err := f.toControl(file, math.MaxInt64); err == nil && m != nil {
			m.unpin()
		}
	}
}

// lockAgain locks what is to be locked of a part of a mapping. The caller holds mu and has
// pinned the mapping.
func (c *controls) lockAgain(m *mapping, part span) {
	for _, l := range c.locks {
		_ = m.lock(ofFile, l.clip(part), l.onFault)
	}
}

// lock locks the pages of s for owner.
func (m *mapping) lock(owner uint64, s span, onFault bool) error {
	address, n := m.pages(s)
	if n == 0 {
		return nil
	}
	from := int64(address - m.address())
	l := marked{span: span{from, from + int64(n)}, owner: owner, onFault: onFault}
	err := m.entry.lock(l, m.private && locksOnFault)
	if err == nil && !onFault {
		m.known.learn(uint64(from), uint64(n))
	}
	runtime.KeepAlive(m)
	return err
}

// lock locks memory, which somebody has pinned. With asFile it does not make pages of a
// private mapping its own, as mlock does: see populate_vma_page_range in mm/gup.c.
func (e *entry) lock(l marked, asFile bool) error {
	e.lockMu.Lock()
	defer e.lockMu.Unlock()
	address, length := e.address+uintptr(l.from), uintptr(l.to-l.from)
	err := sys.lock(address, length, l.onFault || asFile)
	if err == nil && asFile && !l.onFault {
		err = readIn(address, length)
	}
	if err != nil {
		_ = e.unlockUnclaimed(l.span) // a part may be locked
		return lockError(err)
	}
	e.locks, _ = e.locks.split(l.span, func(other marked) bool { return other.owner == l.owner })
	e.locks = e.locks.join(l)
	if l.owner == ofFile {
		e.locked.Store(true)
		if e.pins.Load() < 0 { // retired meanwhile: the File does not want it any more
			_, err = e.unlockLocked(ofFile, everything)
			e.noteLocked()
			return err
		}
	}
	return nil
}

// readIn reads memory in.
func readIn(address, length uintptr) error {
	if sys.populateRead(address, length) == nil {
		return nil
	}
	var sum byte
	err := guard("lock", func() error { // an old kernel, or a page that cannot be read
		for at := uintptr(0); at < length; at += uintptr(pageSize) {
			sum += bytesAt(address, length)[at]
		}
		return nil
	})
	runtime.KeepAlive(sum)
	return innerError(err)
}

// unlock unlocks what owner has locked of s, unless others have too. What the system does not
// unlock stays the owner's, who can try again.
func (e *entry) unlock(owner uint64, s span) error {
	e.lockMu.Lock()
	defer e.lockMu.Unlock()
	failed, err := e.unlockLocked(owner, s)
	for _, l := range failed {
		e.locks = e.locks.join(l)
	}
	e.noteLocked()
	return err
}

// disown unlocks what owner has locked, who is no more.
func (e *entry) disown(owner uint64) {
	e.lockMu.Lock()
	defer e.lockMu.Unlock()
	_, _ = e.unlockLocked(owner, everything)
	e.noteLocked()
}

// unlockLocked is unlock for those who hold lockMu. It returns what could not be unlocked, which
// is nobody's then.
func (e *entry) unlockLocked(owner uint64, s span) (failed spans, err error) {
	left, taken := e.locks.split(s, func(l marked) bool { return l.owner == owner })
	e.locks = left
	for _, l := range taken {
		if unlockErr := e.unlockUnclaimed(l.span); unlockErr != nil {
			failed, err = append(failed, l), unlockErr
		}
	}
	return failed, err
}

// noteLocked notes whether a File has locked something. The caller holds lockMu.
func (e *entry) noteLocked() {
	e.locked.Store(slices.ContainsFunc(e.locks, func(l marked) bool { return l.owner == ofFile }))
}

// unlockUnclaimed unlocks what nobody wants to have locked of s. The caller holds lockMu.
func (e *entry) unlockUnclaimed(s span) (err error) {
	for _, u := range e.unclaimed(s) {
		if unlockErr := sys.unlock(e.address+uintptr(u.from), uintptr(u.to-u.from)); unlockErr != nil {
			err = unlockErr
		}
	}
	return err
}

// unclaimed returns what nobody has locked of s. The caller holds lockMu.
func (e *entry) unclaimed(s span) spans {
	unclaimed := spans{{span: s}}
	for _, l := range e.locks {
		unclaimed, _ = unclaimed.split(l.span, func(marked) bool { return true })
	}
	return unclaimed
}

// lockError adds to the errno of a lock that failed what can be done about it.
func lockError(err error) error {
	if isLockLimit(err) {
		return fmt.Errorf("%w: the limit to raise, if that is the reason, is %s", err, lockLimitName)
	}
	return err
}

// Lock keeps the n bytes that are off bytes behind the start of the View in memory, as
// [File.Lock] does, until Unlock or Release. The range must be inside the View. A View can
// be locked where its File cannot, because it always has mapped memory. Several Views of
// the same bytes lock them independently.
func (v *View) Lock(off, n int64) error { return v.lockRange(off, n, false) }

// LockOnFault is to Lock what [File.LockOnFault] is to [File.Lock].
func (v *View) LockOnFault(off, n int64) error { return v.lockRange(off, n, true) }

// LockAll is Lock for all of the View.
func (v *View) LockAll() error { return v.Lock(0, int64(v.Len())) }

// Unlock ends what Lock and LockOnFault of this View have begun, for the n bytes that are
// off bytes behind its start, widened to whole pages.
func (v *View) Unlock(off, n int64) error {
	s, err := v.toControl("unlock", off, n)
	if err != nil || s.empty() || v.lock.Load() == 0 {
		return err
	}
	err = v.m.entry.unlock(uint64(v.lock.Load()), s.widen(int64(v.m.known.pageSize)))
	runtime.KeepAlive(v)
	if err != nil {
		return v.file.fail("unlock", err)
	}
	return nil
}

// UnlockAll is Unlock for all of the View.
func (v *View) UnlockAll() error { return v.Unlock(0, int64(v.Len())) }

func (v *View) lockRange(off, n int64, onFault bool) error {
	s, err := v.toControl("lock", off, n)
	if err != nil || s.empty() {
		return err
	}
	if onFault && !locksOnFault {
		return v.file.fail("lock", errNoLockOnFault)
	}
	v.owes.Store(true)
	v.lock.CompareAndSwap(0, uintptr(lastLocker.Add(1)))
	err = v.file.makeOwn(v.m, s, !locksOnFault, func() error { return v.m.lock(uint64(v.lock.Load()), s, onFault) })
	if err != nil {
		return v.file.fail("lock", err)
	}
	return nil
}
