package mmapio

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// position is where sequential reads and writes go on. It lives in one of two
// places:
//
//   - in File.offset, from where the fast paths take it with one atomic operation;
//   - in the kernel, as the offset of the descriptor. File.offset is inKernel then.
//
// An operation of the true path borrows it: lend moves it to the kernel, take
// fetches it back when the last borrower is done. Borrowers do not wait for each
// other, so a read that blocks in a pipe holds up nobody.
type position struct {
	mu     sync.Mutex
	shared atomic.Bool // the descriptor was handed out: the position stays in the kernel for good
	kernel int64       // the offset of the descriptor, or inKernel where only the kernel knows
	lent   int         // borrowers at work
	alone  bool        // the borrower at work came alone and has been alone since
}

// inKernel stands for a position that only the kernel knows.
const inKernel = -1

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
			if old == inKernel {
				break
			}
			target := offset
			if whence == io.SeekCurrent {
				target += old // both are far from overflow where it matters: the sum is checked against the extent
			}
			if target < 0 || target > m.extent.Load() {
				break
			}
			if f.offset.CompareAndSwap(old, target) {
				return target, nil
			}
		}
	}
	return f.seek(file, offset, whence)
}

func (f *File) seek(file *os.File, offset int64, whence int) (int64, error) {
	if whence != io.SeekStart && whence != io.SeekCurrent {
		// The answer depends on the size of the file.
		if err := f.trim(); err != nil {
			return 0, err
		}
	}
	p := &f.position
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := f.toKernel(file); err != nil {
		return 0, err
	}
	target, err := file.Seek(offset, whence)
	if p.lent > 0 || p.shared.Load() {
		p.alone = false
		return target, err
	}
	if err == nil {
		p.kernel = target
		if whence == io.SeekEnd {
			f.sawSize(target - offset)
		}
	}
	f.offset.Store(p.kernel)
	return target, err
}

// toKernel moves the position to the kernel. The caller holds position.mu.
func (f *File) toKernel(file *os.File) error {
	p := &f.position
	old := f.offset.Swap(inKernel)
	if old == inKernel || old == p.kernel {
		return nil
	}
	if _, err := file.Seek(old, io.SeekStart); err != nil {
		f.offset.Store(old)
		return err
	}
	p.kernel = old
	return nil
}

// lend moves the position to the kernel for an operation of the true path, which
// must call take when it is done. It returns where the operation starts, or
// inKernel where that is not known.
func (f *File) lend(file *os.File) (start int64, err error) {
	p := &f.position
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := f.toKernel(file); err != nil {
		return inKernel, err
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
// end, or to where only the kernel knows.
func (f *File) take(end int64) {
	p := &f.position
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent--
	p.kernel = inKernel
	if p.alone && p.lent == 0 && !p.shared.Load() {
		p.kernel = end
		f.offset.Store(end)
	}
}

// fetch asks the kernel for the position so that the fast paths can go on from
// it. It reports whether they can.
func (f *File) fetch(file *os.File) bool {
	p := &f.position
	if p.shared.Load() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lent > 0 || p.shared.Load() {
		return false
	}
	if f.offset.Load() != inKernel {
		return true
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
	if err != nil {
		return
	}
	p := &f.position
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shared.Load() {
		return
	}
	f.toKernel(file) // an error leaves the offset as the descriptor has it
	f.offset.Store(inKernel)
	p.kernel = inKernel
	p.shared.Store(true)
}
