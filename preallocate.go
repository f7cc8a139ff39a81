package mmapio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// tail is the space behind the end of a file that was allocated ahead. While there
// is some, the operating system's idea of the size is too large, and the end of the
// file is kept here. Who needs the true size trims the tail first.
//
// Most appends are stored through the mapping without mu, which raises its extent. So
// the file ends at the extent of that mapping or at end, whichever is further. Whoever
// is about to take the room away or to look for the end notes a change first, and an
// append that finds one afterwards is made again under mu.
type tail struct {
	step int64

	changes atomic.Uint32           // how often the tail, or what is said of it here, changed
	mapped  atomic.Pointer[mapping] // what appends are stored to; set under mu
	room    atomic.Int64            // so far they may be stored without mu

	mu        sync.Mutex   // held to write at the end by other ways, and to trim
	end       int64        // where the file ends at least, if there is a tail
	filled    int64        // so far the tail is zeros in memory
	suspended int          // calls that want the file as it is: no tail meanwhile
	allocated atomic.Int64 // where the tail ends, or 0 where there is none; set under mu
}

const (
	// fillAhead is how much of a tail is brought into memory at once. Writing zeros
	// does that at a quarter of the cost of a page fault for every page.
	fillAhead = 256 << 10
	// largestFilling is the longest tail where zeros must be written to allocate it.
	largestFilling = 64 << 20
)

var zeros [fillAhead]byte

// readAt is os.File.ReadAt, ending at the end of the file and not of its tail.
func (t *tail) readAt(file *os.File, b []byte, off int64) (n int, err error) {
	for {
		changes := t.changes.Load()
		want, cut := b, false
		if end, ok := t.hides(); ok && len(b) > 0 && off >= 0 && end-off < int64(len(b)) {
			want, cut = b[:max(end-off, 0)], true
		}
		n, err = file.ReadAt(want, off)
		if t.changes.Load() != changes {
			continue
		}
		if cut && err == nil {
			err = io.EOF
		}
		return n, err
	}
}

