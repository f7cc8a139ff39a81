package mmapio

import (
	"container/list"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// registry knows all mappings of the process. It keeps their number within the
// budget, tells the Files that have the same file open when one of them cuts it,
// and makes all of them forget what is in memory when the kernel takes pages away.
//
// It holds mappings weakly: a File that is not closed but forgotten can be
// collected, and its mapping with it.
var registry struct {
	mu      sync.Mutex
	live    list.List           // of *entry: mappings in use, the oldest first
	files   map[fileID]*entry   // one of those of each file; entry.next are the others
	length  int64               // the sum of their lengths
	count   int                 // mappings whose addresses are not given back yet, in use or not
	bytes   int64               // the sum of their lengths
	makers  []*maker            // mappings being made
	cutting []*cutter           // files being cut
	entries map[*entry]struct{} // all whose addresses are not given back

	cuts atomic.Uint64 // files cut so far

	spentCount, spentBytes atomic.Int64 // sealed, and not given back yet

	budgetOnce  sync.Once
	maxMappings int
	maxBytes    int64
	pauseUntil  time.Time // no mappings until then: the kernel has refused one

	inUse      atomic.Int32 // len(live) and those kept, for those who need no lock to see that there is nothing to do
	collecting atomic.Bool

	trueReads   atomic.Uint32 // reads of the true path while a mapping was there
	checking    sync.RWMutex  // held to read by who has faults on purpose
	majorFaults atomic.Int64
	watching    atomic.Bool
}

// entry is what the registry knows of a mapping. It outlives it, and so does what
// pins the mapping.
type entry struct {
	mapping  weak.Pointer[mapping]
	name     string      // of the file
	info     fs.FileInfo // which file, for those in use
	off      int64       // where in the file the window begins
	address  uintptr
	length   int64
	writable bool
	since    time.Time     // when it came into use
	element  *list.Element // in registry.live, or nil
	next     *entry        // another one in use of the same file, or nil
	previous *entry
	counted  bool // in registry.count and registry.bytes
	kept     bool // in use until the File is closed: see keep
	leaving  bool // taken out of use, and soon retired

	pins  atomic.Int64       // what keeps the memory as it is; below zero when retired
	views atomic.Int64       // pins of Views, with pinsCopies and for private mappings
	owner weak.Pointer[File] // see writeBack; not set where that has no use for it
	going atomic.Bool        // being sealed or, with pinsCopies, unmapped
	gone  atomic.Bool        // unmapped early, with pinsCopies

	lockMu sync.Mutex
	locks  spans       // what of the memory is locked, from the start of the window
	locked atomic.Bool // by the File too, which keeps its mapping for that
}

// retiredPins is added to the pins of a retired mapping.
const retiredPins = -1 << 62

// pin keeps the memory as it is until unpin. It reports false, and has done nothing,
// when the mapping has been retired.
func (e *entry) pin() bool {
	return e.pins.Add(1) >= 0 || e.unpinned()
}

// unpinned gives a pin back and is false.
//
//go:noinline
func (e *entry) unpinned() bool {
	e.unpin()
	return false
}

func (e *entry) unpin() {
	if e.pins.Add(-1) == retiredPins {
		e.dispose()
	}
}

func (e *entry) retire() {
	e.pins.Add(retiredPins + 1) // first: see lock
	if e.locked.Load() {
		e.disown(ofFile) // Views may keep the memory
	}
	e.unpin()
}

// dispose lets go of the file once, when nothing pins the memory any more.
func (e *entry) dispose() {
	if !e.going.CompareAndSwap(false, true) {
		return
	}
	if pinsCopies {
		_ = sys.unmap(e.address, uintptr(e.length))
		e.gone.Store(true)
		return
	}
	registry.spentCount.Add(1)
	registry.spentBytes.Add(e.length)
	// When this fails the file stays mapped until the address range is given back.
	_ = sys.seal(e.address, uintptr(e.length))
}

// tenure is how long a mapping is kept at least when the budget is used up, so that
// files in use do not push each other out all the time.
const tenure = time.Second

// addEntry makes the addresses of a new mapping known.
func addEntry(e *entry) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if registry.entries == nil {
		registry.entries = make(map[*entry]struct{})
	}
	registry.entries[e] = struct{}{}
}

// entryOf returns the entry of the mapping that the address is in, or nil. With pinsCopies
// something else may be where a mapping was.
func entryOf(address uintptr) *entry {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for e := range registry.entries {
		if address-e.address < uintptr(e.length) && !(pinsCopies && e.going.Load()) {
			return e
		}
	}
	return nil
}

// entriesOf returns what of the memory of a File can have been stored to, pinned, also
// where it is retired and only Views keep it.
func entriesOf(owner weak.Pointer[File]) []*entry {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	var entries []*entry
	for e := range registry.entries {
		if e.owner == owner && e.writable && e.hold() {
			entries = append(entries, e)
		}
	}
	return entries
}

