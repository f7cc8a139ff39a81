// Package baddisk is a file system for tests that misbehaves on order: a disk that
// cannot read or write some of its bytes, is full, loses a file, answers late, or fails
// when it is to make something durable. It is a FUSE file system on Linux, and the tests
// of this package have mmapio work on it.
//
// The file system is served by a process of its own, and has to be: a page fault that waits
// for a server in its own process could wait for ever, because the Go runtime of the server
// may be waiting for the goroutine that has the fault.
package baddisk
