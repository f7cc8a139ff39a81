package mmapio

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// position is where sequential reads and writes go on. File.offset says where it is
// to be found:
//
//   - 0 and more: it is this number. The fast paths move it with one atomic operation.
//   - held: an operation of the true path has it, and will be done with it soon.
//   - contended: the same, and somebody waits.
//   - inKernel: it is the offset of the descriptor. Borrowers work on that side by
//     side, without waiting for each other, so that a read that blocks in a pipe, or
//     a copy that takes an hour, holds up nobody.
//
// A file that can never be mapped has its position in the kernel for good, and so has
// one whose descriptor was handed out. That of a copy-on-write File is never there.
type position struct {
	shared atomic.Bool // the position stays in the kernel for good

	// For who holds the position:
	kernel    int64 // the offset of the descriptor, or inKernel where only the kernel knows
	uncounted int32 // operations that cache.misses does not know of

	mu       sync.Mutex
	released *sync.Cond // the position is no longer contended; nil until somebody waits
	lent     int        // borrowers at work
	alone    bool       // the borrower at work came alone and has been alone since
}

const (
	inKernel  = -1
	held      = -2
	contended = -3
)

// Seek sets the position for the next Read or Write, as [os.File.Seek] does, and
// returns it. Seeking inside a mapped file is no system call.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if m := f.mapping.Load(); m != nil && (whence == io.SeekStart || whence == io.SeekCurrent) {
		for {
			old := f.offset.Load()
			if old < 0 {
				break
			}
			target := offset
			if whence == io.SeekCurrent {
				target += old // an overflow is negative
			}
			if target < 0 || target > m.extent.Load() {
				break
			}
			if f.offset.CompareAndSwap(old, target) {
				return target, nil
			}
		}
	}
	at, err := f.seek(file, offset, whence)
	return at, f.named(err)
}

func (f *File) seek(file *os.File, offset int64, whence int) (int64, error) {
	if f.private != nil {
		return f.seekPrivate(file, offset, whence)
	}
	if whence != io.SeekStart && whence != io.SeekCurrent {
		// The answer depends on the size of the file.
		if err := f.suspendTail(file); err != nil {
			return 0, err
		}
		defer f.resumeTail()
	}
	g := glimpseOf(f.mapping.Load())
	if whence == io.SeekStart || whence == io.SeekCurrent && offset != 0 {
		f.visit()
	}
	start, by, err := f.borrow(file, false)
	if err != nil {
		return 0, err
	}
	target, err := file.Seek(offset, whence)
	if err == nil {
		start = target
	}
	f.giveBack(by, start)
	if err == nil && whence == io.SeekEnd {
		f.sawEnd(g, target-offset)
	}
	return target, err
}

// loan says how an operation came by the position.
type loan uint8

const (
	shared loan = iota // it is in the kernel for good
	alone              // nobody else has it
	lent               // others may have it too
)

// borrow makes the position that of the descriptor, for an operation there, and
// returns where the operation starts, or inKernel where that is not known. giveBack
// must follow. What may block must not hold up others that use the position.
func (f *File) borrow(file *os.File, mayBlock bool) (start int64, by loan, err error) {
	if f.position.shared.Load() {
		return inKernel, shared, nil
	}
	if !mayBlock || f.cache.regular.Load() {
		ok, err := f.hold(file)
		if err != nil {
			return inKernel, alone, err
		}
		if ok {
			return f.position.kernel, alone, nil
		}
	}
	start, err = f.lend(file)
	return start, lent, err
}

// giveBack ends what borrow began. The operation left the offset of the descriptor
// at end, or where only the kernel knows. It reports whether the operation did start
// where borrow said: others may have moved a position that they had too.
//
// Of the operations that were not counted yet, it returns how many there were: now
// and then several, mostly none, because counting them one by one would cost as much
// as half of all this.
func (f *File) giveBack(by loan, end int64) (uncounted int32, sure bool) {
	p := &f.position
	switch by {
	case alone:
		if p.uncounted++; p.uncounted == mapAfter {
			uncounted, p.uncounted = p.uncounted, 0
		}
		p.kernel = end
		f.release(end)
		return uncounted, true
	case lent:
		return 1, f.take(end)
	}
	return 0, false
}

