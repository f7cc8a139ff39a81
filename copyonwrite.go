package mmapio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
)

// WithCopyOnWrite makes the File a private copy of the file that can be written to. Reads
// see the file until a page is written to; what is written, by whatever method, by Views,
// atomic words and chunks, changes this File only. The file itself stays as it is,
// whatever is flushed and closed, until [File.Commit]. Only pages that are written to take
// up memory. The Mode of such a File is [CopyOnWrite].
//
// [os.O_RDONLY] is enough to open it: the File can be written to all the same. With
// [os.O_RDWR] there is Commit, too.
//
// Its size is that of the file when it was opened, and stays that: writing past the end is
// an error that changes nothing, and Truncate is an error. Size, Stat and Seek from the
// end go by it whatever others do to the file. What they write to pages that were not
// written to here may be seen, or not. When they cut the file, what was behind the new end
// is gone here too, the changes made to whole pages there included: reading and writing it
// is a [*FaultError]. When they make it longer, that is not seen. Windows does not cut the
// file meanwhile.
//
// The position belongs to this File alone. The descriptor that [File.Fd], [File.OSFile]
// and [File.SyscallConn] hand out, and [File.Detach], is that of the file, without the
// changes. Flush and Sync succeed and do nothing; Commit is what makes changes durable.
//
// Only regular files can be opened so. The memory is mapped at once, and if it cannot be,
// that is an error of the constructor. Network and FUSE file systems are mapped
// as well, and it is for them to say when changes by others are seen. It is an error
// together with [os.O_WRONLY], [os.O_TRUNC], [os.O_APPEND], [WithSize], [WithPreallocate],
// [MapNever] and a flush policy other than [Manual].
//
//   - Linux: everything above.
//   - macOS, the BSDs, Solaris, illumos, AIX: the same, but Commit compares all pages that
//     a View could have changed with the file.
//   - Windows: as there, and memory of changed pages is not given back before Close.
//   - Plan 9, js, wasip1: [errors.ErrUnsupported] from the constructor.
func WithCopyOnWrite() Option {
	return func(c *config) error {
		c.copyOnWrite = true
		return nil
	}
}

var (
	errPrivateWriteOnly   = errors.New("WithCopyOnWrite needs a file that is opened for reading: open with O_RDONLY, or with O_RDWR to commit")
	errPrivateTrunc       = errors.New("WithCopyOnWrite and O_TRUNC exclude each other: the file would be changed; open without O_TRUNC")
	errPrivateAppend      = errors.New("WithCopyOnWrite and O_APPEND exclude each other: the size is fixed; open without O_APPEND")
	errPrivateFlags       = errors.New("WithCopyOnWrite needs a file that can be mapped: open without O_DIRECT and O_PATH")
	errPrivateSize        = errors.New("WithCopyOnWrite and WithSize exclude each other: set the size of the file before")
	errPrivatePreallocate = errors.New("WithCopyOnWrite and WithPreallocate exclude each other: the size is fixed; leave WithPreallocate out")
	errPrivateUnmapped    = errors.New("WithCopyOnWrite and MapNever exclude each other: the changes are in mapped memory; leave WithMapping out")
	errPrivatePolicy      = errors.New("WithCopyOnWrite and a flush policy exclude each other: nothing is in the file before Commit; leave WithFlushPolicy out")
	errPrivateIrregular   = errors.New("WithCopyOnWrite is for regular files only")

	errPrivateGrowth   = errors.New("copy-on-write files do not grow")
	errPrivateTruncate = errors.New("copy-on-write files keep their size")
	errPrivateBytes    = fmt.Errorf("the descriptor has not the bytes of a copy-on-write file: %w", errors.ErrUnsupported)
	errNotPrivate      = errors.New("the file is not copy-on-write: open it with WithCopyOnWrite")
	errNegativeOffset  = errors.New("negative offset")
	errBadMemory       = errors.New("bad address: memory of the caller cannot be accessed")
)

// commitReadOnlyError says that changes cannot be written back.
type commitReadOnlyError struct{}

func (commitReadOnlyError) Error() string {
	return "the file was opened for reading only: open it with O_RDWR to commit"
}

func (commitReadOnlyError) Is(target error) bool { return target == fs.ErrPermission }

