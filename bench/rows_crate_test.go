package main

import (
	"slices"
	"strings"
	"testing"
)

// The side that has the goal beside the crate is the one that does what the crate does: slices
// of a View that is held for as_slice, a View for advice, and calls of File for all else. What
// else mmapio does in a row is compared, without a goal.
func TestLikeWithLike(t *testing.T) {
	like := func(name string) (side, other string) {
		switch {
		case strings.Contains(name, "as_slice"):
			return sideSlice, sideMmapio
		case strings.Contains(name, "owned_chunks"):
			return sideMmapio, sideReused
		case strings.Contains(name, "bench=advise"):
			return sideView, sideMmapio
		case strings.Contains(name, "read_into"):
			return sideMmapio, sideSlice
		}
		return sideMmapio, ""
	}
	seen := make(map[string]int)
	for _, r := range crateRows() {
		side, other := like(r.name())
		want := []pair{{side, sideCrate, faster(1)}}
		if other != "" {
			want = append(want, pair{other, sideCrate, nil})
		}
		seen[side+" "+other]++
		got := slices.DeleteFunc(slices.Clone(r.pairs), func(p pair) bool { return p.against != sideCrate })
		equal := slices.EqualFunc(got, want, func(a, b pair) bool {
			return a.of == b.of && (a.goal == nil) == (b.goal == nil) && (a.goal == nil || *a.goal == *b.goal)
		})
		if !equal {
			t.Errorf("%s compares %v, want %v", r.name(), got, want)
		}
		if other != "" && (!strings.Contains(r.what, side+":") && side != sideMmapio || other != sideMmapio && !strings.Contains(r.what, other+":")) {
			t.Errorf("%s does not say what its sides are: %s", r.name(), r.what)
		}
	}
	// 3 as_slice_ro, 3 of sequential_read, 4 of random_read, 1 of rw_views; 2 of owned_chunks; and
	// as many of read_into as of as_slice.
	if seen["mmapio-slice mmapio"] != 11 || seen["mmapio mmapio-reused"] != 2 || seen["mmapio mmapio-slice"] != 11 || seen["mmapio-view mmapio"] != 1 {
		t.Errorf("rows by sides: %v", seen)
	}
}

// A side that holds a View reads what ReadAt reads, and lets go of file and View at its end.
func TestHeldView(t *testing.T) {
	path := bytesFile(t, 2*pageSize)
	work := randomCopyWork(2*pageSize, 64, true)
	var sums []uint64
	for _, open := range []func(string, int64) (*session, error){work.mmapio, work.other.open} {
		s, err := open(path, 2*pageSize)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := s.run(100)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
		if err := s.end(); err != nil {
			t.Error(err)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("sums %x", sums)
	}
	if _, err := work.other.open(path, 4*pageSize); err == nil {
		t.Error("a View of more than there is: no error")
	}
}
