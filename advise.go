package mmapio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

// Advice tells the system how bytes of a file are going to be used. None of it changes
// what is read or written.
type Advice uint8

// The first five are those of posix_fadvise(2) and posix_madvise(3); the others are for
// mapped memory only, see madvise(2). Some state how things are to be and last: they
// are remembered by a [File]. The others do something once.
const (
	// AdviceNormal goes back to the default. It lasts. Reading through system calls, the
	// kernel reads ahead as it sees fit. A fault in mapped memory brings in no neighbours:
	// what is cold is read by system calls.
	AdviceNormal Advice = iota
	// AdviceRandom: reading ahead does not pay. It lasts.
	AdviceRandom
	// AdviceSequential: read far ahead, for faults in mapped memory too. It lasts.
	AdviceSequential
	// AdviceWillNeed makes the system begin to read the bytes into memory.
	AdviceWillNeed
	// AdviceDontNeed lets go of the memory. What is not yet written to the disk, what
	// others have mapped and what is locked stays. Memory that is a File's only copy
	// (tmpfs, changed pages of a private copy) stays too.
	AdviceDontNeed

	// AdvicePopulateRead maps the pages for reading now, and reads them in: Linux 5.14.
	AdvicePopulateRead
	// AdvicePopulateWrite maps the pages for storing now; holes in the file get space on
	// the disk: Linux 5.14. Memory that cannot be stored to is [ErrReadOnly]. Pages of a
	// private copy count as written to then.
	AdvicePopulateWrite
	// AdviceCold makes the pages the first to go when memory is short: Linux 5.4. What is
	// locked stays as it is.
	AdviceCold
	// AdvicePageOut writes the pages back and takes them out of memory, except for what is
	// locked: Linux 5.4, macOS.
	AdvicePageOut
	// AdviceCollapse makes huge pages of small ones now: Linux 6.1, in so far as the file
	// system can: see [WithHugePages].
	AdviceCollapse
	// AdviceHugePage asks for huge pages from now on, and AdviceNoHugePage for none. Both
	// last. Linux.
	AdviceHugePage
	AdviceNoHugePage
	// AdviceDontDump keeps the memory out of core dumps, and AdviceDoDump puts it in. Both
	// last. Linux, FreeBSD, DragonFly.
	AdviceDontDump
	AdviceDoDump
	// AdviceDontFork keeps the memory from a child that is made by fork without exec, and
	// AdviceDoFork hands it down. Both last. Linux.
	AdviceDontFork
	AdviceDoFork

	adviceCount
)

var adviceNames = [adviceCount]string{
	AdviceNormal: "normal", AdviceRandom: "random", AdviceSequential: "sequential",
	AdviceWillNeed: "will need", AdviceDontNeed: "don't need",
	AdvicePopulateRead: "populate read", AdvicePopulateWrite: "populate write",
	AdviceCold: "cold", AdvicePageOut: "page out", AdviceCollapse: "collapse",
	AdviceHugePage: "huge page", AdviceNoHugePage: "no huge page",
	AdviceDontDump: "don't dump", AdviceDoDump: "do dump",
	AdviceDontFork: "don't fork", AdviceDoFork: "do fork",
}

// String returns the advice in words, such as "will need".
func (a Advice) String() string {
	if a >= adviceCount {
		return "unknown advice"
	}
	return adviceNames[a]
}

// subject returns what the advice is about: of those with the same subject the latest
// holds. It returns adviceCount for advice that does not last.
func (a Advice) subject() Advice {
	switch a {
	case AdviceNormal, AdviceRandom, AdviceSequential:
		return AdviceNormal
	case AdviceHugePage, AdviceNoHugePage:
		return AdviceHugePage
	case AdviceDontDump, AdviceDoDump:
		return AdviceDontDump
	case AdviceDontFork, AdviceDoFork:
		return AdviceDontFork
	}
	return adviceCount
}

func (a Advice) lasts() bool { return a.subject() != adviceCount }

