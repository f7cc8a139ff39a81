package mmapio

import "sync/atomic"

// residency remembers which pages of a mapping are known to be in memory. It is a
// hint: where it is wrong, a copy takes longer or goes the true path.
//
// It counts in granules of 4 KiB whatever the page size is, and widens what it
// learns to whole pages.
type residency struct {
	granules []atomic.Uint32 // a bit a granule
	asked    []atomic.Uint32 // a bit a neighbourhood: the kernel was asked about it
	tried    []atomic.Uint32 // the same: whether it pays to ask was found out once, and it did not
	pageSize uint64
}

const (
	granuleShift       = 12
	neighbourhoodShift = 21
	neighbourhood      = 1 << neighbourhoodShift
)

func newResidency(length int64, pageSize int) residency {
	granules := uint64(length+1<<granuleShift-1) >> granuleShift
	neighbourhoods := uint64(length+neighbourhood-1) >> neighbourhoodShift
	return residency{
		granules: make([]atomic.Uint32, (granules+31)/32),
		asked:    make([]atomic.Uint32, (neighbourhoods+31)/32),
		tried:    make([]atomic.Uint32, (neighbourhoods+31)/32),
		pageSize: uint64(pageSize),
	}
}

// has reports whether the n > 0 bytes at off are known to be in memory.
func (r *residency) has(off, n uint64) bool {
	first, last := off>>granuleShift, (off+n-1)>>granuleShift
	if first == last {
		return r.granules[first/32].Load()&(1<<(first%32)) != 0
	}
	return r.hasAll(first, last)
}

func (r *residency) hasAll(first, last uint64) bool {
	for first <= last {
		mask := wordMask(first, last)
		if r.granules[first/32].Load()&mask != mask {
			return false
		}
		first = (first/32 + 1) * 32
	}
	return true
}

// wordMask returns the bits of the granules first to last that are in the word of first.
func wordMask(first, last uint64) uint32 {
	mask := ^uint32(0) << (first % 32)
	if last/32 == first/32 {
		mask &= ^uint32(0) >> (31 - last%32)
	}
	return mask
}

// learn notes that the n > 0 bytes at off have just been in memory.
func (r *residency) learn(off, n uint64) {
	from := off &^ (r.pageSize - 1)
	to := (off + n + r.pageSize - 1) &^ (r.pageSize - 1)
	first, last := from>>granuleShift, (to-1)>>granuleShift
	if limit := uint64(len(r.granules))*32 - 1; last > limit {
		last = limit
	}
	for first <= last {
		word, mask := &r.granules[first/32], wordMask(first, last)
		if word.Load()&mask != mask {
			word.Or(mask)
		}
		first = (first/32 + 1) * 32
	}
}

// forget clears everything that was learned. Neighbourhoods that the kernel was
// asked about stay asked: after memory was short, only what was really read counts.
func (r *residency) forget() {
	for i := range r.granules {
		if r.granules[i].Load() != 0 {
			r.granules[i].Store(0)
		}
	}
}

// forgetFrom clears what was learned of the bytes from off on.
func (r *residency) forgetFrom(off uint64) {
	first := (off + 1<<granuleShift - 1) >> granuleShift
	for i := first / 32; i < uint64(len(r.granules)); i++ {
		mask := ^uint32(0)
		if i == first/32 {
			mask <<= first % 32
		}
		if r.granules[i].Load()&mask != 0 {
			r.granules[i].And(^mask)
		}
	}
}

// forgetRange clears what was learned of the n bytes at off, and of the rest of their
// pages.
func (r *residency) forgetRange(off, n uint64) {
	from := off &^ (r.pageSize - 1)
	to := (off + n + r.pageSize - 1) &^ (r.pageSize - 1)
	first, last := from>>granuleShift, (to-1)>>granuleShift
	if limit := uint64(len(r.granules))*32 - 1; last > limit {
		last = limit
	}
	for first <= last {
		if word, mask := &r.granules[first/32], wordMask(first, last); word.Load()&mask != 0 {
			word.And(^mask)
		}
		first = (first/32 + 1) * 32
	}
}

// ask returns the neighbourhood of off if it pays to ask the kernel about it, which is done once.
// Pays finds that out; after it has said no twice it is not called again.
func (r *residency) ask(off uint64, pays func() bool) (from uint64, first bool) {
	index := off >> neighbourhoodShift
	word, bit := &r.asked[index/32], uint32(1)<<(index%32)
	if word.Load()&bit != 0 {
		return 0, false
	}
	if !pays() {
		if r.tried[index/32].Or(bit)&bit != 0 {
			word.Or(bit)
		}
		return 0, false
	}
	return index << neighbourhoodShift, word.Or(bit)&bit == 0
}

// inherit takes over what another residency of the same file has learned.
func (r *residency) inherit(old *residency) {
	for i := range min(len(r.granules), len(old.granules)) {
		r.granules[i].Store(old.granules[i].Load())
	}
	for i := range min(len(r.asked), len(old.asked)) {
		r.asked[i].Store(old.asked[i].Load())
		r.tried[i].Store(old.tried[i].Load())
	}
}