// checkPrivate returns what is wrong with WithCopyOnWrite beside the other options and flag.
func (c *config) checkPrivate(flag int) error {
	switch {
	case !supportsMapping:
		return errNoMappings
	case modeOf(flag) == WriteOnly:
		return errPrivateWriteOnly
	case flag&os.O_TRUNC != 0:
		return errPrivateTrunc
	case flag&os.O_APPEND != 0:
		return errPrivateAppend
	case flag&unmappableFlags != 0:
		return errPrivateFlags
	case c.size != 0:
		return errPrivateSize
	case c.preallocate != 0:
		return errPrivatePreallocate
	case c.mapping == MapNever:
		return errPrivateUnmapped
	case c.policy != Manual():
		return errPrivatePolicy
	}
	return nil
}

// copyOnWrite is the part of a File that is a private copy. Here the mapping is the truth,
// not a cache: it is made when the file is opened and kept until the File is closed.
type copyOnWrite struct {
	size int64 // of the File, for good

	// mu is held to read by who stores, and opens Views; to write by who gives pages back.
	mu       sync.RWMutex
	changed  residency // pages that may differ from the file: set before the store
	coherent bool      // the mapping shows at once what system calls write
	unsure   bool      // a Commit has failed: what the file reads as need not be on the disk
}

// makePrivate maps the file for a copy-on-write File. Its position begins where that of a
// file is that others have opened.
func (f *File) makePrivate(file *os.File, adopted bool) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return f.fail("open", errPrivateIrregular)
	}
	off := int64(0)
	if adopted {
		if off, err = file.Seek(0, io.SeekCurrent); err != nil {
			return err
		}
	}
	size := info.Size()
	f.mode = CopyOnWrite
	f.private = &copyOnWrite{size: size}
	f.offset.Store(off)
	f.cache.regular.Store(true)
	f.cache.refused.Store(true) // nothing else is ever mapped
	if size == 0 {
		return nil
	}
	registry.budgetOnce.Do(setBudget)
	reclaimSpent()
	m, err := f.mapPrivate(file, info)
	if err != nil && outOfAddresses(err) {
		relieve()
		reclaim()
		m, err = f.mapPrivate(file, info)
	}
	if err != nil {
		return f.fail("open", innerError(err))
	}
	f.private.changed = newResidency(int64(len(m.data)), int(m.known.pageSize))
	keep(m, &f.mapping)
	f.settle(m, m.mapped())
	return f.giveAdvice()
}

func (f *File) mapPrivate(file *os.File, info fs.FileInfo) (m *mapping, err error) {
	controlErr := control(file, func(fd uintptr) {
		trust := trustIn(fd, info, modeOf(f.flag))
		size := info.Size()
		length := alignUp(size, max(trust.hugePage, int64(pageSize)))
		if length < size || int64(int(length)) != length {
			err = errTooLarge
			return
		}
		if m, err = newMapping(fd, f.Name(), 0, length, size, private); err != nil {
			return
		}
		m.relyOn(trust)
		f.private.coherent = trust.mappings
	})
	if controlErr != nil {
		return nil, controlErr
	}
	return m, err
}

// privateMapping returns the mapping, pinned, or nil for an empty file. The caller unpins it.
func (f *File) privateMapping(op string) (*mapping, error) {
	m := f.mapping.Load()
	if m != nil && m.pin() {
		return m, nil
	}
	if f.cache.closed.Load() {
		return nil, f.fail(op, fs.ErrClosed)
	}
	return nil, nil
}

// openOr returns err, or that the File is closed.
func (f *File) openOr(op string, err error) error {
	if f.cache.closed.Load() {
		return f.fail(op, fs.ErrClosed)
	}
	return err
}

// mayMove returns an error if somebody who wants to move bytes from or to the descriptor
// would not move those of the File.
func (f *File) mayMove(op string) error {
	if f.private == nil {
		return nil
	}
	return f.fail(op, errPrivateBytes)
}

// privateInfo is what Stat returns when the file is not as long as the File any more.
type privateInfo struct {
	fs.FileInfo
	size int64
}

func (i privateInfo) Size() int64 { return i.size }

// statPrivate is Stat of a copy-on-write File.
func (f *File) statPrivate(file *os.File) (fs.FileInfo, error) {
	if err := f.openOr("stat", nil); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Size() != f.private.size {
		info = privateInfo{info, f.private.size}
	}
	return info, err
}

