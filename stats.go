package mmapio

import (
	"sync/atomic"
	"unsafe"
)

// Stats tells what this package has done in this process: how much is mapped, and which
// calls were system calls and why. Counts never go down; what is in use now goes up and
// down. Private copies (see [WithCopyOnWrite]) have their mappings counted, and not their
// calls. The names in JSON are part of the interface.
type Stats struct {
	// Mappings is how many mappings of Files are in use now. Those made for a View alone
	// are not among them.
	Mappings int64 `json:"mappings"`
	// MappedBytes is the address space that these take up, which is more than is in memory.
	MappedBytes int64 `json:"mapped_bytes"`
	// RetainedBytes is the address space of all mappings, in use or not, which includes those
	// that Views keep and those that the garbage collector has yet to give back.
	RetainedBytes int64 `json:"retained_bytes"`
	// MappingsMade counts the mappings of Files that came into use.
	MappingsMade int64 `json:"mappings_made"`
	// MappingsRefused counts those that did not, because the system refused them or the
	// budget was used up. The file works without.
	MappingsRefused int64 `json:"mappings_refused"`

	// CallsUnmapped counts calls of Read, ReadAt, Write and WriteAt that were system calls
	// because the file was not mapped: not yet, not any more, or never.
	CallsUnmapped int64 `json:"calls_unmapped"`
	// CallsBeyond counts those that went beyond what was known to exist of a mapped file:
	// to its end, or appending to it.
	CallsBeyond int64 `json:"calls_beyond"`
	// CallsCold counts those for pages that were not known to be in memory.
	CallsCold int64 `json:"calls_cold"`
	// CallsShared counts sequential ones whose place the system alone knew: others can move
	// the position of the descriptor (see [File.Fd]), or the file is open with O_APPEND.
	CallsShared int64 `json:"calls_shared"`
	// CallsOther counts all other such calls, such as writes to files that are only read
	// through memory, under [Always] for example, the few that follow a flush, and calls
	// repeated after a fault.
	CallsOther int64 `json:"calls_other"`

	// Faults counts the memory faults that were caught: somebody had cut a file, a disk was
	// full or could not be read.
	Faults int64 `json:"faults"`
	// Forgotten counts how often everything that was known to be in memory was forgotten,
	// because memory was short.
	Forgotten int64 `json:"forgotten"`
	// Flushes counts the flushes that succeeded, those of policies, of Sync and of Views
	// among them, and FlushFailures those that failed.
	Flushes       int64 `json:"flushes"`
	FlushFailures int64 `json:"flush_failures"`
}

// ReadStats returns the counts of this process. It may be called at any time; calls that
// are under way may or may not be counted yet.
func ReadStats() Stats {
	var calls [reasons]int64
	for i := range counts.calls {
		for r := range reasons {
			calls[r] += counts.calls[i].by[r].Load()
		}
	}
	s := Stats{
		MappingsMade:    counts.made.Load(),
		MappingsRefused: counts.refused.Load(),
		CallsUnmapped:   calls[unmapped],
		CallsBeyond:     calls[beyond],
		CallsCold:       calls[cold],
		CallsShared:     calls[positionShared],
		CallsOther:      calls[otherwise],
		Faults:          counts.faults.Load(),
		Forgotten:       counts.forgotten.Load(),
		Flushes:         counts.flushes.Load(),
		FlushFailures:   counts.flushFailures.Load(),
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for e := range registry.entries {
		if !e.gone.Load() {
			s.RetainedBytes += e.length
		}
		if e.element != nil || e.kept {
			s.Mappings++
			s.MappedBytes += e.length
		}
	}
	return s
}

// reason is why a call took the true path.
type reason int

const (
	unmapped reason = iota
	beyond
	cold
	positionShared
	otherwise
	reasons
)

// counts has what only goes up. Calls of different Files are counted in different places,
// so that processors do not wait for each other.
var counts struct {
	calls                  [16]callCounts
	made, refused          atomic.Int64
	faults, forgotten      atomic.Int64
	flushes, flushFailures atomic.Int64
}

// callCounts has cache lines of its own.
type callCounts struct {
	by [reasons]atomic.Int64
	_  [128 - reasons*8]byte
}

// count counts a call of the true path, for n bytes at off or, where off is inKernel, at a
// position that is not known. It must come before what is learned from the call.
func (f *File) count(g glimpse, off int64, n int) {
	why := otherwise
	switch {
	case g.mapping == nil:
		why = unmapped
	case off < 0:
		why = positionShared
	case off > g.before-int64(n):
		why = beyond
	case n > 0 && !g.known.has(uint64(off), uint64(n)):
		why = cold
	}
	counts.calls[uintptr(unsafe.Pointer(f))>>9%uintptr(len(counts.calls))].by[why].Add(1)
}
