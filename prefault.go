package mmapio

import (
	"errors"
	"io/fs"
	"os"
)

// bringIn reads n bytes at at of a mapping into memory, by system calls, unless they are
// known to be there. The error is that of reading them from the file.
func (f *File) bringIn(m *mapping, at, n int64) error {
	if n == 0 || m.known.has(uint64(at), uint64(n)) {
		return nil
	}
	file, err := f.inner()
	if err != nil {
		return err
	}
	for end := at + n; at < end; {
		next := min((at+neighbourhood)&^(neighbourhood-1), end)
		if !m.known.has(uint64(at), uint64(next-at)) {
			if err := f.bringPieceIn(file, m, at, next); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// readAheadFrom is the least that is worth telling the kernel of.
const readAheadFrom = 64 << 10

func (f *File) bringPieceIn(file *os.File, m *mapping, at, end int64) error {
	off := m.entry.off
	var err error
	switch {
	case !populates:
		err = f.readPieceIn(file, off+at, off+end)
	case end-at >= readAheadFrom:
		ahead := min(end+neighbourhood, int64(len(m.data))) - at
		_ = control(file, func(fd uintptr) { sys.readAhead(fd, off+at, ahead) })
		err = f.populate(file, m, at, end)
	default:
		// Read in by a system call, the pages are no major faults when they are mapped.
		if err = f.readPieceIn(file, off+at, off+end); err == nil || errors.Is(err, fs.ErrClosed) {
			err = f.populate(file, m, at, end)
		}
	}
	if err == nil {
		m.known.learn(uint64(at), uint64(end-at))
	}
	return err
}

// populate maps the bytes from at to end of a mapping, and reads them in before where
// that is necessary.
func (f *File) populate(file *os.File, m *mapping, at, end int64) error {
	from := at &^ int64(pageSize-1)
	err := sys.populateRead(m.address()+uintptr(from), uintptr(end-from))
	if err != nil && errors.Is(err, errPopulateFault) {
		return f.findFault(file, m, at, end)
	}
	if err != nil { // an old kernel
		return f.readPieceIn(file, m.entry.off+at, m.entry.off+end)
	}
	return nil
}

// readPieceIn reads the bytes from off to end of the file, and throws them away.
func (f *File) readPieceIn(file *os.File, off, end int64) error {
	scratch := make([]byte, min(end-off, readAheadFrom))
	for off < end {
		n, err := file.ReadAt(scratch[:min(int64(len(scratch)), end-off)], off)
		if err != nil {
			return f.named(err)
		}
		off += int64(n)
	}
	return nil
}

// findFault returns the error of bytes from at to end of a mapping that could not be read
// in: that of reading them by system calls or, where those succeed, a *FaultError. That
// is so for a hole in a file on a full file system in memory.
func (f *File) findFault(file *os.File, m *mapping, at, end int64) error {
	scratch := make([]byte, pageSize)
	for at &^= int64(pageSize - 1); at < end; at += int64(pageSize) {
		address := m.address() + uintptr(at)
		if sys.populateRead(address, uintptr(pageSize)) == nil {
			continue
		}
		if n, err := file.ReadAt(scratch[:min(int64(pageSize), end-at)], m.entry.off+at); err != nil {
			return f.named(err)
		} else if n > 0 && sys.populateRead(address, uintptr(pageSize)) != nil {
			return m.entry.fault("read", address)
		}
	}
	return nil
}
