package mmapio

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FlushPolicy says when a [File] flushes by itself what was written to it. The zero
// value is [Manual]. Policies can be compared with ==, and combined with
// [FlushPolicy.Or].
//
// An automatic flush promises what [File.Flush] does. If one fails, its error, a
// [*fs.PathError], is returned by the call that made it or, when it was made in the
// background, by the next Write, WriteAt, ReadFrom, Flush, FlushRange, Sync or Close. It
// stays: the kernel may have thrown away what it could not write, so that nothing is
// written any more, and all these calls return the error, until the file is opened anew.
//
// A policy counts the bytes that Write, WriteString, WriteAt, ReadFrom, [View.WriteAt]
// and [File.UpdateChunks] have written, and one write for each call; UpdateChunks counts
// one for each stretch of the file, of up to 2 MiB or a chunk. Truncate, where it
// succeeds, is a write of no bytes. A View whose memory has been handed out by Bytes, Do
// or as atomic words, and can be stored to, counts as a write of its length when it is
// released. What others write to the file, in this process or another, is not counted.
//
// What has no stable storage has nothing to flush: on pipes, sockets, terminals and
// directories, and on a File that is opened for reading only, every policy is accepted
// and nothing is ever flushed by it. With [WithCopyOnWrite] it is an error.
type FlushPolicy struct {
	on       trigger
	bytes    int64
	writes   int64
	interval time.Duration
}

// trigger is what makes a policy flush.
type trigger uint8

const (
	onWrite trigger = 1 << iota
	onBytes
	onWrites
	onTime
)

// Manual returns the policy that never flushes by itself: what is written is on stable
// storage after [File.Flush] or [File.Sync]. It costs nothing, and is the default.
func Manual() FlushPolicy { return FlushPolicy{} }

// Always returns the policy that flushes after every write: when a call that writes
// returns nil, its bytes are on stable storage. Goroutines that write at the same time
// share flushes. Writes are system calls.
func Always() FlushPolicy { return FlushPolicy{on: onWrite} }

// EveryBytes returns the policy that flushes when n bytes have been written since the
// last flush: when a call that writes returns nil, less than n bytes are not on stable
// storage yet. ReadFrom flushes in between as well. N must be positive.
func EveryBytes(n int64) FlushPolicy { return FlushPolicy{on: onBytes, bytes: n} }

// EveryWrites returns the policy that flushes after every n writes since the last flush.
// The n-th returns when that is done. N must be positive.
func EveryWrites(n int64) FlushPolicy { return FlushPolicy{on: onWrites, writes: n} }

// Every returns the policy that flushes in the background: bytes are on their way to
// stable storage at most d after they were written, and there as soon as the disk is
// done. While memory of a writable View is handed out, or ReadFrom is at work, it flushes
// each d. One timer serves all files of the process, and there is none while nothing is
// to be flushed. D must be positive.
func Every(d time.Duration) FlushPolicy { return FlushPolicy{on: onTime, interval: d} }

// Or returns the policy that flushes when p or q would, whichever comes first.
func (p FlushPolicy) Or(q FlushPolicy) FlushPolicy {
	return FlushPolicy{
		on:       p.on | q.on,
		bytes:    smaller(p.bytes, q.bytes, p.on&q.on&onBytes != 0),
		writes:   smaller(p.writes, q.writes, p.on&q.on&onWrites != 0),
		interval: smaller(p.interval, q.interval, p.on&q.on&onTime != 0),
	}
}

// smaller returns the smaller of two numbers, or if only one is set, the other being
// zero, that one.
func smaller[T int64 | time.Duration](a, b T, both bool) T {
	if both {
		return min(a, b)
	}
	return a + b
}

// String returns the policy in words, such as "every 4096 bytes or every 1s".
func (p FlushPolicy) String() string {
	var parts []string
	if p.on&onWrite != 0 {
		parts = append(parts, "always")
	}
	if p.on&onBytes != 0 {
		parts = append(parts, fmt.Sprintf("every %d bytes", p.bytes))
	}
	if p.on&onWrites != 0 {
		parts = append(parts, fmt.Sprintf("every %d writes", p.writes))
	}
	if p.on&onTime != 0 {
		parts = append(parts, fmt.Sprintf("every %v", p.interval))
	}
	if parts == nil {
		return "manual"
	}
	return strings.Join(parts, " or ")
}

// check returns what is wrong with the policy.
func (p FlushPolicy) check() error {
	if p.on&onBytes != 0 && p.bytes <= 0 || p.on&onWrites != 0 && p.writes <= 0 || p.on&onTime != 0 && p.interval <= 0 {
		return fmt.Errorf("flush policy %q: must be positive: %w", p, os.ErrInvalid)
	}
	return nil
}

// WithFlushPolicy sets when the file is flushed by itself; the default is [Manual]. A
// number or duration in the policy that is not positive is an error.
func WithFlushPolicy(policy FlushPolicy) Option {
	return func(c *config) error {
		if err := policy.check(); err != nil {
			return err
		}
		c.policy = policy
		return nil
	}
}

