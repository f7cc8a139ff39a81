package mmapio

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"
)

// flushing is what the flushes of one File have in common. They come one after the
// other, because the kernel tells of bytes that it could not write only once: a flush
// that finds nothing wrong may say so only when those before it have said what they
// found.
type flushing struct {
	mu     sync.Mutex
	asked  atomic.Int64 // calls of Flush so far
	done   int64        // so many of them are done; under mu
	failed atomic.Pointer[fs.PathError]
}

// failure returns the error of the flush that has failed, if one has.
func (s *flushing) failure() error {
	if err := s.failed.Load(); err != nil {
		return err
	}
	return nil
}

// Flush returns nil when all bytes that were written to this File before, through Write,
// WriteAt, ReadFrom, Views or atomic words, are on stable storage, with what is needed to
// read them back, such as the size of the file. It may leave out what [File.Sync] adds to
// that, such as times, and does not cut off what is preallocated. The name of a new file
// is a matter of its directory, as with Sync: see fsync(2). Calls at the same time share
// what they can.
//
// Behind this and all other flushes, the next few writes are system calls where that has the
// disk write less.
//
// The error is a [*fs.PathError] with the errno of the kernel. It stays: the kernel may
// have thrown away the bytes, so every later Flush of this File and of its Views returns
// it until the file is opened anew. Calls with an effect under a [FlushPolicy] do too.
// What has no stable storage, such as a pipe, is an error as it is for Sync. A private
// copy has nothing to flush.
//
//   - Linux: fdatasync, which covers what others have written to the file too.
//   - macOS: F_FULLFSYNC, as [os.File.Sync].
//   - Windows: FlushViewOfFile for what is mapped, then FlushFileBuffers. A File that is
//     opened for reading only cannot be flushed.
//   - Elsewhere: msync for what is mapped, then fsync, as [os.File.Sync].
func (f *File) Flush() error {
	if _, err := f.inner(); err != nil {
		return err
	}
	if f.private != nil {
		return f.openOr("flush", nil)
	}
	mine := f.flushing.asked.Add(1)
	return f.flushUnless(func() bool { return f.flushing.done >= mine })
}

// flushUnless flushes unless needless, which is asked when the flushes before are done,
// says that these have done it. It is where all of the file is flushed.
func (f *File) flushUnless(needless func() bool) error {
	s := &f.flushing
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failure(); err != nil {
		return err
	}
	if needless() {
		return nil
	}
	return f.flushLocked()
}

// flushLocked is for those who hold flushing.mu.
func (f *File) flushLocked() error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	covers := f.coverage()
	err = f.writeBack(true)
	if err == nil {
		err = sys.datasync(file)
	}
	f.stampAtFlush() // behind the flush, which need not wait for it
	if err != nil {
		return f.flushFailed(f.fail("flush", innerError(err)))
	}
	counts.flushes.Add(1)
	f.flushed(covers)
	f.preferCalls()
	return nil
}

// callsAfterFlush is how many writes after a flush are system calls, where a store is possible.
//
// The first store to a page that is clean is a fault, and it makes the kernel write out all of a
// large folio, where a system call makes it write out a page or two. So stores are only worth
// it where a flush comes after many writes. With ext4 of Linux 6.18 and a file that had been
// written in pieces of 1 MiB, writing at one place and flushing took 0.42 ms by a store and
// 0.13 ms by a system call, and at 16 places 4.6 and 0.4 ms. Where stores would have been
// faster, because all of them go to one small page, so many system calls take 20 µs.
const callsAfterFlush = 16

// preferCalls makes the next writes to the File system calls, as long as somebody flushes after
// each few of them.
func (f *File) preferCalls() {
	m := f.mapping.Load()
	if m == nil || !m.writable || m.private || !m.coherent || m.sparing || m.known.pageSize > uint64(pageSize) || f.tail != nil {
		// Where the two do not see the same bytes they must not be mixed. tmpfs has no disk,
		// hugetlbfs no write, and behind a tail only stores are cheap.
		return
	}
	m.direct.Store(false) // first, or it would stay so
	m.byCall.Store(callsAfterFlush)
}

// wroteByCall must be called after a system call has written to a file that is mapped.
func (f *File) wroteByCall(m *mapping) {
	if m.byCall.Load() > 0 && m.byCall.Add(-1) == 0 {
		m.direct.Store(f.storesDirectly(m))
	}
}

// storesDirectly reports whether writes may be stored to the mapping without more.
func (f *File) storesDirectly(m *mapping) bool {
	return m.writable && !m.private && f.flusher == nil // or else a store is to be counted
}

// storesTo reports whether writes may be stored to the mapping now, counted where need be.
func (f *File) storesTo(m *mapping) bool {
	return m.writable && m.byCall.Load() <= 0 && (f.flusher == nil || f.flusher.policy.on&onWrite == 0)
}

// coverage is what a flush that begins now covers.
type coverage struct {
	asked, bytes, writes int64
}