// hold takes the position for a short operation on the descriptor, which is made to
// stand there. It reports false, and has done nothing, while others have borrowed
// the position.
func (f *File) hold(file *os.File) (ok bool, err error) {
	off, ok := f.claim(file)
	if !ok {
		return false, nil
	}
	if err := f.stand(file, off); err != nil {
		f.release(off)
		return false, err
	}
	return true, nil
}

// claim takes the position and returns it. release must follow. It reports false, and
// has done nothing, while others have borrowed the position.
func (f *File) claim(file *os.File) (off int64, ok bool) {
	for {
		switch off := f.offset.Load(); {
		case off >= 0:
			if f.offset.CompareAndSwap(off, held) {
				return off, true
			}
		case off == inKernel:
			if !f.fetch(file) {
				return 0, false
			}
		default:
			f.position.mu.Lock()
			f.awaitRelease()
			f.position.mu.Unlock()
		}
	}
}

// stand makes the descriptor stand at off, for who holds the position. If the file is
// closed that is no error here: the call that follows has its own to return.
func (f *File) stand(file *os.File, off int64) error {
	p := &f.position
	if off == p.kernel {
		return nil
	}
	if _, err := file.Seek(off, io.SeekStart); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	p.kernel = off
	return nil
}

// release ends what hold began, with the position now at to, or inKernel.
func (f *File) release(to int64) {
	if f.offset.Swap(to) == contended {
		p := &f.position
		p.mu.Lock()
		p.wake()
		p.mu.Unlock()
	}
}

// wake wakes those who wait for the position. The caller has mu.
func (p *position) wake() {
	if p.released != nil {
		p.released.Broadcast()
	}
}

// awaitRelease waits until the position is not held. The caller has position.mu.
func (f *File) awaitRelease() {
	p := &f.position
	for {
		switch f.offset.Load() {
		case held:
			f.offset.CompareAndSwap(held, contended)
		case contended:
			if p.released == nil {
				p.released = sync.NewCond(&p.mu)
			}
			p.released.Wait()
		default:
			return
		}
	}
}

// lend moves the position to the kernel for an operation that may take long. take
// must follow. It returns where the operation starts, or inKernel where that is not
// known.
func (f *File) lend(file *os.File) (start int64, err error) {
	p := &f.position
	p.mu.Lock()
	defer p.mu.Unlock()
	for f.offset.Load() != inKernel {
		f.awaitRelease()
		if off := f.offset.Load(); off >= 0 && f.offset.CompareAndSwap(off, held) {
			err := f.stand(file, off)
			if err == nil {
				off = inKernel
			}
			f.offset.Store(off)
			p.wake()
			if err != nil {
				return inKernel, err
			}
		}
	}
	start = inKernel
	if p.lent == 0 && !p.shared.Load() {
		start = p.kernel
	}
	p.lent++
	p.alone = p.lent == 1
	return start, nil
}

// take ends what lend began. The operation moved the offset of the descriptor to
// end, or to where only the kernel knows. It reports whether nobody else has had the
// position meanwhile.
func (f *File) take(end int64) (sure bool) {
	p := &f.position
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent--
	sure = p.alone && p.lent == 0 && !p.shared.Load()
	p.kernel = inKernel
	if sure {
		p.kernel = end
		f.offset.Store(end)
	}
	return sure
}

// fetch asks the kernel for the position, so that it is a number again. It reports
// false where the position must stay in the kernel.
func (f *File) fetch(file *os.File) bool {
	p := &f.position
	if f.offset.Load() != inKernel {
		return true
	}
	if p.shared.Load() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.offset.Load() != inKernel {
		return true
	}
	if p.lent > 0 || p.shared.Load() {
		return false
	}
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false
	}
	p.kernel = at
	f.offset.Store(at)
	return true
}

// share moves the position to the kernel for good.
func (f *File) share() {
	file, err := f.inner()
	if err != nil || f.private != nil || f.position.shared.Load() {
		return
	}
	if _, err := f.lend(file); err != nil {
		return // the file is closed
	}
	f.position.shared.Store(true)
	f.take(inKernel)
}