// hold is pin for memory that may be retired already, but is pinned by others.
func (e *entry) hold() bool {
	for {
		pins := e.pins.Load()
		if pins == retiredPins || e.going.Load() {
			return false
		}
		if e.pins.CompareAndSwap(pins, pins+1) {
			return true
		}
	}
}

// releaseEntry gives back the addresses of a mapping that nobody can hold any more,
// unless a View was forgotten: its bytes may still be in use.
func releaseEntry(e *entry) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if _, ok := registry.entries[e]; !ok {
		return // reclaim was here
	}
	removeLive(e)
	if pins := e.pins.Load(); pins != 0 && pins != retiredPins {
		return
	}
	delete(registry.entries, e)
	if !e.gone.Load() {
		_ = sys.unmap(e.address, uintptr(e.length))
		if e.going.Load() {
			registry.spentCount.Add(-1)
			registry.spentBytes.Add(-e.length)
		}
	}
	if e.counted {
		e.counted = false
		registry.count--
		registry.bytes -= e.length
	}
}

// removeLive takes an entry out of the list. The caller holds registry.mu.
func removeLive(e *entry) {
	if e.element != nil {
		registry.live.Remove(e.element)
		e.element = nil
		removeFromFile(e)
		registry.length -= e.length
		registry.inUse.Add(-1)
	}
	if e.kept {
		e.kept = false
		registry.inUse.Add(-1)
	}
}

// addToFile makes e one of the mappings of its file. The caller holds registry.mu.
func addToFile(e *entry) {
	if registry.files == nil {
		registry.files = make(map[fileID]*entry)
	}
	id := fileIDOf(e.info)
	if e.next = registry.files[id]; e.next != nil {
		e.next.previous = e
	}
	registry.files[id] = e
}

// removeFromFile undoes addToFile. The caller holds registry.mu.
func removeFromFile(e *entry) {
	switch {
	case e.previous != nil:
		e.previous.next = e.next
	case e.next != nil:
		registry.files[fileIDOf(e.info)] = e.next
	default:
		delete(registry.files, fileIDOf(e.info))
	}
	if e.next != nil {
		e.next.previous = e.previous
	}
	e.next, e.previous = nil, nil
}

// takeOut takes the mapping of e out of use. The caller holds registry.mu, and
// retires the mapping, if there is one, after letting go of it.
func takeOut(e *entry) *mapping {
	removeLive(e)
	m := e.mapping.Value()
	if m == nil || m.slot == nil || !m.slot.CompareAndSwap(m, nil) {
		return nil
	}
	e.leaving = true
	return m
}

func retireAll(mappings []*mapping) {
	for _, m := range mappings {
		m.retire()
	}
}

// maker stands for a mapping that is being made. Whoever cuts the file meanwhile spoils
// it, because the size that it was made for may be that before the cut.
type maker struct {
	info    fs.FileInfo // which file, once that is known
	spoiled bool
	started bool      // the system is asked for the memory
	ongoing []*cutter // cuts that had begun before
}

// cutter stands for a file that is being cut.
type cutter struct {
	info fs.FileInfo // nil where the file is not known
}

// beginMapping must be called before a file is asked for its size in order to map it.
// endMapping must follow. It reports false where no mapping is to be had now.
func beginMapping() (*maker, bool) {
	registry.budgetOnce.Do(setBudget)
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if !registry.pauseUntil.IsZero() && time.Now().Before(registry.pauseUntil) {
		return nil, false
	}
	m := &maker{ongoing: slices.Clone(registry.cutting)}
	registry.makers = append(registry.makers, m)
	return m, true
}

// identify says which file is to be mapped.
func (m *maker) identify(info fs.FileInfo) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	m.info = info
	for _, c := range m.ongoing {
		m.spoiled = m.spoiled || c.hits(info)
	}
}

// start must be called before the memory is asked for. It reports false when that has
// become useless.
func (m *maker) start() bool {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	m.started = !m.spoiled
	return m.started
}

// hits reports whether the cut may be of that file.
func (c *cutter) hits(info fs.FileInfo) bool {
	return c.info == nil || info == nil || os.SameFile(c.info, info)
}

// endMapping ends what beginMapping began. A mapping that was not published must have
// been retired before.
func endMapping(m *maker) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if i := slices.Index(registry.makers, m); i >= 0 {
		registry.makers = slices.Delete(registry.makers, i, i+1)
	}
}

// setBudget leaves at least half of what the system allows to the rest of the program: a mapping
// is up to two areas of memory, one of them reserved.
func setBudget() {
	mappings, bytes := addressLimits()
	registry.checking.Lock()
	registry.majorFaults.Store(sys.majorFaults()) // those before do not count
	registry.checking.Unlock()
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.maxMappings, registry.maxBytes = mappings/4, bytes/4
}