// hides returns the end of the file if there is a tail behind it.
func (t *tail) hides() (end int64, ok bool) {
	if t == nil || t.allocated.Load() == 0 {
		return 0, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endNow(), t.allocated.Load() != 0
}

// endNow returns where the file ends, if there is a tail. The caller holds mu.
func (t *tail) endNow() int64 {
	if m := t.mapped.Load(); m != nil {
		t.end = max(t.end, m.extent.Load())
	}
	return t.end
}

// open lets appends be stored to m as far as the tail is filled, or nowhere if m is
// nil. The caller holds mu.
func (t *tail) open(m *mapping) {
	if t.mapped.Load() != m {
		t.room.Store(0)
		t.changes.Add(1)
		t.endNow()
		t.mapped.Store(m)
	}
	if m != nil {
		t.room.Store(t.filled)
	}
}

// appendInPlace is Write, if all it needs is room in the tail. It reports whether it
// was; if not, nothing was done.
func (f *File) appendInPlace(file *os.File, b []byte) (n int, err error, done bool) {
	t := f.tail
	changes := t.changes.Load()
	m, off := t.mapped.Load(), f.offset.Load()
	end := off + int64(len(b))
	if m == nil || len(b) == 0 || off < 0 || end < off || end > t.room.Load() || !f.offset.CompareAndSwap(off, end) {
		return 0, nil, false
	}
	g := glimpseOf(m)
	if f.store(m, b, off) {
		g.grow(end)
		if t.changes.Load() == changes && m.extent.Load() >= end {
			return len(b), nil, true
		}
	}
	n, err = f.writeAtWithTail(file, b, off)
	if n < len(b) {
		f.offset.CompareAndSwap(end, off+int64(n))
	}
	return n, err, true
}

// writeWithTail is write for a file that may have a tail. All writes of the true path
// happen under tail.mu then, so that none is made behind the back of who reckons where
// the file ends.
func (f *File) writeWithTail(file *os.File, b []byte) (n int, err error) {
	if n, err, done := f.appendInPlace(file, b); done {
		return n, err
	}
	t := f.tail
	t.mu.Lock()
	off, ok := f.claim(file)
	if !ok {
		defer t.mu.Unlock()
		if err := f.trimLocked(file); err != nil {
			return 0, err
		}
		return f.writeThrough(file, b)
	}
	n, err, done := f.writeTail(file, b, off)
	f.release(off + int64(n))
	if !done && err == nil {
		n, err = f.writeThrough(file, b)
	}
	t.mu.Unlock()
	f.missedWithTail(file, off+int64(n))
	return n, err
}

// writeAtWithTail is writeAt for a file that may have a tail.
func (f *File) writeAtWithTail(file *os.File, b []byte, off int64) (n int, err error) {
	t := f.tail
	t.mu.Lock()
	n, err, done := f.writeTail(file, b, off)
	if !done && err == nil {
		n, err = f.writeAtThrough(file, b, off)
	}
	t.mu.Unlock()
	f.missedWithTail(file, off+int64(n))
	return n, err
}

// missedWithTail counts a write up to end that a mapping could have served.
func (f *File) missedWithTail(file *os.File, end int64) {
	if m := f.mapping.Load(); m == nil || !m.covers(end) {
		f.missed(file, 1)
	}
}

// writeTail writes b at off. The caller holds tail.mu.
func (f *File) writeTail(file *os.File, b []byte, off int64) (n int, err error, done bool) {
	t, end := f.tail, off+int64(len(b))
	m := f.mapping.Load()
	if t.suspended > 0 || len(b) == 0 || off < 0 || end < off || m != nil && end <= m.extent.Load() {
		return 0, nil, false // nothing longer
	}
	if !f.reserveTail(file, off, end) {
		return 0, f.trimLocked(file), false
	}
	if t.allocated.Load() == 0 {
		return 0, nil, false
	}
	if m != nil && m.writable && m.covers(end) && f.fillTail(file, m, end) && f.store(m, b, off) {
		n = len(b)
		t.open(m)
	} else {
		n, err = file.WriteAt(b, off)
		end = off + int64(n)
		if m != nil && m.covers(end) && n > 0 {
			m.known.learn(uint64(off), uint64(n))
		}
	}
	t.end = max(t.end, end)
	if m = f.mapping.Load(); m != nil && m.covers(end) {
		glimpseOf(m).grow(end)
	}
	return n, err, true
}

// fillTail brings the tail into memory as far as end, and some more. The caller
// holds tail.mu.
func (f *File) fillTail(file *os.File, m *mapping, end int64) bool {
	t := f.tail
	if end <= t.filled {
		return true
	}
	from := max(t.filled, t.endNow())
	to := max(min((from+fillAhead)&^(fillAhead-1), t.allocated.Load()), end)
	if !m.covers(to) {
		to = end
	}
	if fill(file, from, to) != nil {
		return false
	}
	m.known.learn(uint64(from), uint64(to-from))
	t.filled = to
	return true
}

// reserveTail sees to it that there is room from off to end, which is where a tail
// begins or goes on. It reports false where there can be no tail.
func (f *File) reserveTail(file *os.File, off, end int64) bool {
	t := f.tail
	allocated := t.allocated.Load()
	if allocated == 0 {
		info, err := file.Stat()
		if err != nil || !info.Mode().IsRegular() || off > info.Size() {
			return false
		}
		if end <= info.Size() {
			return true // no longer than it is
		}
		allocated = info.Size()
		t.end = allocated
		t.filled = allocated
	}
	if off > max(t.endNow(), t.filled) {
		return false
	}
	if end <= allocated {
		return true
	}
	wanted := end + t.step
	if wanted < end {
		return false
	}
	t.allocated.Store(wanted) // before the file is longer: whoever sees that must know why
	t.changes.Add(1)
	err := sys.allocate(file, allocated, wanted-allocated)
	if errors.Is(err, errors.ErrUnsupported) {
		wanted = min(wanted, end+largestFilling)
		err = fill(file, allocated, wanted)
	}
	if err != nil {
		return false
	}
	t.allocated.Store(wanted)
	return true
}

// fill writes zeros.
func fill(file *os.File, from, to int64) error {
	for from < to {
		n, err := file.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// suspendTail sees to it that there is no tail until resumeTail.
func (f *File) suspendTail(file *os.File) error {
	t := f.tail
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := f.trimLocked(file); err != nil {
		return err
	}
	t.suspended++
	return nil
}

func (f *File) resumeTail() {
	t := f.tail
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspended--
}

// trim cuts the tail off, if there is one.
func (f *File) trim() error {
	if f.tail == nil || f.tail.allocated.Load() == 0 {
		return nil
	}
	file, err := f.inner()
	if err != nil {
		return err
	}
	f.tail.mu.Lock()
	defer f.tail.mu.Unlock()
	return f.trimLocked(file)
}

// trimLocked is trim for those who hold tail.mu.
func (f *File) trimLocked(file *os.File) error {
	t := f.tail
	if t.allocated.Load() == 0 {
		return nil
	}
	t.open(nil)
	end := t.endNow()
	if err := f.shrink(file, end, func() error { return file.Truncate(end) }); err != nil {
		return err
	}
	if m := f.mapping.Load(); m != nil {
		m.known.forgetFrom(uint64(end))
	}
	t.allocated.Store(0)
	t.filled = 0
	t.changes.Add(1)
	return nil
}

// statTrimmed is Stat of a file without its tail.
func (f *File) statTrimmed(file *os.File) (fs.FileInfo, error) {
	if f.tail == nil {
		return file.Stat()
	}
	f.tail.mu.Lock()
	defer f.tail.mu.Unlock()
	if err := f.trimLocked(file); err != nil {
		return nil, err
	}
	return file.Stat()
}
