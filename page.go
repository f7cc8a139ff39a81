package mmapio

import "math"

// PageSize returns the size of a page of memory in bytes, as [os.Getpagesize] does. Pages
// of a file on hugetlbfs are larger.
func PageSize() int { return pageSize }

// AlignUp returns the smallest multiple of alignment that is not less than n. The
// alignment need not be a power of two. An alignment below 1 aligns nothing: the result is
// n. Where no int64 is large enough the result is [math.MaxInt64], which is the one result
// that need not be a multiple.
func AlignUp(n, alignment int64) int64 {
	if alignment < 1 {
		return n
	}
	over := n % alignment
	switch {
	case over == 0:
		return n
	case over < 0:
		return n - over
	case n > math.MaxInt64-(alignment-over):
		return math.MaxInt64
	}
	return n + (alignment - over)
}

// span is a range of bytes.
type span struct{ from, to int64 }

// spanOf returns the n bytes at off, as far as an int64 can count them.
func spanOf(off, n int64) (span, error) {
	if off < 0 || n < 0 {
		return span{}, &RangeError{Offset: off, Length: n}
	}
	if off > math.MaxInt64-n {
		n = math.MaxInt64 - off
	}
	return span{off, off + n}, nil
}

func (s span) empty() bool { return s.from >= s.to }

// widen returns the units, a power of two, that s is in.
func (s span) widen(unit int64) span { return span{s.from &^ (unit - 1), AlignUp(s.to, unit)} }

// clip returns what of s is in o.
func (s span) clip(o span) span { return span{max(s.from, o.from), min(s.to, o.to)} }

// marked is a span and what holds for it.
type marked struct {
	span
	advice  Advice
	onFault bool   // of locked memory
	owner   uint64 // of locked memory
}

// spans are marked spans. Those that mean the same thing do not overlap.
type spans []marked

// split takes s away from those for which hit is true. It returns what is left, and what
// was taken away.
func (list spans) split(s span, hit func(marked) bool) (left, taken spans) {
	for _, m := range list {
		common := m.clip(s)
		if common.empty() || !hit(m) {
			left = append(left, m)
			continue
		}
		piece := m
		piece.span = common
		taken = append(taken, piece)
		for _, rest := range []span{{m.from, common.from}, {common.to, m.to}} {
			if !rest.empty() {
				piece.span = rest
				left = append(left, piece)
			}
		}
	}
	return left, taken
}

// join adds m, as a part of another one where that is possible.
func (list spans) join(m marked) spans {
	for i, other := range list {
		same := other
		same.span = m.span
		if same != m || other.to < m.from || m.to < other.from {
			continue
		}
		m.span = span{min(m.from, other.from), max(m.to, other.to)}
		return append(list[:i:i], list[i+1:]...).join(m)
	}
	return append(list, m)
}

// pages returns the mapped pages that hold s: where they begin, and how many bytes
// they are.
func (m *mapping) pages(s span) (address, n uintptr) {
	unit := int64(m.known.pageSize)
	s = s.clip(m.mapped())
	if s.empty() {
		return m.address(), 0
	}
	s = s.widen(unit)
	return m.address() + uintptr(s.from), uintptr(s.to - s.from)
}

// mapped returns what of the window shows the file.
func (m *mapping) mapped() span { return span{0, m.reach.Load()} }

// existing returns what of s is in the file, as far as is known.
func (m *mapping) existing(s span) span { return s.clip(span{0, m.extent.Load()}) }
