package mmapio

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"runtime"
)

// WithPrefault brings the whole file into memory when it is opened, as [File.Prefault]
// does; an error of that is an error of opening. The file must be opened for reading.
// Pipes, directories and devices are left alone. The default is to read what is asked for.
func WithPrefault() Option {
	return func(c *config) error {
		c.prefault = true
		return nil
	}
}

var (
	errPrefaultWriteOnly = fmt.Errorf("WithPrefault needs a file that is opened for reading: %w", os.ErrInvalid)
	errNoResidency       = fmt.Errorf("the system does not tell what of a file is in memory: %w", errors.ErrUnsupported)
	errResidencyUnknown  = fmt.Errorf("the file system is not known to tell what of a file is in memory: %w", errors.ErrUnsupported)
	errResidencyHidden   = fmt.Errorf("what of a file is in memory is told to its owner and to those who may write it: %w", fs.ErrPermission)
	errResidencyTooLong  = errors.New("more than 1 TiB: ask in parts")
)

// Prefault reads the n bytes at off into memory, by system calls, so that reads that follow
// are copies from there. It maps the file for that, where that may be done; elsewhere the
// bytes are read to be in the memory of the system. The range ends with the file:
// [math.MaxInt64] as n means to the end. Memory that does not suffice is not an error: the
// system lets go of what came first.
//
// With [WithHugePages], it also makes huge pages of what it brings in, where that can be done.
//
// The error is a [*fs.PathError]: with a [*RangeError] inside for a negative range, or as
// ReadAt returns it.
func (f *File) Prefault(off, n int64) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	s, err := spanOf(off, n)
	if err == nil && n > 0 {
		err = f.prefault(file, s)
	}
	if err != nil && err != io.EOF { // somebody cut the file: there is no more to bring in
		return f.fail("prefault", innerError(err))
	}
	return nil
}

func (f *File) prefault(file *os.File, s span) error {
	m, err := f.toControl(file, s.to)
	if err == nil && m != nil {
		defer m.unpin()
		return f.bringAllIn(file, m, m.existing(s))
	}
	if f.mode == WriteOnly {
		return errNotReadable
	}
	size, err := f.sizeToMap(file)
	if err != nil {
		return err
	}
	s = s.clip(span{0, size})
	scratch := make([]byte, neighbourhood)
	for !s.empty() {
		n, err := file.ReadAt(scratch[:min(int64(len(scratch)), s.to-s.from)], s.from)
		if err != nil {
			return err
		}
		s.from += int64(n)
	}
	return nil
}

// bringAllIn brings in a part of a pinned mapping, whether or not it is known to be there:
// to map what is in memory saves faults.
func (f *File) bringAllIn(file *os.File, m *mapping, s span) error {
	for !s.empty() {
		next := min((s.from+neighbourhood)&^(neighbourhood-1), s.to)
		if !f.wantsHuge() && m.touch(s.from, next) {
			s.from = next
			continue
		}
		if err := excuseFaults(func() error { return f.bringPieceIn(file, m, s.from, next) }); err != nil {
			return err
		}
		if f.wantsHuge() {
			m.collapse(span{s.from, next})
		}
		s.from = next
	}
	runtime.KeepAlive(m)
	return nil
}

// touch maps the bytes from at to end of a pinned mapping, at most a neighbourhood, by
// looking at each page, if all of them are in memory: that is far cheaper than populate where
// they are mapped already. It reports whether it did. What is known is not relied upon: who asks
// for this may have reason to think that it is wrong.
func (m *mapping) touch(at, end int64) bool {
	at &^= int64(pageSize - 1)
	if !m.inMemory(at, end) {
		return false
	}
	if guard("prefault", func() error {
		sum, step := byte(0), pageSize
		for pages := m.data[at:end]; ; pages = pages[step:] {
			sum += pages[0]
			if len(pages) <= step {
				break
			}
		}
		runtime.KeepAlive(sum) // or nobody needs to look
		return nil
	}) != nil {
		return false // somebody has cut the file: populate finds out
	}
	m.known.learn(uint64(at), uint64(end-at))
	return true
}