// seekPrivate is Seek of a copy-on-write File.
func (f *File) seekPrivate(file *os.File, offset int64, whence int) (int64, error) {
	old, _ := f.claim(file)
	target := offset
	switch whence {
	case io.SeekCurrent:
		target += old // an overflow is negative
	case io.SeekEnd:
		target += f.private.size
	}
	err := error(nil)
	switch {
	case f.cache.closed.Load():
		err = fs.ErrClosed
	case target < 0 || whence < io.SeekStart || whence > io.SeekEnd:
		err = syscall.EINVAL
	}
	if err != nil {
		f.release(old)
		return 0, f.fail("seek", err)
	}
	f.release(target)
	return target, nil
}

// readPrivate is the true path of Read.
func (f *File) readPrivate(file *os.File, b []byte) (int, error) {
	off, _ := f.claim(file)
	n, err := 0, error(nil)
	if len(b) == 0 && f.cache.closed.Load() {
		err = f.fail("read", fs.ErrClosed)
	} else if n, err = f.readAtPrivate(file, b, off); n > 0 && err == io.EOF {
		err = nil
	}
	f.release(off + int64(n))
	return n, err
}

// readAtPrivate is the true path of ReadAt. Changed pages come from memory, all others from
// the descriptor.
func (f *File) readAtPrivate(file *os.File, b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, f.fail("readat", errNegativeOffset)
	}
	if len(b) == 0 {
		return 0, nil
	}
	m, err := f.privateMapping("read")
	if err != nil {
		return 0, err
	}
	if m != nil {
		defer m.unpin()
	}
	left := f.private.size - off
	if left <= 0 {
		return 0, io.EOF
	}
	if left < int64(len(b)) {
		b = b[:left]
		defer func() {
			if err == nil {
				err = io.EOF
			}
		}()
	}
	for n < len(b) {
		at := off + int64(n)
		run, changed := f.private.changed.run(uint64(at), uint64(len(b)-n))
		piece := b[n : n+int(run)]
		if changed {
			if !m.known.has(uint64(at), run) {
				_ = bringChangedIn(m, at, int64(run)) // what is wrong shows in the copy
			}
			if err := f.copyPrivate("read", piece, m.data[at:]); err != nil {
				return n, err
			}
			m.known.learn(uint64(at), run)
			n += len(piece)
			continue
		}
		got, err := file.ReadAt(piece, at)
		if got > 0 {
			m.sawRead(at, got)
		}
		n += got
		if err == io.EOF {
			err = f.faultError("read", at+int64(got)) // somebody has cut the file
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// bringChangedIn brings n bytes at at, which may be memory that is nowhere else, in by a
// system call, where there is one.
func bringChangedIn(m *mapping, at, n int64) error {
	if !populates {
		return nil
	}
	from := at &^ int64(pageSize-1)
	return sys.populateRead(m.address()+uintptr(from), uintptr(at+n-from))
}

// copyPrivate copies between memory of a pinned mapping and other memory. The error is that
// of a fault, on whichever side.
func (f *File) copyPrivate(op string, dst, src []byte) (err error) {
	returned := false
	panicOnFault := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(panicOnFault)
		if returned {
			return
		}
		recovered := recover()
		address, isFault := faultAddress(recovered)
		if !isFault {
			panic(recovered)
		}
		counts.faults.Add(1)
		if e := entryOf(address); e != nil {
			err = e.fault(op, address)
		} else {
			err = f.fail(op, errBadMemory)
		}
	}()
	copyLong(dst, src)
	returned = true
	return nil
}

// writePrivate is Write.
func (f *File) writePrivate(file *os.File, b []byte) (int, error) {
	off, _ := f.claim(file)
	n, err := f.storePrivate(b, off)
	f.release(off + int64(n))
	return n, err
}

// writeAtPrivate is WriteAt.
func (f *File) writeAtPrivate(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.fail("writeat", errNegativeOffset)
	}
	if len(b) == 0 {
		return 0, nil
	}
	return f.storePrivate(b, off)
}

