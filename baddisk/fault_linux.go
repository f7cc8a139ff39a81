package baddisk

import (
	"math"
	"syscall"
	"time"
)

// Op is a kind of request that the kernel makes.
type Op string

// The kinds of requests that can be made to fail.
const (
	Open      Op = "open"      // of a file that exists, or a new one
	Stat      Op = "stat"      // the attributes
	Read      Op = "read"      // by a system call, a page fault or readahead
	Write     Op = "write"     // by a system call that waits for it
	WriteBack Op = "writeback" // of pages that were stored to, or written, before
	Fsync     Op = "fsync"
	Allocate  Op = "allocate"
	Resize    Op = "resize"
	Flush     Op = "flush" // close(2)
	Seek      Op = "seek"  // for data and holes
)

// Fault is an order to misbehave.
type Fault struct {
	Op   Op
	Name string // of the file; empty for all

	// The fault hits requests for one of the Len bytes at Off; with Len 0, for a byte from
	// Off on. Requests that are not for bytes are always hit.
	Off, Len int64

	Errno syscall.Errno // what the request fails with, or 0
	Short bool          // a read yields only what comes before Off
	Delay time.Duration // the request is carried out, or fails, so much later
	Hold  bool          // it is, when the order is cancelled, or after a minute

	Skip  int // so many requests are not hit first
	Times int // so many requests are hit; 0 is all
}

// order is a fault and what has come of it.
type order struct {
	Fault
	seen, hits int
	cancelled  chan struct{}
}

// covers reports whether the fault is for a request for n bytes at off.
func (o *order) covers(op Op, name string, off, n int64) bool {
	if o.Op != op || o.Name != "" && o.Name != name {
		return false
	}
	end := int64(math.MaxInt64)
	if o.Len > 0 {
		end = o.Off + o.Len
	}
	return n == 0 || off < end && off+n > o.Off
}

// hit reports whether the request is one that the fault is for and meets now, and counts it.
func (o *order) hit(op Op, name string, off, n int64) bool {
	if !o.covers(op, name, off, n) {
		return false
	}
	o.seen++
	if o.seen <= o.Skip || o.Times > 0 && o.hits >= o.Times {
		return false
	}
	o.hits++
	return true
}
