package mmapio

import "os"

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
	if populates {
		if end-at >= readAheadFrom {
			ahead := min(end+neighbourhood, int64(len(m.data))) - at
			_ = control(file, func(fd uintptr) { sys.readAhead(fd, off+at, ahead) })
		}
		from := at &^ int64(pageSize-1)
		if sys.populateRead(m.address()+uintptr(from), uintptr(end-from)) == nil {
			m.known.learn(uint64(at), uint64(end-at))
			return nil
		}
	}
	scratch := make([]byte, min(end-at, readAheadFrom))
	for at < end {
		n, err := file.ReadAt(scratch[:min(int64(len(scratch)), end-at)], off+at)
		if n > 0 {
			m.known.learn(uint64(at), uint64(n))
		}
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