// storePrivate copies b to off in private memory: all of it, or nothing.
func (f *File) storePrivate(b []byte, off int64) (int, error) {
	p := f.private
	p.mu.RLock()
	defer p.mu.RUnlock()
	m, err := f.privateMapping("write")
	if err != nil {
		return 0, err
	}
	if m != nil {
		defer m.unpin()
	}
	if len(b) == 0 {
		return 0, nil
	}
	if err := checkRange(off, int64(len(b)), p.size); err != nil {
		return 0, f.fail("write", fmt.Errorf("%w: %w", errPrivateGrowth, err))
	}
	if !m.known.has(uint64(off), uint64(len(b))) {
		f.bringInToStore(m, off, int64(len(b)))
	}
	p.changed.learn(uint64(off), uint64(len(b))) // first: see readAtPrivate
	if err := f.copyPrivate("write", m.data[off:], b); err != nil {
		return 0, err
	}
	m.known.learn(uint64(off), uint64(len(b)))
	return len(b), nil
}

// bringInToStore gives the File pages of its own before they are stored to. What goes wrong
// shows in the store.
func (f *File) bringInToStore(m *mapping, at, n int64) {
	from := at &^ int64(pageSize-1)
	if err := sys.populateWrite(m.address()+uintptr(from), uintptr(at+n-from)); err != nil {
		_ = f.bringIn(m, at, n)
	}
}