// isDefault reports whether memory that nobody has given advice for is like that.
func (a Advice) isDefault() bool {
	return a == AdviceNormal || a == AdviceDoDump || a == AdviceDoFork
}

// forFiles reports whether the advice is for descriptors too.
func (a Advice) forFiles() bool { return a <= AdviceDontNeed }

// evicts reports whether pages may be gone afterwards.
func (a Advice) evicts() bool { return a == AdviceDontNeed || a == AdvicePageOut }

// check returns what is wrong with the advice on this system, if anything.
func (a Advice) check() error {
	switch _, ok := madviseNumber(a); {
	case a >= adviceCount:
		return fmt.Errorf("advice %d is unknown: %w", a, os.ErrInvalid)
	case !ok && !(a.forFiles() && advisesFiles):
		return fmt.Errorf("no advice %q on this system: %w", a, errors.ErrUnsupported)
	}
	return nil
}

var (
	errNeverMapped = fmt.Errorf("the file is not mapped for itself, but a View of it can be had: %w", errors.ErrUnsupported)
	errNoRoom      = errors.New("no room to map the file: too many mappings, or too little address space; a View of a part may fit")
)

// WithAdvice gives [File.Advise] the whole file when it is opened, as far as it ever
// grows. The advice must be one that lasts, or [AdviceWillNeed], which makes the system
// begin to read. The default is [AdviceNormal]. Advice that the system does not know is an
// error with [errors.ErrUnsupported] in it. Pipes, directories and devices are left alone.
func WithAdvice(advice Advice) Option {
	return func(c *config) error {
		if err := advice.check(); err != nil {
			return err
		}
		if !advice.lasts() && advice != AdviceWillNeed {
			return fmt.Errorf("advice %q acts once, call Advise: %w", advice, os.ErrInvalid)
		}
		c.advice, c.advised = advice, true
		return nil
	}
}

// Advise tells the system how the n bytes at off are going to be used. The range is
// widened to whole pages and ends with the file: [math.MaxInt64] as n means to the end.
// With n = 0 it does nothing.
//
// Most reads of cold data are system calls here, so advice goes to the descriptor as well
// as to the mapped memory. Advice that lasts is remembered, and holds for memory that is
// mapped later and, where the range reaches beyond the end of the file, for what the file
// grows to. Linux knows [AdviceNormal], [AdviceRandom] and [AdviceSequential] for a
// descriptor as a whole only (see mm/fadvise.c), so it hears of them if the range is the
// whole file. Different advice for many ranges costs a mapping each: see vm.max_map_count.
//
// The error is a [*fs.PathError]: with a [*RangeError] inside for a negative range,
// [errors.ErrUnsupported] where the system has no such advice, or where it is for mapped
// memory and the file is not mapped ([MapNever], network file systems; a View can be
// advised there), or the errno of the kernel. After an error, a part may have been advised.
//
//   - Linux: all advice, as far as the kernel is new enough.
//   - macOS: the first five for mapped memory only, and AdvicePageOut.
//   - FreeBSD: the first five, AdviceDontDump and AdviceDoDump. DragonFly: the same, but
//     for mapped memory only.
//   - NetBSD: the first five. OpenBSD, Solaris, illumos, AIX: the same, but for mapped
//     memory only.
//   - Windows: AdviceWillNeed, which maps the file.
func (f *File) Advise(off, n int64, advice Advice) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	s, err := spanOf(off, n)
	if err == nil {
		err = advice.check()
	}
	switch {
	case err != nil:
	case n > 0:
		err = f.advise(file, s, advice)
	default:
		err = control(file, func(uintptr) {}) // it may be closed
	}
	if err != nil {
		return f.fail("advise", innerError(err))
	}
	return nil
}

