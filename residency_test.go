package mmapio

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// model is residency done the plain way: a bool a granule.
type model struct {
	known []bool
	asked []bool
	tries []int // of asking, that did not pay
	page  int64
}

func always() bool { return true }

func newModel(length int64, page int) *model {
	granules := (length + 4095) / 4096
	return &model{
		known: make([]bool, (granules+31)/32*32), // whole words: a page may end behind the mapping
		asked: make([]bool, (length+neighbourhood-1)/neighbourhood),
		tries: make([]int, (length+neighbourhood-1)/neighbourhood),
		page:  int64(page),
	}
}

func (m *model) has(off, n int64) bool {
	for g := off / 4096; g <= (off+n-1)/4096; g++ {
		if !m.known[g] {
			return false
		}
	}
	return true
}

func (m *model) learn(off, n int64) {
	for page := off / m.page; page <= (off+n-1)/m.page; page++ {
		for g := page * m.page / 4096; g < (page+1)*m.page/4096; g++ {
			if g < int64(len(m.known)) {
				m.known[g] = true
			}
		}
	}
}

// forgetFrom forgets the granules that are wholly behind off.
func (m *model) forgetFrom(off int64) {
	for g := range m.known {
		if int64(g)*4096 >= off {
			m.known[g] = false
		}
	}
}

func (m *model) ask(off int64, pays bool) (int64, bool) {
	index := off / neighbourhood
	if m.asked[index] {
		return 0, false
	}
	if !pays {
		m.tries[index]++
		m.asked[index] = m.tries[index] == 2
		return 0, false
	}
	m.asked[index] = true
	return index * neighbourhood, true
}

func TestResidencyAgainstModel(t *testing.T) {
	for _, page := range []int{4 << 10, 16 << 10, 64 << 10} {
		t.Run(fmt.Sprint(page), func(t *testing.T) {
			for seed := range uint64(25) {
				againstModel(t, page, rand.New(rand.NewPCG(seed, uint64(page))))
			}
		})
	}
}

func againstModel(t *testing.T, page int, random *rand.Rand) {
	t.Helper()
	lengths := []int64{1, 4096, 4097, int64(page), 31 * 4096, 32 * 4096, 33 * 4096, 1 << 20, 9<<20 + 5, neighbourhood, 33 * neighbourhood}
	length := lengths[random.IntN(len(lengths))]
	r, m := newResidency(length, page), newModel(length, page)
	var history []string
	for range 300 {
		off := random.Int64N(length)
		n := 1 + random.Int64N(length-off)
		if random.IntN(3) > 0 {
			n = 1 + random.Int64N(min(length-off, 3*int64(page)))
		}
		switch random.IntN(20) {
		case 0:
			history = append(history, "forget")
			r.forget()
			m.forgetFrom(0)
		case 1, 2:
			history = append(history, fmt.Sprint("forgetFrom ", off))
			r.forgetFrom(uint64(off))
			m.forgetFrom(off)
		case 3:
			pays := random.IntN(3) == 0
			history = append(history, fmt.Sprint("ask ", off, pays))
			from, first := r.ask(uint64(off), func() bool { return pays })
			wantFrom, want := m.ask(off, pays)
			if int64(from) != wantFrom || first != want {
				t.Fatalf("length %d: ask(%d) = %d, %v, want %d, %v, after %v", length, off, from, first, wantFrom, want, history)
			}
		case 4:
			longer := length + random.Int64N(3<<20)
			history = append(history, fmt.Sprint("inherit ", longer))
			next, nextModel := newResidency(longer, page), newModel(longer, page)
			next.inherit(&r)
			copy(nextModel.known, m.known)
			copy(nextModel.asked, m.asked)
			copy(nextModel.tries, m.tries)
			r, m, length = next, nextModel, longer
		case 5, 6, 7, 8:
			history = append(history, fmt.Sprint("learn ", off, n))
			r.learn(uint64(off), uint64(n))
			m.learn(off, n)
		default:
			if got, want := r.has(uint64(off), uint64(n)), m.has(off, n); got != want {
				t.Fatalf("length %d: has(%d, %d) = %v, want %v, after %v", length, off, n, got, want, history)
			}
		}
	}
	for g := range (length + 4095) / 4096 {
		if got, want := r.has(uint64(g*4096), 1), m.has(g*4096, 1); got != want {
			t.Fatalf("length %d: granule %d: %v, want %v, after %v", length, g, got, want, history)
		}
	}
}

// inherit never takes more than there is room for.
func TestResidencyInheritsIntoShorter(t *testing.T) {
	old := newResidency(40*neighbourhood, 4096)
	old.learn(0, 40*neighbourhood)
	for off := uint64(0); off < 40*neighbourhood; off += neighbourhood {
		old.ask(off, always)
	}
	next := newResidency(8192, 4096)
	next.inherit(&old)
	if !next.has(0, 8192) {
		t.Error("what was known is lost")
	}
	if _, first := next.ask(0, always); first {
		t.Error("asks again")
	}
}

// Readers and writers of the bits do not disturb each other.
func TestResidencyRaces(t *testing.T) {
	const length = 1 << 20
	r := newResidency(length, 4096)
	done := make(chan bool)
	for i := range 4 {
		go func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			mine := uint64(i) * 4096 // every fourth granule is this goroutine's
			for range 2000 {
				at := mine + uint64(random.IntN(length/4/4096))*4*4096
				r.learn(at, 4096)
				if !r.has(at, 4096) {
					t.Error("learned but not known")
				}
				r.ask(at, always)
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
}

func TestAlignUp(t *testing.T) {
	for _, c := range []struct{ n, alignment, want int64 }{
		{0, 4096, 0}, {1, 4096, 4096}, {4095, 4096, 4096}, {4096, 4096, 4096}, {4097, 4096, 8192},
		{1, 1, 1}, {7, 1, 7}, {1<<40 + 1, 1 << 21, 1<<40 + 1<<21}, {65537, 65536, 131072},
	} {
		if got := alignUp(c.n, c.alignment); got != c.want {
			t.Errorf("alignUp(%d, %d) = %d, want %d", c.n, c.alignment, got, c.want)
		}
	}
}

func TestWindowFor(t *testing.T) {
	page := int64(pageSize)
	for _, size := range []int64{1, page - 1, page, page + 1, 100_000, reserveFrom - 1, reserveFrom, reserveFrom + 1, 2 << 20, 3<<20 + 1, 64 << 20, 1 << 30, 100 << 30} {
		for _, grown := range []bool{false, true} {
			got := windowFor(size, grown)
			if got < size || got%page != 0 {
				t.Errorf("windowFor(%d, %v) = %d: too small, or not whole pages", size, grown, got)
			}
			exact := !reservesAhead || size < reserveFrom && !grown
			if exact && got != alignUp(size, page) {
				t.Errorf("windowFor(%d, %v) = %d reserves", size, grown, got)
			}
			if !exact && (got < size+smallestReserve || got > alignUp(size, hugeAlign)+max(alignUp(size, hugeAlign), smallestReserve) || got > size+largestAhead+2*hugeAlign || got%hugeAlign != 0) {
				t.Errorf("windowFor(%d, %v) = %d", size, grown, got)
			}
		}
	}
}
