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
	// handOverPiece is the most that a writer is given at once: as much as io.Copy
	// reads at once, so that after a failure the position is where it would be then.
	handOverPiece = 32 << 10
)

// readsAtOnce reports whether w is of a kind that reads what it is given on the
// goroutine that calls it, and is done with it then: a hash, or an encoder. Other
// writers may let another goroutine read, as [io.PipeWriter] does, where a fault
// cannot be caught should somebody cut the file at that moment.
func readsAtOnce(w io.Writer) bool {
	switch w.(type) {
	case hash.Hash, interface{ Reset(w io.Writer) }:
		return true
	}
	return false
}

// handOver writes the file from the position on to w by handing it mapped bytes,
// window by window, as long as there is a whole window left. What remains, and the
// end of the file, is for the true path.
//
// The windows are mappings of their own, for reading only: nothing that happens to
// this File, not even Close, takes them away, and no writer can change the file.
func (f *File) handOver(file *os.File, w io.Writer) (written int64, err error) {
	if !supportsHandOver || f.config.mapping == MapNever || f.mode == WriteOnly || f.flag&unmappableFlags != 0 {
		return 0, nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < handOverFrom {
		return 0, nil
	}
	if f.config.mapping == MapAuto {
		var trusted trust
		if control(file, func(fd uintptr) { trusted = trustOf(fd, info, f.mode) }) != nil || !trusted.mappings {
			return 0, nil
		}
	}
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, nil
	}
	for err == nil && info.Size()-at >= handOverFrom {
		n := min(info.Size()-at, handOverWindow)
		var done, passed int64
		done, passed, err = f.handOverAt(file, w, at, n)
		if passed == 0 {
			return written, err
		}
		written += done
		at += passed
	}
	return written, err
}

// handOverAt hands the n bytes at off to w. Of those, w has seen the passed first
// ones, and taken the written first ones. If they cannot be mapped it has seen none.
func (f *File) handOverAt(file *os.File, w io.Writer, off, n int64) (written, passed int64, err error) {
	from := off &^ int64(pageSize-1)
	length := uintptr(alignUp(off+n-from, int64(pageSize)))
	var window unsafe.Pointer
	controlErr := control(file, func(fd uintptr) {
		sys.readAhead(fd, off+n, handOverWindow)
		window, err = sys.mapWindow(fd, from, length)
	})
	if controlErr != nil || err != nil {
		return 0, 0, nil
	}
	defer func() {
		_ = sys.unmap(uintptr(window), length)
		// Here, so that the position moves even if w panics.
		if _, moved := file.Seek(passed, io.SeekCurrent); passed > 0 && err == nil {
			err = moved
		}
	}()
	if sys.populateRead(uintptr(window), length) != nil {
		return 0, 0, nil // the disk fails, or the file was cut: the true path has the answer
	}
	data := unsafe.Slice((*byte)(window), length)[off-from:][:n]
	for passed < n && err == nil {
		next := min(n, passed+handOverPiece)
		piece := data[passed:next:next]
		at := off + passed
		passed = next
		var m int
		m, err = f.writeGuarded(w, piece, at)
		if m < 0 || m > len(piece) {
			m = 0
			if err == nil {
				err = errInvalidWrite
			}
		}
		written += int64(m)
		if err == nil && m < len(piece) {
			err = io.ErrShortWrite
		}
	}
	return written, passed, err
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
		n, err = 0, f.faultError("read", off+int64(address-start))
	}()
	n, err = w.Write(piece)
	returned = true
	return n, err
}
