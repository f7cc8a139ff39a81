package mmapio

import (
	"hash"
	"io"
	"os"
	"runtime/debug"
	"unsafe"
)

const (
	// handOverFrom is the least that is worth a mapping.
	handOverFrom = 256 << 10
	// handOverWindow is how much is mapped at once, and how far is read ahead.
	handOverWindow = 2 << 20
	// handOverPiece is how much a writer is given at once: as much as io.Copy reads at
	// once, so that whoever looks meanwhile, or afterwards, finds the position where
	// os.File has it.
	handOverPiece = 32 << 10
	// cacheLine is how much the processor fetches at once.
	cacheLine = 64
)

// readsOnce reports whether w reads what it is given once, on the goroutine that
// calls it, and is done with it then. Only such a writer can do with memory that
// others may change or cut: an encoder that reads twice may read two different
// things, and a writer that lets another goroutine read, as [io.PipeWriter] does,
// would meet a fault where it cannot be caught.
func readsOnce(w io.Writer) bool {
	_, ok := w.(hash.Hash)
	return ok
}

// handOver writes the file from the position on to w by handing it mapped bytes,
// piece by piece, each claimed by moving the position as Read does. What remains,
// the end of the file and everything unusual is for the true path.
//
// It goes window by window, each for reading only, so that no writer can change the file:
// of the File's mapping where there is one, pinned as by a View, and else mapped for this
// purpose alone. Nothing that happens to this File takes a window away.
func (f *File) handOver(file *os.File, w io.Writer) (written int64, err error) {
	if !populates || f.config.mapping == MapNever || f.mode == WriteOnly || f.flag&unmappableFlags != 0 || !f.fetch(file) {
		return 0, nil
	}
	cuts := registry.cuts.Load() // first: a cut that comes behind the size is seen
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size()-f.offset.Load() < handOverFrom {
		return 0, nil
	}
	var trusted trust
	if control(file, func(fd uintptr) { trusted = trustIn(fd, info, f.mode) }) != nil {
		return 0, nil
	}
	if !trusted.mappings && f.config.mapping != MapAlways || trusted.sparing && hasHoles(info) {
		return 0, nil
	}
	var open window
	alone := false // a window was mapped for this purpose alone
	defer func() {
		open.close()
		if alone { // whoever goes through the file again and again is better off with a mapping
			f.missed(file, mapAfter/2)
		}
	}()
	for !f.cache.closed.Load() {
		if now := registry.cuts.Load(); now != cuts {
			cuts = now
			open.close()
			if info, err = file.Stat(); err != nil {
				break
			}
		}
		off := f.offset.Load()
		if off < 0 || off >= info.Size() {
			break
		}
		if off < open.from || off >= open.to {
			open.close()
			if open = f.openWindow(file, off, info.Size()); open.to == 0 {
				break
			}
			alone = alone || open.mapping == nil
		}
		piece := open.at(off)
		if !f.offset.CompareAndSwap(off, off+int64(len(piece))) {
			continue
		}
		n, err := f.writeGuarded(w, piece, off)
		if n < 0 || n > len(piece) {
			n = 0
			if err == nil {
				err = errInvalidWrite
			}
		}
		written += int64(n)
		if err == nil && n < len(piece) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// window is a piece of a file, mapped for reading and read in. The zero window has
// nothing in it.
type window struct {
	from, to int64 // where in the file
	memory   []byte
	start    int64    // where memory begins
	mapping  *mapping // that of the File, whose memory it is, or nil
}

// openWindow returns a window from off on, or the zero window where the file cannot
// be mapped or read: the true path has the answer then.
func (f *File) openWindow(file *os.File, off, size int64) window {
	if w := f.windowOfMapping(off, size); w.to > 0 {
		return w
	}
	w := window{from: off, to: min(size, off+handOverWindow), start: off &^ int64(pageSize-1)}
	length := alignUp(w.to-w.start, int64(pageSize))
	var address unsafe.Pointer
	var err error
	controlErr := control(file, func(fd uintptr) {
		sys.readAhead(fd, w.to, handOverWindow)
		address, err = sys.mapWindow(fd, w.start, uintptr(length))
	})
	if controlErr != nil || err != nil {
		return window{}
	}
	w.memory = unsafe.Slice((*byte)(address), length)
	if sys.populateRead(uintptr(address), uintptr(length)) != nil {
		w.close()
		return window{}
	}
	return w
}

// windowOfMapping is openWindow where the File is mapped for reading already.
func (f *File) windowOfMapping(off, size int64) window {
	m := f.mapping.Load()
	if m == nil || m.writable || m.sparing {
		return window{}
	}
	w := window{from: off, to: min(size, m.extent.Load(), off+handOverWindow), memory: m.data, mapping: m}
	if w.to <= off || !m.pin() {
		return window{}
	}
	at, n := uint64(off), uint64(w.to-off)
	if m.known.has(at, n) {
		return w
	}
	from := off &^ int64(pageSize-1)
	if sys.populateRead(m.address()+uintptr(from), uintptr(w.to-from)) != nil {
		w.close()
		return window{}
	}
	m.known.learn(at, n) // on trial too: a file that is only handed over would be populated anew each time
	return w
}

// at returns what a writer is given at off. It has no room behind it: appending to
// it makes a copy.
func (w *window) at(off int64) []byte {
	from, to := off-w.start, min(off+handOverPiece, w.to)-w.start
	return w.memory[from:to:to]
}

func (w *window) close() {
	switch {
	case w.mapping != nil:
		w.mapping.unpin()
		*w = window{}
	case w.memory != nil:
		_ = sys.unmap(uintptr(unsafe.Pointer(unsafe.SliceData(w.memory))), uintptr(len(w.memory)))
		*w = window{}
	}
}

// writeGuarded is w.Write(piece), where piece is mapped memory. Should it become
// inaccessible, the error is a FaultError.
func (f *File) writeGuarded(w io.Writer, piece []byte, off int64) (n int, err error) {
	returned := false
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if returned {
			return
		}
		recovered := recover()
		if recovered == nil {
			return // runtime.Goexit
		}
		address, isFault := faultAddress(recovered)
		start := uintptr(unsafe.Pointer(unsafe.SliceData(piece)))
		if !isFault || address < start || address >= start+uintptr(len(piece)) {
			panic(recovered)
		}
		counts.faults.Add(1)
		n, err = 0, f.faultError("read", off+int64(address-start))
	}()
	touch(piece)
	n, err = w.Write(piece)
	returned = true
	return n, err
}

// touch has the processor fetch b. It fetches many lines at once then, where a writer that
// has to wait for one line after the other would be half as fast.
//
//go:noinline
func touch(b []byte) (sum byte) {
	for i := 0; i < len(b); i += cacheLine {
		sum += b[i]
	}
	return sum
}