// readFromPrivate is ReadFrom.
func (f *File) readFromPrivate(r io.Reader) (total int64, err error) {
	if f.cache.closed.Load() {
		return 0, f.fail("write", fs.ErrClosed)
	}
	b := make([]byte, copyBuffer)
	for {
		n, readErr := r.Read(b)
		if n < 0 || n > len(b) {
			return total, errInvalidRead
		}
		if n > 0 {
			written, err := f.writeUpToEnd(b[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		if readErr == io.EOF {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
	}
}

// copyBuffer is how much a copy from or to a Reader or Writer moves at once.
const copyBuffer = 32 << 10

var errInvalidRead = errors.New("invalid read result")

// writeUpToEnd writes what there is room for at the position.
func (f *File) writeUpToEnd(b []byte) (n int, err error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	off, _ := f.claim(file)
	fits := b[:max(0, min(int64(len(b)), f.private.size-off))]
	if len(fits) > 0 {
		n, err = f.storePrivate(fits, off)
	}
	if err == nil && n < len(b) {
		_, err = f.storePrivate(b[n:], off+int64(n)) // the error of writing past the end
	}
	f.release(off + int64(n))
	return n, err
}

// writeToPrivate is WriteTo.
func (f *File) writeToPrivate(w io.Writer) (int64, error) { return io.Copy(w, onlyReader{f}) }

// onlyReader hides what else a File can do: bytes of a copy-on-write File must not be moved
// by the kernel.
type onlyReader struct{ io.Reader }

// openPrivate makes v a View of a copy-on-write File. If it is to be stored to, its pages
// count as changed from now on.
func (v *View) openPrivate(f *File, off, n int64, toStore bool) error {
	p := f.private
	p.mu.RLock()
	defer p.mu.RUnlock()
	err := f.mappable()
	if err == nil {
		err = checkRange(off, n, p.size)
	}
	if err != nil {
		return f.fail("view", err)
	}
	if n == 0 {
		v.data, v.off, v.file = []byte{}, off, f
		return nil
	}
	m := f.mapping.Load()
	if m == nil || !m.pinView() {
		return f.fail("view", fs.ErrClosed)
	}
	if toStore {
		p.changed.learn(uint64(off), uint64(n))
	}
	v.show(f, m, off, n)
	return nil
}

// Discard gives up what was changed in the n bytes at off of a copy-on-write File, which
// shows those of the file again, also in Views. The memory of whole pages is given back;
// of a page that is only in part inside the range, the other bytes keep their changes, so
// that it stays a page of its own. Stores to Views that are made at the same time may or
// may not be undone; writes wait.
//
// The error is a [*fs.PathError] with a [*RangeError] in it when the range is not inside
// the File, a [*FaultError] when others have cut the file, that of reading the file, or
// [fs.ErrClosed]. After an error, a part may have been discarded. On a File that is not
// copy-on-write it is an error.
func (f *File) Discard(off, n int64) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	p := f.private
	if p == nil {
		return f.fail("discard", errNotPrivate)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := f.privateMapping("discard")
	if err != nil {
		return err
	}
	if m != nil {
		defer m.unpin()
	}
	if err := checkRange(off, n, p.size); err != nil {
		return f.fail("discard", err)
	}
	if n == 0 {
		return nil
	}
	page := int64(m.known.pageSize)
	from, to := alignUp(off, page), (off+n)&^(page-1)
	if off+n == p.size {
		to = alignUp(p.size, page) // what is behind the end of the file counts for nothing
	}
	if from >= to {
		return f.restore(file, m, off, off+n)
	}
	if !f.giveBackPages(file, m, from, to) {
		if err := f.restore(file, m, from, min(to, p.size)); err != nil {
			return err
		}
	}
	if off < from {
		if err := f.restore(file, m, off, from); err != nil {
			return err
		}
	}
	if to < off+n {
		return f.restore(file, m, to, off+n)
	}
	return nil
}

// giveBackPages makes whole pages those of the file again. It reports false, and has done
// nothing, where that cannot be done. The caller holds mu and a pin.
func (f *File) giveBackPages(file *os.File, m *mapping, from, to int64) bool {
	err := errors.ErrUnsupported
	controlErr := control(file, func(fd uintptr) {
		err = sys.discard(fd, from, m.address()+uintptr(from), uintptr(to-from))
	})
	if controlErr != nil || err != nil {
		return false
	}
	m.known.forgetRange(uint64(from), uint64(to-from))
	if !m.isViewed() {
		f.private.changed.forgetRange(uint64(from), uint64(to-from))
	}
	return true
}

// makeOwn calls do, which may make pages of s the File's own although nothing is stored to
// them, if it is a private copy: they count as changed then.
func (f *File) makeOwn(m *mapping, s span, itMay bool, do func() error) error {
	p := f.private
	if p == nil || !itMay {
		return do()
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if s = m.existing(s); !s.empty() {
		p.changed.learn(uint64(s.from), uint64(s.to-s.from))
	}
	return do()
}

// isViewed reports whether there are Views of a private mapping.
func (m *mapping) isViewed() bool { return m.entry.views.Load() > 0 }

// restore copies bytes of the file over those from off to end that may have been changed.
func (f *File) restore(file *os.File, m *mapping, off, end int64) error {
	scratch := make([]byte, min(end-off, copyBuffer))
	for off < end {
		run, changed := f.private.changed.run(uint64(off), uint64(min(end-off, copyBuffer)))
		if changed {
			n, err := file.ReadAt(scratch[:run], off)
			if err == io.EOF {
				err = f.faultError("discard", off+int64(n))
			}
			if err != nil {
				return err
			}
			if err := f.copyPrivate("discard", m.data[off:], scratch[:n]); err != nil {
				return err
			}
		}
		off += int64(run)
	}
	return nil
}

// commitPiece is how much Commit compares and writes at once.
const commitPiece = 256 << 10

// Commit writes the changed pages of a copy-on-write File back to the file, whole ones, and
// then syncs it: when it returns nil, all that was written to this File before, by Views
// too, is in the file and on stable storage, and other Files and processes see it. Pages
// that are as they are in the file are not written. Memory is given back as by
// [File.Discard], unless there are Views.
//
// It is not atomic: others see one page after the other change, and a crash may leave some
// of them written. Writes to this File wait until it is done; stores to Views that are made
// meanwhile may or may not be in it. Where others have changed a page that was changed here
// too, theirs is overwritten.
//
// After an error, some pages may have been written to the file; this File is as before, and
// Commit can be repeated. It then writes all changed pages again, because nobody knows what
// of them has reached the disk. The error is a [*fs.PathError] with the errno of the system in
// it, with a [*FaultError] when others have cut the file, a [fs.ErrPermission] when it was
// opened for reading only, or [fs.ErrClosed]. On a File that is not copy-on-write it is an
// error.
func (f *File) Commit() error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	p := f.private
	if p == nil {
		return f.fail("commit", errNotPrivate)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := f.privateMapping("commit")
	if err != nil {
		return err
	}
	if m != nil {
		defer m.unpin()
	}
	if modeOf(f.flag) != ReadWrite {
		return f.fail("commit", commitReadOnlyError{})
	}
	info, err := file.Stat()
	if err != nil {
		return f.fail("commit", innerError(err))
	}
	if info.Size() < p.size {
		return f.faultError("commit", info.Size())
	}
	force := p.unsure
	p.unsure = true
	var buffers [2][]byte
	for off := int64(0); off < p.size; {
		run, changed := p.changed.run(uint64(off), uint64(min(neighbourhood, p.size-off)))
		end := off + int64(run)
		if changed {
			if buffers[0] == nil {
				buffers = [2][]byte{make([]byte, commitPiece), make([]byte, commitPiece)}
			}
			if err := f.commitRun(file, m, off, end, force, buffers); err != nil {
				return err
			}
		}
		off = end
	}
	if err := sys.sync(file); err != nil {
		return f.fail("commit", innerError(err))
	}
	p.unsure = false
	if p.coherent && m != nil && !m.isViewed() {
		f.giveBackChanged(file, m)
	}
	return nil
}

// commitRun writes what differs from off, the start of a page, to end.
func (f *File) commitRun(file *os.File, m *mapping, off, end int64, force bool, buffers [2][]byte) (err error) {
	sys.privatePages(m.address()+uintptr(off), uintptr(end-off), func(at, n uintptr) {
		from := off + int64(at)
		to := min(from+int64(n), end)
		for from < to && err == nil {
			next := min(from+commitPiece, to)
			err = f.commitPages(file, m, from, next, force, buffers)
			from = next
		}
	})
	return err
}

// commitPages writes what differs from off to end, at most a commitPiece.
func (f *File) commitPages(file *os.File, m *mapping, off, end int64, force bool, buffers [2][]byte) error {
	mine, theirs := buffers[0][:end-off], buffers[1][:end-off]
	if err := f.copyPrivate("commit", mine, m.data[off:]); err != nil {
		return err
	}
	if !force {
		n, err := file.ReadAt(theirs, off)
		if err != nil && err != io.EOF {
			return f.fail("commit", innerError(err))
		}
		theirs = theirs[:n]
	} else {
		theirs = nil
	}
	page := int64(pageSize)
	same := func(at int64) bool {
		to := min(at+page, int64(len(mine)))
		return to <= int64(len(theirs)) && bytes.Equal(mine[at:to], theirs[at:to])
	}
	for at := int64(0); at < int64(len(mine)); {
		if same(at) {
			at += page
			continue
		}
		from := at
		for at < int64(len(mine)) && !same(at) {
			at += page
		}
		at = min(at, int64(len(mine)))
		_, err := sys.writeAt(file, mine[from:at], off+from)
		if err != nil && errors.Is(err, syscall.EINVAL) && f.hugePage(file) > 0 {
			err = f.commitHuge(file, mine[from:at], off+from)
		}
		if err != nil {
			return f.fail("commit", innerError(err))
		}
	}
	return nil
}

// commitHuge writes b at off to a file whose file system has no write: see writeHuge.
func (f *File) commitHuge(file *os.File, b []byte, off int64) error {
	unit := f.hugePage(file)
	from := off &^ (unit - 1)
	length := alignUp(off+int64(len(b))-from, unit)
	var m *mapping
	var err error
	controlErr := control(file, func(fd uintptr) { m, err = newMapping(fd, f.Name(), from, length, length, toStore) })
	if controlErr != nil || err != nil {
		return errors.Join(controlErr, err)
	}
	defer m.retire()
	return f.copyPrivate("commit", m.data[off-from:], b)
}

// giveBackChanged gives changed pages back that the file has now. The caller holds mu and a
// pin.
func (f *File) giveBackChanged(file *os.File, m *mapping) {
	length := int64(len(m.data))
	for off := int64(0); off < length; {
		run, changed := f.private.changed.run(uint64(off), uint64(length-off))
		if changed && !f.giveBackPages(file, m, off, off+int64(run)) {
			return
		}
		off += int64(run)
	}
}

// run returns how many of the n > 0 bytes at off, from there on, are in pages that are all
// known or all unknown, and which.
func (r *residency) run(off, n uint64) (length uint64, known bool) {
	known = r.has(off, 1)
	next := (off>>granuleShift + 1) << granuleShift
	for next < off+n && r.has(next, 1) == known {
		next += 1 << granuleShift
	}
	return min(next, off+n) - off, known
}
