package mmapio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
)

// View is the bytes of a region of a [File], without a copy.
//
// It stays valid, and shows the same bytes as the file, until it is released: while the
// file grows, while other parts of it are cut off, after Close, and without anybody
// holding on to the File or the View. What is not released is never given back.
//
// When bytes of a View itself are cut off the file, by whomever, there is nothing left to
// show: memory behind the last page of the file faults. Inside [View.Do], [View.ReadAt],
// [View.WriteAt] and [Guard] that is an error; elsewhere it ends the program. Windows
// does not cut a file that has Views: Truncate is an error there.
//
// The methods of one View may be called by several goroutines at once, except that
// Release must come after all of them. After it they return [fs.ErrClosed], and slices
// and words that they returned before must not be used any more. A View must not be
// copied.
type View struct {
	_    noCopy
	data []byte // nil when released
	off  int64  // in the file
	m    *mapping
	file *File

	flusher *flusher // of the File, if that has a flush policy

	owes   atomic.Bool // Release has more to do than to unpin
	handed atomic.Bool // memory was handed out, and what is stored to it counts for the policy
	// Who it is among those that lock memory, or 0. A number of 64 bits here would move
	// Views to the heap on 32-bit systems.
	lock atomic.Uintptr
}

// noCopy makes go vet report copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

var (
	_ io.ReaderAt = (*View)(nil)
	_ io.WriterAt = (*View)(nil)
)

// View returns the n bytes at off, all of which must exist: a View never makes a file
// longer. The caller calls Release when done with it.
//
// The bytes of a File that is opened for reading and writing can be stored to, unless it
// was opened with [os.O_APPEND] or [os.O_SYNC], or the file has a setuid or setgid bit, which
// only system calls take away.
//
// A View needs mapped memory. Where the File has none yet it gets some; where it must
// not be mapped ([MapNever], network file systems), or a part of it is all that fits,
// the region is mapped for the View alone. Whether both see the same bytes is then for
// the file system to say.
//
// View does not allocate where the View does not leave the function that calls it, except in
// functions so large that the compiler no longer inlines calls there.
//
// The error is a [*fs.PathError]: with a [*RangeError] inside for a range that is not
// inside the file, [fs.ErrPermission] for a file that is opened for writing only,
// [errors.ErrUnsupported] on systems without mappings, [fs.ErrClosed], or the errno of
// the kernel.
func (f *File) View(off, n int64) (*View, error) {
	return new(View).open(f, off, n) // in the frame of the caller, if it stays there
}

// open makes v, which is new or released, a View and returns it.
func (v *View) open(f *File, off, n int64) (*View, error) {
	if f != nil && off >= 0 && n > 0 && f.private == nil {
		if m := f.mapping.Load(); m != nil && off <= m.extent.Load()-n {
			if m.entry.pin() { // pinView, without its call
				if pinsCopies {
					m.entry.views.Add(1)
				}
				v.show(f, m, off, n)
				return v, nil
			}
			runtime.KeepAlive(m)
		}
	}
	if err := v.openSlow(f, off, n); err != nil {
		if f != nil && f.cache.closed.Load() && !errors.Is(err, fs.ErrClosed) {
			err = f.fail("view", fs.ErrClosed) // meanwhile: see sizeToMap
		}
		return nil, err
	}
	return v, nil
}

// show makes v the n bytes at off of a pinned mapping.
func (v *View) show(f *File, m *mapping, off, n int64) {
	from := off - m.entry.off
	v.data = m.data[from : from+n : from+n]
	v.off, v.m, v.file, v.flusher = off, m, f, f.flusher
}

// viewAttempts is how often a mapping may be taken away before a View has pinned it,
// until the View gets one of its own.
const viewAttempts = 4

func (v *View) openSlow(f *File, off, n int64) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	if f.private != nil {
		return v.openPrivate(f, off, n, true)
	}
	if err := f.mappable(); err != nil {
		return f.fail("view", err)
	}
	for range viewAttempts {
		g := glimpseOf(f.mapping.Load())
		size, err := f.sizeToMap(file)
		if err == nil {
			err = checkRange(off, n, size)
		}
		if err != nil {
			return f.fail("view", err)
		}
		if n == 0 {
			v.data, v.off, v.file = []byte{}, off, f
			return nil
		}
		if !f.covers(file, g, off+n) {
			if !f.mapNow(file, g.mapping) {
				break
			}
			continue
		}
		f.grow(g, off+n)
		if off <= g.extent.Load()-n && g.pinView() {
			v.show(f, g.mapping, off, n)
			return nil
		}
	}
	return v.openWindow(f, file, off, n)
}

// mappable returns why the File cannot have mapped memory at all, if so.
func (f *File) mappable() error {
	switch {
	case f.cache.closed.Load():
		return fs.ErrClosed
	case !supportsMapping:
		return errNoMappings
	case f.mode == WriteOnly:
		return errNotReadable
	}
	return nil
}