// inMemory asks the system whether all bytes from at, the start of a page, to end are in memory.
func (m *mapping) inMemory(at, end int64) bool {
	if !tellsResidency || m.onlyOwn {
		return false
	}
	var states [neighbourhood >> granuleShift]byte
	if sys.pageStates(m.address()+uintptr(at), uintptr(end-at), states[:]) != nil {
		return false
	}
	for _, state := range states[:alignUp(end-at, int64(pageSize))/int64(pageSize)] {
		if state&1 == 0 {
			return false
		}
	}
	return true
}

// Prefault reads the n bytes that are off bytes behind the start of the View into memory,
// and maps them, by system calls, so that using them faults no more as long as memory
// suffices. The range must be inside the View.
func (v *View) Prefault(off, n int64) error {
	s, err := v.toControl("prefault", off, n)
	if err != nil || s.empty() {
		return err
	}
	file, err := v.file.inner()
	if err == nil {
		err = v.file.bringAllIn(file, v.m, s)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return v.file.fail("prefault", innerError(err))
	}
	return nil
}

// Residency tells which pages of a range of a file were in memory when it was asked for.
type Residency struct {
	asked span // in the file, or in the View
	first int64
	pages int64
	bits  []uint64
}

// Bytes returns how many of the bytes that were asked for are in memory.
func (r Residency) Bytes() int64 {
	var pages int64
	for _, word := range r.bits {
		pages += int64(bits.OnesCount64(word))
	}
	n, size := pages*int64(pageSize), int64(pageSize)
	if r.pages > 0 {
		if r.Has(0) {
			n -= r.asked.from - r.first
		}
		if r.Has(r.pages - 1) {
			n -= r.first + r.pages*size - r.asked.to
		}
	}
	return n
}

// PageSize returns the length of a page in bytes.
func (r Residency) PageSize() int { return pageSize }

// Pages returns how many pages the range has, in memory or not. The first and the last of
// them may be in the range in part.
func (r Residency) Pages() int64 { return r.pages }

// Has reports whether page number i of the range, counted from 0, is in memory. It is false
// for pages that are not in the range.
func (r Residency) Has(i int64) bool {
	return i >= 0 && i < r.pages && r.bits[i/64]&(1<<(i%64)) != 0
}

// longestResidency is the longest range that Resident answers for.
const longestResidency = 1 << 40

func newResidencyOf(s span) Residency {
	unit := int64(pageSize)
	first := s.from &^ (unit - 1)
	pages := (AlignUp(s.to, unit) - first) / unit
	return Residency{asked: s, first: first, pages: pages, bits: make([]uint64, (pages+63)/64)}
}

// ask fills in the pages from page on with what the system says of length bytes of memory.
func (r *Residency) ask(page int64, address, length uintptr) error {
	var states [neighbourhood >> granuleShift]byte
	for length > 0 {
		n := min(length, uintptr(len(states)*pageSize))
		if err := sys.pageStates(address, n, states[:]); err != nil {
			return err
		}
		for i := range int64(alignUp(int64(n), int64(pageSize)) / int64(pageSize)) {
			if states[i]&1 != 0 {
				r.bits[(page+i)/64] |= 1 << ((page + i) % 64)
			}
		}
		page += int64(len(states))
		address, length = address+n, length-n
	}
	return nil
}

// Resident tells which of the n bytes at off are in memory now, whoever brought them
// there. Nothing is read in by asking, and the file need not be mapped. The range ends with
// the file: [math.MaxInt64] as n means to the end, but no more than 1 TiB.
//
// The error is a [*fs.PathError]: with a [*RangeError] inside for a negative range,
// [fs.ErrPermission] for files that are opened for writing only, and for those that
// are opened for reading only by somebody who neither owns nor may write them, because the
// kernel says of them that all pages are in memory (see can_do_mincore in mm/mincore.c), or
// [errors.ErrUnsupported].
//
//   - Linux: mincore(2), on the file systems that are trusted, ZFS excepted. On hugetlbfs
//     it knows what this process has mapped. On overlayfs the File must be opened for reading
//     and writing, else it is [errors.ErrUnsupported]: a file of a lower layer, opened for
//     reading only, is mapped from there even when somebody has written to it since, and
//     reads come from the upper layer.
//   - Elsewhere: [errors.ErrUnsupported]. FreeBSD tells by default what this process has mapped,
//     not what is in memory, OpenBSD tells nothing, and for macOS and the others nobody has shown
//     that it is the truth.
func (f *File) Resident(off, n int64) (Residency, error) {
	file, err := f.inner()
	if err != nil {
		return Residency{}, err
	}
	var r Residency
	s, err := spanOf(off, n)
	if err == nil {
		r, err = f.resident(file, s)
	}
	if err != nil {
		return Residency{}, f.fail("resident", innerError(err))
	}
	return r, nil
}

