package mmapio

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// What the tests outside the package may see and change.

const (
	SupportsMapping    = supportsMapping
	Populates          = populates
	MustUnmapToResize  = mustUnmapToResize
	PinsCopies         = pinsCopies
	CallsAfterFlush    = callsAfterFlush
	Neighbourhood      = neighbourhood
	MapAhead           = mapAhead
	MapAfter           = mapAfter
	TrialCalls         = trialCalls
	ShortestRest       = shortestRest
	SyncCoversMappings = syncCoversMappings
	SupportsStamp      = supportsStamp
	SeesFaults         = seesFaults
	AdvisesFiles       = advisesFiles
	TellsResidency     = tellsResidency
	TellsHuge          = tellsHuge
	LocksOnFault       = locksOnFault
	Is64Bit            = is64Bit
)

// ErrMapped is the error of cutting a mapped file, where that is one.
var ErrMapped error = errMapped

// intercept is asked before every call of a function of sys. If it returns an
// error the call fails with that.
var intercept atomic.Pointer[func(name string) error]

// Intercept has f asked before every call of a function of sys, until restore is
// called. The functions run on any goroutine.
func Intercept(f func(name string) error) (restore func()) {
	if !intercept.CompareAndSwap(nil, &f) {
		panic("intercepted already")
	}
	return func() {
		intercept.Store(nil)
		endPause()
	}
}

// BeforeTrust has something done once: before the next file is asked whether its mappings can
// be trusted, when its size is known already.
func BeforeTrust(do func()) (restore func()) {
	old := trustIn
	var once sync.Once
	trustIn = func(fd uintptr, info fs.FileInfo, mode Mode) trust {
		once.Do(do)
		return old(fd, info, mode)
	}
	return func() { trustIn = old }
}

// endPause allows mappings again after the system has refused one.
func endPause() {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.pauseUntil = time.Time{}
}

// unmapObserver is told of every address that is given back.
var unmapObserver atomic.Pointer[func(address uintptr)]

// ErrLie makes those functions of sys that cannot fail tell the opposite of the truth.
var ErrLie = errors.New("lie")

func intercepted(name string) error {
	if f := intercept.Load(); f != nil {
		return (*f)(name)
	}
	return nil
}

// SysNames returns the names of the functions in sys.
func SysNames() []string {
	var names []string
	for field := range reflect.TypeOf(sys).Fields() {
		names = append(names, field.Name)
	}
	return names
}