func (f *File) advise(file *os.File, s span, advice Advice) error {
	size, regular, err := sizeOf(file)
	if err != nil {
		return err
	}
	if !regular {
		if !advice.forFiles() || !advisesFiles {
			return errNotRegular
		}
		return f.adviseDescriptor(file, s, advice) // a disk takes it, a pipe does not
	}
	s = s.widen(f.pageSizeOf(file))
	if advice.lasts() {
		return f.adviseLasting(file, s, size, advice)
	}
	_, forMemory := madviseNumber(advice)
	m := f.mapping.Load()
	if !(advice.forFiles() && advisesFiles) {
		if m, err = f.toControl(file, s.to); err != nil {
			return err
		}
	} else if m != nil && !m.pin() {
		m = nil
	}
	if m != nil && forMemory {
		s := m.existing(s)
		err = f.makeOwn(m, s, advice == AdvicePopulateWrite, func() error { return m.advise(s, advice) })
	}
	if m != nil {
		m.unpin()
	}
	if err != nil {
		return err
	}
	return f.adviseDescriptor(file, s.clip(span{0, size}), advice)
}

// adviseLasting is advise for what is to be remembered.
func (f *File) adviseLasting(file *os.File, s span, size int64, advice Advice) error {
	if advice.forFiles() && advisesFiles {
		if s.from == 0 && s.to >= size {
			if err := f.adviseDescriptor(file, span{0, size}, advice); err != nil {
				return err
			}
		}
	} else if err := f.mayBeMapped(); err != nil {
		return err
	}
	c := f.makeControls()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := madviseNumber(advice); ok {
		if m := f.mapping.Load(); m != nil && m.pin() {
			err := m.advise(s, advice)
			m.unpin()
			if err != nil {
				return err
			}
		}
	}
	c.advice, _ = c.advice.split(s, func(m marked) bool { return m.advice.subject() == advice.subject() })
	if !advice.isDefault() {
		c.advice = c.advice.join(marked{span: s, advice: advice})
	}
	return nil
}

// adviseDescriptor hands advice to the descriptor, where there is such a thing.
func (f *File) adviseDescriptor(file *os.File, s span, advice Advice) error {
	if !advisesFiles || !advice.forFiles() {
		return nil
	}
	if !advice.lasts() {
		if s.empty() {
			return nil
		}
		s = s.widen(int64(pageSize))
	} else {
		s = span{} // 0 bytes mean to the end
	}
	var err error
	if controlErr := control(file, func(fd uintptr) { err = sys.adviseFile(fd, s.from, s.to-s.from, advice) }); controlErr != nil {
		return controlErr
	}
	return err
}

// advise hands advice for s, counted from the start of the window, to the kernel.
func (m *mapping) advise(s span, advice Advice) error {
	address, n := m.pages(s)
	if n == 0 {
		return nil
	}
	if advice == AdvicePopulateWrite && !m.writable {
		return ErrReadOnly
	}
	if advice == AdviceDontNeed && m.private {
		advice = AdviceCold // the memory is the only copy of what was changed
		if _, ok := madviseNumber(advice); !ok {
			return nil
		}
	}
	if advice.evicts() {
		at := uint64(address - m.address())
		m.known.forgetRange(at, uint64(n))
		defer m.known.forgetRange(at, uint64(n))
	}
	defer runtime.KeepAlive(m)
	if !advice.evicts() && advice != AdviceCold {
		return sys.advise(address, n, advice)
	}
	from := int64(address - m.address())
	m.entry.lockMu.Lock()
	defer m.entry.lockMu.Unlock()
	for _, s := range m.entry.unclaimed(span{from, from + int64(n)}) { // EINVAL for the rest
		if err := sys.advise(m.address()+uintptr(s.from), uintptr(s.to-s.from), advice); err != nil {
			return err
		}
	}
	return nil
}