func (f *File) coverage() coverage {
	c := coverage{asked: f.flushing.asked.Load()}
	if p := f.flusher; p != nil {
		c.writes = p.writes.Load() // first: what is counted meanwhile is still owed, see count
		c.bytes = p.bytes.Load()
	}
	return c
}

// flushed notes that all of the file was flushed. The caller holds flushing.mu.
func (f *File) flushed(c coverage) {
	f.flushing.done = c.asked
	if f.flusher != nil {
		f.flusher.flushed(c.bytes, c.writes)
	}
}

// flushFailed notes the error of a flush, for those to come, and returns it. The caller
// holds flushing.mu.
func (f *File) flushFailed(err error) error {
	failed, ok := errors.AsType[*fs.PathError](err)
	if !errors.Is(err, fs.ErrClosed) {
		counts.flushFailures.Add(1)
	}
	if ok && !errors.Is(err, fs.ErrClosed) {
		f.flushing.failed.Store(failed)
	}
	return err
}

// FlushRange is [File.Flush] for the n bytes at off, as far as there are that many. Where
// they are mapped it costs no more than writing those pages; elsewhere the whole file is
// flushed. A negative range, and one that ends beyond what an int64 can count, is a
// [*RangeError] in a [*fs.PathError].
func (f *File) FlushRange(off, n int64) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	if off < 0 || n < 0 || n > math.MaxInt64-off {
		return f.fail("flush", &RangeError{Offset: off, Length: n, Size: f.lastSize()})
	}
	if f.private != nil {
		return f.openOr("flush", nil)
	}
	if m := f.mapping.Load(); m != nil && m.writable {
		end := off + n
		if end > m.extent.Load() {
			size, err := f.sizeToMap(file)
			if err != nil {
				return f.fail("flush", err)
			}
			end = min(end, size)
		}
		if end <= m.extent.Load() && m.pin() {
			defer m.unpin()
			return f.flushMapped(m, off, max(end-off, 0))
		}
	}
	return f.Flush()
}

// lastSize returns the size of the file as far as it can be found out.
func (f *File) lastSize() int64 {
	size, _ := f.Size()
	return size
}

// flushMapped makes the n bytes at at of a mapping durable, which is pinned.
func (f *File) flushMapped(m *mapping, at, n int64) error {
	s := &f.flushing
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failure(); err != nil || n == 0 {
		return err
	}
	from := at &^ int64(pageSize-1)
	err := sys.writeBack(m.address()+uintptr(from), uintptr(at+n-from), true)
	runtime.KeepAlive(m)
	if err == nil && !syncCoversMappings {
		var file *os.File
		if file, err = f.inner(); err == nil {
			err = sys.datasync(file)
		}
	}
	f.stampAtFlush()
	if err != nil {
		return f.flushFailed(f.fail("flush", innerError(err)))
	}
	counts.flushes.Add(1)
	f.preferCalls()
	return nil
}

// FlushAsync has the kernel begin to write out what was written before, and does not wait
// for it. Nothing is promised, not even that errors are told: see [File.Flush]. The error
// is a [*fs.PathError], that of an earlier flush if one has failed.
//
//   - Linux: sync_file_range, which is an error for a pipe.
//   - macOS, FreeBSD, DragonFly: msync with MS_ASYNC for what is mapped. Windows:
//     FlushViewOfFile for what is mapped. What system calls have written the kernel begins
//     to write when it sees fit, here and on all other systems.
func (f *File) FlushAsync() error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	if f.private != nil {
		return f.openOr("flush", nil)
	}
	if err := f.flushing.failure(); err != nil {
		return err
	}
	err = f.writeBack(false)
	if err == nil {
		err = sys.startFlush(file)
	}
	if err != nil {
		return f.fail("flush", innerError(err))
	}
	return nil
}

// writeBack hands what was stored to memory of the File, also that of Views, to the
// kernel, where flushing the file does not include that.
func (f *File) writeBack(wait bool) error {
	if syncCoversMappings {
		return nil
	}
	for _, e := range entriesOf(weak.Make(f)) {
		err := sys.writeBack(e.address, uintptr(e.length), wait)
		e.unpin()
		if err != nil && !e.going.Load() {
			return err
		}
	}
	return nil
}

// Sync commits the content of the file to stable storage, as [os.File.Sync]
// does. That covers what was stored through the mapping.
func (f *File) Sync() error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	if f.private != nil {
		return f.openOr("sync", nil)
	}
	f.stamp()
	if err := f.trim(); err != nil { // not under flushing.mu: it may wait for those who pin memory
		return f.named(err)
	}
	s := &f.flushing
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := f.mayWrite(); err != nil {
		return err
	}
	covers := f.coverage()
	f.stamp()
	if err := f.writeBack(true); err != nil {
		return f.flushFailed(f.fail("sync", err))
	}
	if err := sys.sync(file); err != nil {
		return f.flushFailed(f.named(err))
	}
	counts.flushes.Add(1)
	f.flushed(covers)
	f.preferCalls()
	return nil
}