// The functions are put in place before there is any other goroutine, and stay.
func init() {
	real, lies := sys, atomic.Int64{}
	sys.mapFile = func(fd uintptr, off int64, length uintptr, access access) (unsafe.Pointer, error) {
		if err := intercepted("mapFile"); err != nil {
			return nil, err
		}
		return real.mapFile(fd, off, length, access)
	}
	sys.mapAt = func(fd uintptr, off int64, address, length uintptr, access access) error {
		if err := intercepted("mapAt"); err != nil {
			return err
		}
		return real.mapAt(fd, off, address, length, access)
	}
	sys.seal = func(address, length uintptr) error {
		if err := intercepted("seal"); err != nil {
			return err
		}
		return real.seal(address, length)
	}
	sys.unmap = func(address, length uintptr) error {
		if f := unmapObserver.Load(); f != nil {
			(*f)(address)
		}
		if err := intercepted("unmap"); err != nil {
			return err
		}
		return real.unmap(address, length)
	}
	sys.resident = func(address, length uintptr, found func(at, n uintptr)) {
		switch err := intercepted("resident"); err {
		case nil:
			real.resident(address, length, found)
		case ErrLie:
			found(0, length)
		}
	}
	sys.majorFaults = func() int64 {
		switch err := intercepted("majorFaults"); err {
		case nil:
			return real.majorFaults()
		case ErrLie:
			return lies.Add(1000)
		}
		return 0
	}
	sys.stamp = func(fd uintptr) error {
		if err := intercepted("stamp"); err != nil {
			return err
		}
		return real.stamp(fd)
	}
	sys.writeBack = func(address, length uintptr, wait bool) error {
		if err := intercepted("writeBack"); err != nil {
			return err
		}
		return real.writeBack(address, length, wait)
	}
	sys.datasync = func(file *os.File) error {
		if err := intercepted("datasync"); err != nil {
			return err
		}
		return real.datasync(file)
	}
	sys.startFlush = func(file *os.File) error {
		if err := intercepted("startFlush"); err != nil {
			return err
		}
		return real.startFlush(file)
	}
	sys.sync = func(file *os.File) error {
		if err := intercepted("sync"); err != nil {
			return err
		}
		return real.sync(file)
	}
	sys.allocate = func(file *os.File, off, length int64) error {
		if err := intercepted("allocate"); err != nil {
			return err
		}
		return real.allocate(file, off, length)
	}
	sys.populateRead = func(address, length uintptr) error {
		if err := intercepted("populateRead"); err != nil {
			return err
		}
		return real.populateRead(address, length)
	}
	sys.mapWindow = func(fd uintptr, off int64, length uintptr) (unsafe.Pointer, error) {
		if err := intercepted("mapWindow"); err != nil {
			return nil, err
		}
		return real.mapWindow(fd, off, length)
	}
	sys.populateWrite = func(address, length uintptr) error {
		if err := intercepted("populateWrite"); err != nil {
			return err
		}
		return real.populateWrite(address, length)
	}
	sys.discard = func(fd uintptr, off int64, address, length uintptr) error {
		if err := intercepted("discard"); err != nil {
			return err
		}
		return real.discard(fd, off, address, length)
	}
	sys.privatePages = func(address, length uintptr, found func(at, n uintptr)) {
		if err := intercepted("privatePages"); err != nil {
			found(0, length)
			return
		}
		real.privatePages(address, length, found)
	}
	sys.writeAt = func(file *os.File, b []byte, off int64) (int, error) {
		if err := intercepted("writeAt"); err != nil {
			return 0, err
		}
		return real.writeAt(file, b, off)
	}
	sys.advise = func(address, length uintptr, advice Advice) error {
		if err := intercepted("advise"); err != nil {
			return err
		}
		return real.advise(address, length, advice)
	}
	sys.adviseFile = func(fd uintptr, off, length int64, advice Advice) error {
		if err := intercepted("adviseFile"); err != nil {
			return err
		}
		return real.adviseFile(fd, off, length, advice)
	}
	sys.lock = func(address, length uintptr, onFault bool) error {
		if err := intercepted("lock"); err != nil {
			return err
		}
		return real.lock(address, length, onFault)
	}
	sys.unlock = func(address, length uintptr) error {
		if err := intercepted("unlock"); err != nil {
			return err
		}
		return real.unlock(address, length)
	}
	sys.pageStates = func(address, length uintptr, states []byte) error {
		if err := intercepted("pageStates"); err == ErrLie {
			for i := range states {
				states[i] = 1
			}
			return nil
		} else if err != nil {
			return err
		}
		return real.pageStates(address, length, states)
	}
	sys.hugeBytes = func(address, length uintptr) (int64, error) {
		if err := intercepted("hugeBytes"); err != nil {
			return 0, err
		}
		return real.hugeBytes(address, length)
	}
	sys.readAhead = func(fd uintptr, off, length int64) {
		if err := intercepted("readAhead"); err == nil {
			real.readAhead(fd, off, length)
		}
	}
}

// CopyCalls are the calls of CopyFile that Intercept is asked about too.
var CopyCalls = []string{"clone", "copyRange", "nextData"}

func init() {
	real := copySys
	copySys.clone = func(to, from *os.File) error {
		if err := intercepted("clone"); err != nil {
			return err
		}
		return real.clone(to, from)
	}
	copySys.copyRange = func(to, from *os.File, off int64, n int) (int, error) {
		if err := intercepted("copyRange"); err != nil {
			return 0, err
		}
		return real.copyRange(to, from, off, n)
	}
	copySys.nextData = func(file *os.File, off int64) (int64, int64, error) {
		if err := intercepted("nextData"); err != nil {
			return 0, 0, err
		}
		return real.nextData(file, off)
	}
}

// CopyStep is how much CopyFile copies between two looks at the context in tests.
const CopyStep = 512 << 10

func init() { copyStep = CopyStep }

// IsMapped reports whether f has a mapping in use.
// StampApart is how long flushes leave the modification time alone.
const StampApart = stampApart

func IsMapped(f *File) bool { return f.mapping.Load() != nil }