func (f *File) resident(file *os.File, s span) (r Residency, err error) {
	if !tellsResidency {
		return r, errNoResidency
	}
	if f.mode == WriteOnly {
		return r, errNotReadable
	}
	size, err := f.sizeToMap(file)
	if err != nil {
		return r, err
	}
	s = s.clip(span{0, size})
	if s.empty() {
		return r, nil
	}
	if s.to-s.from > longestResidency {
		return r, errResidencyTooLong
	}
	info, err := file.Stat()
	if err != nil {
		return r, err
	}
	controlErr := control(file, func(fd uintptr) {
		switch trust := trustIn(fd, info, modeOf(f.flag)); {
		case trust.hidden:
			err = errResidencyHidden
		case !trust.mincore:
			err = errResidencyUnknown
		}
	})
	if controlErr != nil || err != nil {
		return r, errors.Join(controlErr, err)
	}
	r = newResidencyOf(s)
	if m := f.mapping.Load(); m != nil && s.to <= m.extent.Load() && m.pin() {
		defer m.unpin()
		return r, r.ask(0, m.address()+uintptr(r.first), uintptr(r.pages)*uintptr(pageSize))
	}
	return r, r.askWindows(file)
}

// windowToAsk is how much of a file is mapped at once to be asked about.
const windowToAsk = 64 << 20

// askWindows maps the range, piece by piece, to ask about it.
func (r *Residency) askWindows(file *os.File) (err error) {
	perWindow := int64(windowToAsk / pageSize)
	for page := int64(0); page < r.pages; page += perWindow {
		length := uintptr(min(perWindow, r.pages-page)) * uintptr(pageSize)
		controlErr := control(file, func(fd uintptr) {
			window, mapErr := sys.mapWindow(fd, r.first+page*int64(pageSize), length)
			if mapErr != nil {
				err = mapErr
				return
			}
			err = errors.Join(r.ask(page, uintptr(window), length), sys.unmap(uintptr(window), length))
		})
		if controlErr != nil || err != nil {
			return errors.Join(controlErr, err)
		}
	}
	return nil
}

// Resident tells which of the n bytes that are off bytes behind the start of the View are
// in memory now, as [File.Resident] does. The range must be inside the View.
func (v *View) Resident(off, n int64) (Residency, error) {
	s, err := v.toControl("resident", off, n)
	if err != nil {
		return Residency{}, err
	}
	switch {
	case !tellsResidency:
		err = errNoResidency
	case s.empty():
		return Residency{}, nil
	case v.m.hidden:
		err = errResidencyHidden
	case v.m.onlyOwn:
		err = errResidencyUnknown
	case n > longestResidency:
		err = errResidencyTooLong
	default:
		r := newResidencyOf(s)
		if err = r.ask(0, v.m.address()+uintptr(r.first), uintptr(r.pages)*uintptr(pageSize)); err == nil {
			runtime.KeepAlive(v)
			return r, nil
		}
	}
	return Residency{}, v.file.fail("resident", err)
}

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
			bring := func() error { return f.bringPieceIn(file, m, at, next) }
			var err error
			if f.wantsHuge() {
				err = excuseFaults(bring)
			} else {
				err = bring()
			}
			if err != nil {
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
	case f.wantsHuge():
		// A fault reads in a huge page at once, if nothing is there: see
		// do_sync_mmap_readahead in mm/filemap.c.
		err = f.populate(file, m, at, end)
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