// publish puts m into use in slot, in place of what is there, unless the file was cut
// since by began or closed says that the File is no longer open. Older mappings make
// room for it where the budget is used up.
func publish(m *mapping, slot *atomic.Pointer[mapping], by *maker, closed *atomic.Bool) bool {
	registry.mu.Lock()
	if by.spoiled || closed.Load() {
		registry.mu.Unlock()
		return false
	}
	var retired []*mapping
	if old := slot.Load(); old != nil {
		removeLive(old.entry)
		old.entry.leaving = true
		retired = append(retired, old)
	}
	e := m.entry
	e.since = time.Now()
	for registry.live.Len() >= registry.maxMappings/2 || registry.length+e.length > registry.maxBytes/2 {
		oldest := oldestUnlocked()
		if oldest == nil || e.since.Sub(oldest.since) < tenure {
			break
		}
		if m := takeOut(oldest); m != nil {
			retired = append(retired, m)
		}
	}
	ok := registry.live.Len() < registry.maxMappings/2 && registry.length+e.length <= registry.maxBytes/2 &&
		registry.count < registry.maxMappings && registry.bytes+e.length <= registry.maxBytes
	crowded := !ok || registry.count-registry.live.Len() > registry.maxMappings/4
	if ok {
		e.info, e.counted = by.info, true
		e.element = registry.live.PushBack(e)
		addToFile(e)
		registry.length += e.length
		registry.inUse.Add(1)
		registry.count++
		registry.bytes += e.length
		m.slot = slot
		slot.Store(m)
		if closed.Load() { // only now: withdraw may have seen no mapping
			ok = false
			takeOut(e)
		}
	} else {
		for _, old := range retired {
			if old.slot == slot {
				slot.CompareAndSwap(old, nil)
			}
		}
	}
	registry.mu.Unlock()
	retireAll(retired)
	if crowded {
		collectSoon()
	}
	if ok {
		counts.made.Add(1)
		watchPressure()
	} else if !closed.Load() {
		counts.refused.Add(1)
	}
	return ok
}

// oldestUnlocked returns the oldest mapping in use that no File wants to have in memory,
// or nil. The caller holds registry.mu.
func oldestUnlocked() *entry {
	for element := registry.live.Front(); element != nil; element = element.Next() {
		if e := element.Value.(*entry); !e.locked.Load() {
			return e
		}
	}
	return nil
}

// collectSoon runs the garbage collector in the background, because only it can
// give back the addresses of retired mappings.
func collectSoon() {
	if registry.collecting.CompareAndSwap(false, true) {
		go func() {
			defer registry.collecting.Store(false)
			runtime.GC()
		}()
	}
}

// reclaimSpent is reclaim, where so much is to be had that it pays.
func reclaimSpent() {
	registry.budgetOnce.Do(setBudget)
	mappings, bytes := registry.spentCount.Load(), registry.spentBytes.Load()
	registry.mu.Lock()
	many := mappings > int64(registry.maxMappings/4) || bytes > registry.maxBytes/4
	registry.mu.Unlock()
	if many {
		reclaim()
	}
}

// reclaim gives back the addresses of mappings that nobody can hold any more, at once.
func reclaim() {
	runtime.GC()
	var dead []*entry
	registry.mu.Lock()
	for e := range registry.entries {
		if e.mapping.Value() == nil {
			dead = append(dead, e)
		}
	}
	registry.mu.Unlock()
	for _, e := range dead {
		releaseEntry(e)
	}
}

// relieve makes room after the kernel refused a mapping: half of those in use go, and
// no new one is made for a while. It allocates nothing, because the Go heap may be
// short of mappings too.
func relieve() {
	registry.mu.Lock()
	registry.pauseUntil = time.Now().Add(tenure)
	many := registry.live.Len() / 2
	registry.mu.Unlock()
	for range many {
		registry.mu.Lock()
		var m *mapping
		if oldest := oldestUnlocked(); oldest != nil {
			m = takeOut(oldest)
		}
		registry.mu.Unlock()
		if m != nil {
			m.retire()
		}
	}
	collectSoon()
}

// withdraw takes the mapping of slot out of use for good and marks the File closed.
func withdraw(slot *atomic.Pointer[mapping], closed *atomic.Bool) {
	closed.Store(true)
	if slot.Load() == nil {
		return // and publish sees that it is closed
	}
	registry.mu.Lock()
	m := slot.Load()
	if m != nil {
		m = takeOut(m.entry)
	}
	registry.mu.Unlock()
	if m != nil {
		m.retire()
	}
}