// IsKnown reports whether f would serve n bytes at off from memory.
func IsKnown(f *File, off int64, n int) bool {
	m := f.mapping.Load()
	return m != nil && m.holds(off, n)
}

// Forget makes f forget which pages are in memory.
func Forget(f *File) {
	if m := f.mapping.Load(); m != nil {
		m.known.forget()
	}
}

// Unmap takes the mapping of f out of use; f may make another one.
func Unmap(f *File) {
	if m := f.mapping.Load(); m != nil {
		drop(m)
	}
}

// SetBudget sets how many mappings there may be and how long they may be together.
func SetBudget(mappings int, bytes int64) (restore func()) {
	registry.budgetOnce.Do(setBudget)
	registry.mu.Lock()
	defer registry.mu.Unlock()
	oldMappings, oldBytes := registry.maxMappings, registry.maxBytes
	registry.maxMappings, registry.maxBytes = mappings, bytes
	return func() {
		registry.mu.Lock()
		defer registry.mu.Unlock()
		registry.maxMappings, registry.maxBytes = oldMappings, oldBytes
	}
}

// KeepBudget keeps the budget as it is, whatever happens until restore is called.
func KeepBudget() (restore func()) {
	registry.budgetOnce.Do(setBudget)
	mappings, bytes := Budget()
	return SetBudget(mappings, bytes)
}

// Budget returns how many mappings there may be and how long they may be together.
func Budget() (mappings int, bytes int64) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return registry.maxMappings, registry.maxBytes
}

// Mappings returns how many mappings are in use, and how many there are with those
// whose addresses are not given back yet.
func Mappings() (inUse, all int) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return registry.live.Len(), registry.count
}

// SizeOfFile is the size of a File itself.
const SizeOfFile = unsafe.Sizeof(File{})

// NoAddresses is an error that says that there is no room for another mapping.
var NoAddresses error = noAddresses{}

type noAddresses struct{}

func (noAddresses) Error() string { return "no addresses left" }

func (noAddresses) Is(target error) bool { return outOfAddresses(target) }

// Scheduled returns how many Files wait for their flush, whether there is a timer, and
// how many goroutines flush.
func Scheduled() (files int, timer bool, workers int) {
	schedule.mu.Lock()
	defer schedule.mu.Unlock()
	return len(schedule.queue), schedule.timer != nil, schedule.workers
}

// Flushed returns how many of the bytes that were written to f have been flushed.
func Flushed(f *File) int64 {
	if f.flusher == nil {
		return 0
	}
	return f.flusher.flushedBytes.Load()
}

// Covered returns how many bytes and writes a flush that begins now covers.
func Covered(f *File) (bytes, writes int64) {
	c := f.coverage()
	return c.bytes, c.writes
}

// FlushesAsked returns how often Flush was called.
func FlushesAsked(f *File) int64 { return f.flushing.asked.Load() }

// MostWorkers is how many Files are flushed in the background at once.
const MostWorkers = mostWorkers

// MemoryOf returns where the file is mapped, or 0.
func MemoryOf(f *File) (address, length uintptr) {
	if m := f.mapping.Load(); m != nil {
		return m.address(), uintptr(len(m.data))
	}
	return 0, 0
}

// MapNow maps the file, or more of it, and reports whether it is mapped then.
func MapNow(f *File) bool {
	if file, err := f.inner(); err == nil {
		f.mapNow(file, f.mapping.Load())
	}
	return IsMapped(f)
}

// CheckPressure makes all Files forget what is in memory if there have been faults, and
// reports whether there have.
func CheckPressure() bool { return checkPressure() }

// TryOut puts the mapping of f on trial, if it may go again.
func TryOut(f *File) { f.mapping.Load().tryOut() }

// HugeAlign is how long a huge page is.
const HugeAlign = hugeAlign

// PageOut takes what f has mapped out of memory, behind its back.
func PageOut(f *File) error {
	m := f.mapping.Load()
	if m == nil {
		return errNotMapped
	}
	return advise(m.address(), uintptr(m.extent.Load()), AdvicePageOut)
}

var errNotMapped = errors.New("not mapped")

// MajorFaults returns how many major faults this process has had.
func MajorFaults() int64 { return majorFaults() }

// IsSparing reports whether f is on a file system in memory, without a disk to flush to.
func IsSparing(f *File) bool {
	m := f.mapping.Load()
	return m != nil && m.sparing
}
