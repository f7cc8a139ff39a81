package mmapio

import (
	"os"
	"sync/atomic"
)

type mapping struct {
	writable bool
	extent   atomic.Int64
}

func (m *mapping) load(b []byte, off int64) bool { return false }
func (m *mapping) holds(off int64, n int) bool   { return false }
func (m *mapping) grow(size int64)               {}

type cacheState struct{ closed bool }
type tail struct{ step int64 }

func (t *tail) readAt(file *os.File, b []byte, off int64) (int, error) { return file.ReadAt(b, off) }

func (f *File) appendTail(file *os.File, b []byte) (int, error, bool) { return 0, nil, false }
func (f *File) writeAtTail(file *os.File, b []byte, off int64) (int, error, bool) {
	return 0, nil, false
}
func (f *File) store(m *mapping, b []byte, off int64) bool               { return false }
func (f *File) settle() error                                            { return nil }
func (f *File) writeBack() error                                         { return nil }
func (f *File) sawSize(size int64)                                       {}
func (f *File) sawEnd(m *mapping, end int64)                             {}
func (f *File) missed(file *os.File, m *mapping, off int64, n int)       {}
func (f *File) shrink(file *os.File, size int64, cut func() error) error { return cut() }
func (f *File) retire() error                                            { return nil }
func (f *File) retireOf(*os.File) error                                  { return nil }
func openTruncating(name string, flag int, open func() (*os.File, error)) (*os.File, error) {
	return open()
}
func flagsOf(file *os.File) int { return os.O_RDWR }