// keep puts m into use in slot until the File is closed: whatever it takes, because it is
// not a cache of the file, but what there is.
func keep(m *mapping, slot *atomic.Pointer[mapping]) {
	registry.mu.Lock()
	m.entry.kept = true
	registry.inUse.Add(1)
	m.slot = slot
	slot.Store(m)
	registry.mu.Unlock()
	counts.made.Add(1)
	watchPressure()
}

// drop takes m out of use, and reports whether it was in use. A later access may map the file
// again.
func drop(m *mapping) bool {
	registry.mu.Lock()
	if m.entry.kept {
		registry.mu.Unlock()
		return false
	}
	m = takeOut(m.entry)
	registry.mu.Unlock()
	if m == nil {
		return false
	}
	m.retire()
	return true
}

// cut runs change, which sets the size of the file that info describes, or of an
// unknown one if info is nil. All mappings in this process that reach further than size
// are retired before, so that no store can get lost behind the new end.
func cut(size int64, info fs.FileInfo, change func() error) error {
	c := &cutter{info: info}
	registry.mu.Lock()
	registry.cutting = append(registry.cutting, c)
	for _, m := range registry.makers {
		m.spoiled = m.spoiled || c.hits(m.info)
	}
	registry.mu.Unlock()
	registry.cuts.Add(1)
	retireBeyond(info, size)
	awaitUnmapped(info)
	err := change()
	retireBeyond(info, size) // what grew meanwhile
	registry.cuts.Add(1)
	registry.mu.Lock()
	registry.cutting = slices.DeleteFunc(registry.cutting, func(other *cutter) bool { return other == c })
	registry.mu.Unlock()
	return err
}

func retireBeyond(info fs.FileInfo, size int64) {
	if info == nil || registry.inUse.Load() == 0 {
		return
	}
	var retired []*mapping
	registry.mu.Lock()
	for e, next := registry.files[fileIDOf(info)], (*entry)(nil); e != nil; e = next {
		next = e.next
		if !os.SameFile(e.info, info) {
			continue
		}
		if m := e.mapping.Value(); m != nil && (m.cutTo(size) || mustUnmapToResize) {
			if m = takeOut(e); m != nil {
				retired = append(retired, m)
			}
		}
	}
	registry.mu.Unlock()
	retireAll(retired)
}

// awaitUnmapped returns when no mapping of the file is on its way, neither into use nor
// out of it: where a mapped file cannot be cut. What Views keep does stay.
func awaitUnmapped(info fs.FileInfo) {
	for mustUnmapToResize && onItsWay(info) {
		runtime.Gosched()
	}
}

func onItsWay(info fs.FileInfo) bool {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, m := range registry.makers {
		if m.started && os.SameFile(m.info, info) {
			return true
		}
	}
	for e := range registry.entries {
		if e.leaving && !e.gone.Load() && e.views.Load() == 0 && os.SameFile(e.info, info) {
			return true
		}
	}
	return false
}

// The kernel takes pages away without a word. Copies that hit such a page show as
// major faults of the process.
const (
	readsPerCheck   = 64
	tolerableFaults = 3
	shortestWatch   = 50 * time.Millisecond
	longestWatch    = time.Second
)

// noteTrueRead is called for every read of the true path on a mapped file.
func noteTrueRead() {
	if registry.trueReads.Add(1)%readsPerCheck == 0 {
		checkPressure()
	}
}

// checkPressure makes all mappings forget what is in memory if copies have been
// faulting. It reports whether they have.
func checkPressure() bool {
	if !registry.checking.TryLock() {
		return false
	}
	defer registry.checking.Unlock()
	faults := sys.majorFaults()
	fresh := faults - registry.majorFaults.Swap(faults)
	if fresh < tolerableFaults {
		return false
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for e := range registry.entries {
		if m := e.mapping.Value(); m != nil {
			m.tryOut() // first: nothing is learned from here on
			m.known.forget()
		}
	}
	counts.forgotten.Add(1)
	return true
}

// excuseFaults does what has major faults on purpose: they are no sign of pressure, and
// neither are those that others have meanwhile.
func excuseFaults(do func() error) error {
	registry.checking.RLock()
	defer registry.checking.RUnlock()
	err := do()
	registry.majorFaults.Store(sys.majorFaults())
	return err
}

// watchPressure checks now and then as long as there are mappings, because reads
// that all take the fast path never come by. The longer nothing happens, the
// rarer it looks.
func watchPressure() {
	if !seesFaults || !registry.watching.CompareAndSwap(false, true) {
		return
	}
	interval := shortestWatch
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if registry.inUse.Load() == 0 {
			registry.watching.Store(false)
			if registry.inUse.Load() > 0 {
				watchPressure()
			}
			return
		}
		if checkPressure() {
			interval = shortestWatch
		} else {
			interval = min(2*interval, longestWatch)
		}
		timer.Reset(interval)
	})
	timer.Reset(interval)
}
