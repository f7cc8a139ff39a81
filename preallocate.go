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
type tail struct {
	mu        sync.Mutex    // held to write by other ways than in place, and to trim
	step      int64         // how much to allocate at once
	refused   int           // so many writes to go until that is tried again
	end       int64         // where the file ends, if there is a tail
	filled    int64         // so far the tail is zeros in memory
	seen      glimpse       // the mapping when the tail was last found to be there
	suspended int           // calls that want the file as it is: no tail meanwhile
	allocated atomic.Int64  // where the tail ends, or 0 where there is none; set under mu
	changes   atomic.Uint32 // how often a tail came or went
}

const (
	// fillAhead is how much of a tail is brought into memory at once. Writing zeros
	// does that at a quarter of the cost of a page fault for every page.
	fillAhead = 256 << 10
	// writesAfterRefusal is how many writes go without a tail after the system did not
	// allocate one.
	writesAfterRefusal = 1000
	// largestFilling is the longest tail where zeros must be written to allocate it.
	largestFilling = 64 << 20
)

var zeros [fillAhead]byte

// readAt is os.File.ReadAt, ending at the end of the file and not of its tail.
func (t *tail) readAt(file *os.File, b []byte, off int64) (n int, err error) {
	for {
		changes := t.changes.Load()
		want, cut := b, false
		if end, ok := t.hides(file); ok && len(b) > 0 && off >= 0 && end-off < int64(len(b)) {
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
func (t *tail) hides(file *os.File) (end int64, ok bool) {
	if t == nil || t.allocated.Load() == 0 {
		return 0, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stands(file) {
		return 0, false
	}
	return t.end, true
}

// stands reports whether there is a tail. If somebody else has changed the size of the
// file, there is none any more. The caller holds mu.
func (t *tail) stands(file *os.File) bool {
	if t.allocated.Load() == 0 {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Size() == t.allocated.Load() {
		return true
	}
	t.forget()
	return false
}

// forget notes that there is no tail. The caller holds mu.
func (t *tail) forget() {
	t.filled, t.seen = 0, glimpse{}
	t.allocated.Store(0)
	t.changes.Add(1)
}

// writeWithTail is write for a file that may have a tail. All writes of the true path
// happen under tail.mu then, so that none is made behind the back of who reckons where
// the file ends.
func (f *File) writeWithTail(file *os.File, b []byte) (n int, err error) {
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
	f.missedWithTail(file, off, n)
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
	f.missedWithTail(file, off, n)
	return n, err
}

// missedWithTail counts a write of n bytes at off that a mapping could have served.
func (f *File) missedWithTail(file *os.File, off int64, n int) {
	if n > 0 && !f.covers(file, glimpseOf(f.mapping.Load()), off+int64(n)) {
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
	if t.refused > 0 {
		t.refused--
		return 0, nil, false
	}
	g := glimpseOf(m)
	if m == nil || m != t.seen.mapping || g.version != t.seen.version || off > t.end || end > t.filled {
		if !f.reserveTail(file, off, end) {
			return 0, f.trimLocked(file), false
		}
		if t.allocated.Load() == 0 {
			return 0, nil, false
		}
		t.seen = g
	}
	if m != nil && f.storesTo(m) && f.covers(file, g, end) && f.fillTail(file, g, end) && f.store(m, b, off) {
		n = len(b)
	} else {
		f.count(g, off, len(b))
		n, err = file.WriteAt(b, off)
		end = off + int64(n)
		if n > 0 && f.covers(file, g, end) {
			m.known.learn(uint64(off), uint64(n))
		}
	}
	t.end = max(t.end, end)
	if f.covers(file, g, end) {
		f.grow(g, end)
	}
	return n, err, true
}

// fillTail brings the tail into memory as far as end, and some more. The caller
// holds tail.mu.
func (f *File) fillTail(file *os.File, g glimpse, end int64) bool {
	t := f.tail
	if end <= t.filled {
		return true
	}
	from := max(t.filled, t.end)
	to := max(min((from+fillAhead)&^(fillAhead-1), t.allocated.Load()), end)
	if !f.covers(file, g, to) {
		to = end
	}
	if fill(file, from, to) != nil {
		return false
	}
	g.known.learn(uint64(from), uint64(to-from))
	t.filled = to
	return true
}

// reserveTail sees to it that there is room from off to end, which is where a tail
// begins or goes on. It reports false where there can be no tail.
func (f *File) reserveTail(file *os.File, off, end int64) bool {
	t := f.tail
	t.stands(file)
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
	if off > t.end {
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
		t.refused = writesAfterRefusal
		wanted = allocated // as far as is known: what came of it is found out by trimming
		if info, err := file.Stat(); err == nil {
			wanted = info.Size()
		}
	}
	t.allocated.Store(wanted)
	return err == nil
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
	if !t.stands(file) {
		return nil
	}
	end := t.end
	if err := f.resize(file, end); err != nil {
		return err
	}
	if m := f.mapping.Load(); m != nil {
		m.known.forgetFrom(uint64(end))
	}
	t.forget()
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