// FlushPolicy returns the policy that the File was opened with.
func (f *File) FlushPolicy() FlushPolicy {
	if f == nil || f.config == nil {
		return FlushPolicy{}
	}
	return f.config.policy
}

// Pending returns how many bytes have been written, as [FlushPolicy] counts them, and not
// been flushed yet. Under [Manual], where nothing is counted, it is 0. Zero means that
// all writes which returned before are on stable storage, except for stores to Views
// that are not released. FlushRange and [View.Flush] leave it as it is unless they flush
// everything.
func (f *File) Pending() int64 {
	if f == nil || f.flusher == nil {
		return 0
	}
	return f.flusher.pending()
}

// flusher carries out the policy of a File. Files that need none have none.
//
// Writes are counted after their bytes are stored, and what a flush covers is what is
// counted when it begins.
type flusher struct {
	policy FlushPolicy
	file   *File

	bytes, writes               atomic.Int64 // written so far
	flushedBytes, flushedWrites atomic.Int64 // of these, on stable storage; set under flushing.mu
	lent                        atomic.Int64 // Views whose memory is handed out, and calls of ReadFrom

	closed atomic.Bool // what is counted from now on is not flushed any more
	ending sync.Mutex
	ended  bool // Close has done its part; under ending

	timed appointment
}

// newFlusher returns what the policy of the File needs, or nil.
func (f *File) newFlusher(file *os.File) *flusher {
	if f.config.policy.on == 0 || f.mode == ReadOnly {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() && info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		return nil
	}
	return &flusher{policy: f.config.policy, file: f, timed: appointment{place: unplaced}}
}

// pending returns how many bytes are not flushed.
func (p *flusher) pending() int64 {
	flushed := p.flushedBytes.Load() // first, because it is never ahead
	return p.bytes.Load() - flushed
}

// owes reports whether a flush would be of use.
func (p *flusher) owes() bool {
	return p.writes.Load() != p.flushedWrites.Load() || p.lent.Load() > 0
}

// due reports whether the policy wants a flush now for the sake of that write.
func (p *flusher) due(write int64) bool {
	flushed := p.flushedWrites.Load()
	return p.policy.on&onWrite != 0 && flushed < write ||
		p.policy.on&onWrites != 0 && p.writes.Load()-flushed >= p.policy.writes ||
		p.policy.on&onBytes != 0 && p.pending() >= p.policy.bytes
}

// mayWrite returns the error of a flush that has failed, if the File has a policy.
func (f *File) mayWrite() error {
	if f.flusher == nil {
		return nil
	}
	return f.flushing.failure()
}

// wrote must be called when a call has written n bytes, or has met err. It returns the
// error for the caller.
func (f *File) wrote(n int64, err error) error {
	if f.flusher != nil && n > 0 {
		if flushErr := f.flusher.count(n); err == nil {
			return flushErr
		}
	}
	return err
}

// count counts a write and flushes if that is due.
func (p *flusher) count(n int64) error {
	p.bytes.Add(n)
	write := p.writes.Add(1)
	if p.closed.Load() {
		return p.file.fail("write", fs.ErrClosed) // Close may have flushed before this was written
	}
	if p.due(write) {
		return p.file.flushUnless(func() bool { return !p.due(write) })
	}
	p.arm()
	return nil
}

// lend notes that from now on bytes can be stored that are not counted yet.
func (p *flusher) lend() {
	p.lent.Add(1)
	p.arm()
}

// readFrom is ReadFrom, with flushes in between where bytes are counted.
func (p *flusher) readFrom(r io.Reader) (total int64, err error) {
	f := p.file
	if err := f.mayWrite(); err != nil {
		return 0, err
	}
	p.lend()
	defer p.lent.Add(-1)
	if p.policy.on&onBytes == 0 {
		n, err := f.readFromNow(r)
		return n, f.wrote(n, err)
	}
	for {
		piece := io.LimitedReader{R: r, N: p.policy.bytes}
		n, err := f.readFromNow(&piece)
		total += n
		if err := f.wrote(n, err); err != nil || piece.N > 0 {
			return total, err
		}
	}
}

// flushed notes what a flush has covered.
func (p *flusher) flushed(bytes, writes int64) {
	p.flushedBytes.Store(bytes)
	p.flushedWrites.Store(writes)
	if p.timed.made.Load() && !p.owes() {
		p.disarm()
	}
}

// endPolicy flushes what is owed, for the last time if the File is being closed.
func (f *File) endPolicy(closing bool) error {
	p := f.flusher
	if p == nil {
		return nil
	}
	p.ending.Lock()
	defer p.ending.Unlock()
	if p.ended {
		return nil
	}
	p.closed.Store(true)
	err := f.flushUnless(func() bool { return !p.owes() })
	if err != nil && !closing {
		p.closed.Store(false)
		return err
	}
	p.ended = true
	p.disarm()
	return err
}