// Advise tells the system how the n bytes that are off bytes behind the start of the View
// are going to be used, as [File.Advise] does; the range must be inside the View. The
// advice stays with the memory, which others may have Views of, until it is unmapped.
// Where the View is the File's own mapping, that is until the File is mapped anew. After an
// error, a part may have been advised.
func (v *View) Advise(off, n int64, advice Advice) error {
	s, err := v.toControl("advise", off, n)
	if err != nil || s.empty() {
		return err
	}
	if err := advice.check(); err != nil {
		return v.file.fail("advise", err)
	}
	if _, ok := madviseNumber(advice); ok {
		err := v.file.makeOwn(v.m, s, advice == AdvicePopulateWrite, func() error { return v.m.advise(s, advice) })
		if err != nil {
			return v.file.fail("advise", err)
		}
	}
	if advice == AdviceWillNeed || advice == AdviceDontNeed {
		if file, err := v.file.inner(); err == nil { // it may be closed: then nothing happens
			at := v.m.entry.off
			err := v.file.adviseDescriptor(file, span{at + s.from, at + s.to}, advice)
			if err != nil && !errors.Is(err, fs.ErrClosed) {
				return v.file.fail("advise", innerError(err))
			}
		}
	}
	return nil
}

// toControl returns where in the mapping the n bytes are that are off bytes behind the
// start of the View.
func (v *View) toControl(op string, off, n int64) (span, error) {
	if err := v.live(op); err != nil {
		return span{}, err
	}
	if err := checkRange(off, n, int64(len(v.data))); err != nil {
		return span{}, v.file.fail(op, err)
	}
	if n == 0 {
		return span{}, nil
	}
	from := v.at() + off
	return span{from, from + n}, nil
}

// controls are what was asked for the memory of a File and must be done again when it is
// mapped anew. Files that nothing was asked for have none.
type controls struct {
	mu      sync.Mutex
	advice  spans
	locks   spans
	locking atomic.Bool // there are locks
	huge    bool        // set before anybody else knows of it
}

// makeControls returns the controls of the File, new ones if it has none.
func (f *File) makeControls() *controls {
	if c := f.cache.controls.Load(); c != nil {
		return c
	}
	f.cache.controls.CompareAndSwap(nil, new(controls))
	return f.cache.controls.Load()
}

// settle does what was asked for, for the bytes s of a mapping, which have just come into use.
// Nothing of that can fail the caller, who asked for something else.
func (f *File) settle(m *mapping, s span) {
	c := f.cache.controls.Load()
	if c == nil || !m.pin() {
		return
	}
	defer m.unpin()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.huge {
		_ = m.advise(s, AdviceHugePage)
	}
	for _, a := range c.advice {
		_ = m.advise(a.clip(s), a.advice)
	}
	c.lockAgain(m, m.existing(s))
	if c.huge && s.from == 0 {
		m.collapseResident()
	}
}

// grow is glimpse.grow, and does for the bytes that came to be known what was asked for.
func (f *File) grow(g glimpse, end int64) {
	g.grow(end)
	if f.locks() && end > g.before && g.pin() {
		defer g.unpin()
		c := f.cache.controls.Load()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lockAgain(g.mapping, span{g.before, end})
	}
}

// mayBeMapped returns why the File itself has no mapped memory, and never will, if so.
func (f *File) mayBeMapped() error {
	if err := f.mappable(); err != nil {
		return err
	}
	if f.private == nil && (f.config.mapping == MapNever || f.cache.refused.Load()) {
		return errNeverMapped
	}
	return nil
}

// toControl returns the mapping of the File as far as end, or as the file goes, and pins
// it; it is mapped first if need be. It returns nil for an empty file.
func (f *File) toControl(file *os.File, end int64) (*mapping, error) {
	for range viewAttempts {
		if err := f.mayBeMapped(); err != nil {
			return nil, err
		}
		g := glimpseOf(f.mapping.Load())
		size, err := f.sizeToMap(file)
		if err != nil || size == 0 {
			return nil, err
		}
		if f.private != nil {
			if g.mapping != nil && g.pin() {
				return g.mapping, nil
			}
			continue // closed
		}
		f.sawEnd(g, size)
		if to := min(end, size); !f.covers(file, g, to) {
			f.mapNow(file, g.mapping)
		} else {
			f.grow(g, to)
			if g.pin() {
				f.askedFor(g.mapping)
				return g.mapping, nil
			}
		}
	}
	if err := f.mayBeMapped(); err != nil {
		return nil, err
	}
	return nil, errNoRoom
}
