package mmapio

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// FuzzRanges compares what is done with offsets, lengths and pages with numbers that have no
// borders, and the residency with its model.
func FuzzRanges(f *testing.F) {
	for _, off := range []int64{0, 1, 4095, 4096, 65_537, -1, math.MinInt64, math.MaxInt64, math.MaxInt64 - 4095} {
		for _, n := range []int64{0, 1, 4096, 65_535, -1, math.MaxInt64} {
			f.Add(off, n, uint8(12), uint64(off+n))
		}
	}
	f.Fuzz(func(t *testing.T, off, n int64, shift uint8, seed uint64) {
		unit := int64(1) << (shift % 22)
		most, bigUnit := big.NewInt(math.MaxInt64), big.NewInt(unit)
		up := func(n *big.Int) int64 { // to a unit, as far as an int64 can count
			rest := new(big.Int).Mod(n, bigUnit)
			if rest.Sign() != 0 {
				n = new(big.Int).Add(n, new(big.Int).Sub(bigUnit, rest))
			}
			if n.Cmp(most) > 0 {
				return math.MaxInt64
			}
			return n.Int64()
		}
		if got, want := AlignUp(off, unit), up(big.NewInt(off)); got != want {
			t.Fatalf("AlignUp(%d, %d) = %d, want %d", off, unit, got, want)
		}
		s, err := spanOf(off, n)
		if (err == nil) != (off >= 0 && n >= 0) {
			t.Fatalf("spanOf(%d, %d): %v", off, n, err)
		}
		if err == nil {
			end := new(big.Int).Add(big.NewInt(off), big.NewInt(n))
			if end.Cmp(most) > 0 {
				end = most
			}
			if s.from != off || s.to != end.Int64() {
				t.Fatalf("spanOf(%d, %d) = %v", off, n, s)
			}
			wide := s.widen(unit)
			if wide.from > s.from || s.from-wide.from >= unit || wide.from%unit != 0 || wide.to != up(end) {
				t.Fatalf("%v in units of %d is %v", s, unit, wide)
			}
			if got := wide.clip(s); got != s {
				t.Fatalf("%v in %v is %v", wide, s, got)
			}
			size := int64(seed >> 1)
			inside := new(big.Int).Add(big.NewInt(off), big.NewInt(n)).Cmp(big.NewInt(size)) <= 0
			if err := checkRange(off, n, size); (err == nil) != inside {
				t.Fatalf("%d bytes at %d of %d: %v", n, off, size, err)
			}
		}
		page := []int{4 << 10, 16 << 10, 64 << 10}[shift%3]
		againstModel(t, page, rand.New(rand.NewPCG(seed, uint64(off))))
	})
}