// sizeToMap returns where the file ends, without a tail.
func (f *File) sizeToMap(file *os.File) (int64, error) {
	if f.private != nil {
		return f.private.size, nil
	}
	if end, ok := f.tail.hides(file); ok {
		return end, nil
	}
	size, regular, err := sizeOf(file)
	switch {
	case err != nil:
		return 0, innerError(err)
	case !regular:
		return 0, errNotRegular
	}
	return size, nil
}

// openWindow maps the region for this View alone.
func (v *View) openWindow(f *File, file *os.File, off, n int64) error {
	unit := int64(mapGranularity)
	if huge := f.hugePage(file); huge > 0 {
		unit = max(unit, huge)
	}
	from := off &^ (unit - 1)
	length := off + n - from
	if unit > int64(mapGranularity) {
		length = alignUp(length, unit)
	}
	if int64(int(length)) != length || length > defaultAddressSpace { // nobody else must make room for that
		return f.fail("view", errTooLarge)
	}
	info, err := file.Stat()
	if err != nil {
		return f.fail("view", innerError(err))
	}
	reclaimSpent()
	m, err := f.newWindow(file, info, from, length)
	if err != nil && outOfAddresses(err) && unit == int64(mapGranularity) {
		relieve()
		reclaim()
		m, err = f.newWindow(file, info, from, length)
	}
	// Where nothing behind the end can be mapped, somebody may have cut the file meanwhile.
	for attempt := 0; err != nil && mustUnmapToResize && attempt < viewAttempts; attempt++ {
		size, sizeErr := f.sizeToMap(file)
		if sizeErr != nil {
			break
		}
		if cut := checkRange(off, n, size); cut != nil {
			err = cut
			break
		}
		m, err = f.newWindow(file, info, from, length)
	}
	if err != nil {
		return f.fail("view", innerError(err))
	}
	f.own(m)
	m.pinView()
	m.retire() // when the View is released
	v.show(f, m, off, n)
	size, err := f.sizeToMap(file) // it may have been cut before it was mapped
	if err == nil {
		err = checkRange(off, n, size)
	}
	if err != nil {
		v.Release()
		return f.fail("view", err)
	}
	return nil
}

func (f *File) newWindow(file *os.File, info fs.FileInfo, from, length int64) (m *mapping, err error) {
	controlErr := control(file, func(fd uintptr) {
		if m, err = newMapping(fd, f.Name(), from, length, length, f.access(info)); err == nil {
			m.relyOn(trustIn(fd, info, modeOf(f.flag)))
		}
	})
	if controlErr != nil {
		return nil, controlErr
	}
	return m, err
}

// Release ends the use of the View and of all that its methods have returned. The memory
// is given up when no other View, and no File, needs it. Releasing a View again does
// nothing.
func (v *View) Release() {
	if v == nil || v.data == nil {
		return
	}
	m := v.m
	if v.owes.Load() {
		v.settle()
	}
	v.data, v.m = nil, nil // its addresses can be given back
	if m != nil {
		if pinsCopies || m.private {
			m.entry.views.Add(-1)
		}
		m.entry.unpin()
		runtime.KeepAlive(m)
	}
}

// handOut notes that from now on stores to the View can be made by whoever has its bytes.
func (v *View) handOut() {
	if v.flusher != nil && v.Writable() && !v.handed.Load() && v.handed.CompareAndSwap(false, true) {
		v.owes.Store(true)
		v.flusher.lend()
	}
}

// settle gives back what the View has besides its pin.
func (v *View) settle() {
	v.owes.Store(false)
	if v.handed.Load() {
		v.takeBack()
	}
	if holder := v.lock.Swap(0); holder != 0 {
		v.m.entry.disown(uint64(holder))
	}
}

// takeBack ends what handOut began.
func (v *View) takeBack() {
	v.handed.Store(false)
	v.file.sawStore()
	v.flusher.lent.Add(-1)
	_ = v.wrote(0, len(v.data)) // if it fails the next call of the File says so
}

// wrote counts the n bytes at off, which were stored, for the flush policy. When that has
// ended with the File, they are flushed at once.
func (v *View) wrote(off int64, n int) error {
	err := v.file.wrote(int64(n), nil)
	if err != nil && v.flusher.closed.Load() {
		return v.file.flushMapped(v.m, v.at()+off, int64(n))
	}
	return err
}

// Bytes returns the bytes themselves: Len of them, with no room behind. It returns nil
// after Release. Storing to them needs a View that is [View.Writable]: to others it is a
// fault, as it is everywhere when the file is cut. [View.Do] hands out the same bytes and
// turns faults into errors.
//
// Stores are seen at once by all who have the same file open. They move the modification
// time of the file at [View.Flush]; before that it is up to the system. Unordered with other
// goroutines and processes, they are data races as with any memory; see [View.Uint32] and
// its siblings for words that several can use.
func (v *View) Bytes() []byte {
	if v == nil {
		return nil
	}
	if v.flusher != nil {
		v.handOut()
	}
	return v.data
}

// Offset returns where in the file the View begins, in bytes.
func (v *View) Offset() int64 {
	if v == nil {
		return 0
	}
	return v.off
}

// Len returns the length of the View in bytes.
func (v *View) Len() int {
	if v == nil {
		return 0
	}
	return len(v.data)
}

// Writable reports whether the bytes can be stored to.
func (v *View) Writable() bool { return v != nil && v.m != nil && v.m.writable }

// live returns an error unless the View can be used.
func (v *View) live(op string) error {
	if v == nil || v.file == nil {
		return os.ErrInvalid
	}
	if v.data == nil {
		return v.file.fail(op, errReleased)
	}
	return nil
}

// at returns where in the mapping the View begins.
func (v *View) at() int64 { return v.off - v.m.entry.off }

// ReadAt copies bytes of the View, from off bytes behind its start on, to b. It returns
// how many, and [io.EOF] when the View ends before b is full. A fault is a
// [*fs.PathError] with a [*FaultError] in it, and 0 bytes.
func (v *View) ReadAt(b []byte, off int64) (int, error) {
	if err := v.live("read"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, v.file.fail("read", &RangeError{Offset: off, Length: int64(len(b)), Size: int64(len(v.data))})
	}
	if off >= int64(len(v.data)) {
		if len(b) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	source := v.data[off:]
	n := min(len(b), len(source))
	if n > 0 {
		_ = v.file.bringIn(v.m, v.at()+off, int64(n)) // what is wrong shows in the copy
		if err := guardedCopy("read", b, source); err != nil {
			return 0, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt copies b to the bytes of the View, off bytes behind its start. Unless all of b
// fits it writes nothing and returns a [*fs.PathError] with a [*RangeError] in it; to
// memory that is read-only the error is [ErrReadOnly]. After a fault, which is a
// [*FaultError], a part may have been written.
//
// The bytes are on stable storage after [View.Flush], or what the [FlushPolicy] says.
func (v *View) WriteAt(b []byte, off int64) (int, error) {
	n, err := v.store(b, off)
	if n > 0 {
		err = v.wrote(off, n)
	}
	return n, err
}

// store is WriteAt without the flush policy.
func (v *View) store(b []byte, off int64) (int, error) {
	if err := v.live("write"); err != nil {
		return 0, err
	}
	if err := checkRange(off, int64(len(b)), int64(len(v.data))); err != nil {
		return 0, v.file.fail("write", err)
	}
	if len(b) == 0 {
		return 0, nil
	}
	if !v.m.writable {
		return 0, v.file.fail("write", ErrReadOnly)
	}
	if err := v.file.mayWrite(); err != nil {
		return 0, err
	}
	_ = v.file.bringIn(v.m, v.at()+off, int64(len(b)))
	err := guardedCopy("write", v.data[off:], b)
	v.file.sawStore()
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// guardedCopy copies src to dst. A fault in memory of a mapped file is an error.
func guardedCopy(op string, dst, src []byte) error {
	return guard(op, func() error {
		copyLong(dst, src)
		return nil
	})
}

// Do calls do with the bytes of the View and returns its error. Should the memory of
// this or another View fault meanwhile, do ends there and Do returns a [*fs.PathError]
// with a [*FaultError] in it, which names the file and the offset.
//
// Only the goroutine that calls Do is guarded, not those that do starts. Locks that do
// holds when it ends are released by its deferred calls, or not at all.
func (v *View) Do(do func(b []byte) error) error {
	if err := v.live("access"); err != nil {
		return err
	}
	v.handOut()
	defer runtime.KeepAlive(v)
	return guard("access", func() error { return do(v.data) })
}

// Guard calls do and returns its error. Should the memory of a mapped file fault
// meanwhile, do ends there, and Guard returns a [*fs.PathError] with a [*FaultError] in
// it, which names the file and the offset. It is for code that works on several Views at
// once; [View.Do] is for one. Any other panic goes on as it would without Guard. Faults in
// memory of others, which would end the program at once without Guard, are panics.
//
// Only the goroutine that calls Guard is guarded, not those that do starts.
func Guard(do func() error) error { return guard("access", do) }

// Flush returns when all that was stored to the View before, by whomever, is on stable
// storage, with all that is needed to read it back. The error is a [*fs.PathError] with
// the errno of the kernel; see [File.Sync] for what it means. A View of a File that is
// opened for reading only has nothing to flush, nor has one of a private copy.
//
// On Linux a View that is [View.Writable] can be flushed after its File was closed;
// elsewhere that is [fs.ErrClosed].
func (v *View) Flush() error { return v.FlushRange(0, int64(v.Len())) }

// FlushRange is Flush for the n bytes that are off bytes behind the start of the View.
func (v *View) FlushRange(off, n int64) error {
	if err := v.live("flush"); err != nil {
		return err
	}
	if err := checkRange(off, n, int64(len(v.data))); err != nil {
		return v.file.fail("flush", err)
	}
	if n == 0 || v.file.mode == ReadOnly || v.m.private {
		return nil
	}
	if !v.m.writable { // O_APPEND, O_SYNC: what was stored, system calls have stored
		return v.file.Flush()
	}
	v.file.sawStore()
	return v.file.flushMapped(v.m, v.at()+off, n)
}
