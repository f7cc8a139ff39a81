package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/afero"
)

// A row is one workload, done by several sides that are compared with each other.
// It is either timed or counted: it has pairs, or figures.
type row struct {
	id      string                                // as in the list of goals: P1
	variant string                                // what tells rows of one id apart: "size=4KiB"
	what    string                                // for people
	bytes   int                                   // how many one operation moves
	ops     int                                   // how many operations in one go, 0 for as many as there is time for
	cpus    int                                   // how many processors it takes, 0 for one
	check   int                                   // how many operations show that the sides agree, 0 for as many as their bytes suggest
	rounds  int                                   // how many rounds are enough, 0 for as many as all rows have
	full    bool                                  // it takes long: only when everything is measured, or it is asked for by name
	around  func() (undo func() error, err error) // sets the machine up; it may be nil
	sides   []side
	pairs   []pair              // which sides are compared
	groups  map[string][]string // names that stand for the fastest of some sides, in pairs
	limits  []limit

	// curve is the plot in which this row is the point at x; nil for a row of the table.
	curve *curve
	x     float64

	// figures counts instead of timing.
	figures func(w *workspace, open opener) ([]figure, error)
	counts  []count // which figures are compared
}

// A curve is a plot of rows that differ in one number. Such rows are measured when they
// are drawn, or asked for.
type curve struct {
	Title string   `json:"title"`
	What  string   `json:"what"` // for people
	Axis  string   `json:"axis"` // what x is
	Bytes bool     `json:"bytes,omitempty"`
	Y     quantity `json:"y"`
}

// A quantity is what is drawn of a measured time.
type quantity string

const (
	timeEach       quantity = "time per operation"
	eachSecond     quantity = "operations per second"
	bytesPerSecond quantity = "bytes per second" // of as many as x each
)

// A side does the workload of a row with one package.
type side struct {
	name string
	// A row does without an optional side that cannot be opened, and says so. Without any
	// other it is skipped.
	optional bool
	open     func(w *workspace) (*session, error) // for timed rows
	hold     opener                               // for counted rows
}

// A session is a side at work on its files.
type session struct {
	// prepare is called before every run, untimed; it may be nil.
	prepare func() error
	// run does n operations and returns a checksum of what they read, and whether
	// all went well. It goes on where the last run ended.
	run func(n int) (uint64, error)
	// took returns what counts as the time of the last run, of n operations; nil stands
	// for the time that it took.
	took func(n int) time.Duration
	// delays returns what the last run measured one by one, beside the time it took; it may be nil.
	delays func() []time.Duration
	// unseen tells that run cannot say what it read, as where another program reads.
	unseen bool
	// file has the result of a side that writes; it is empty for one that reads.
	file string
	from int64 // where in file the result begins
	// files is where file is, if not in the file system of the machine.
	files afero.Fs
	// close may be nil.
	close func() error
}

func (s *session) end() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// do prepares and runs.
func (s *session) do(n int) (uint64, error) {
	if s.prepare != nil {
		if err := s.prepare(); err != nil {
			return 0, err
		}
	}
	return s.run(n)
}

// A pair is one comparison: how the speed of one side relates to another's.
type pair struct {
	of, against string
	goal        *goal
}

// A limit is the time one operation of a side is to take at most, where there is nothing
// to compare it with.
type limit struct {
	of          string
	nanoseconds float64
}

// A goal is what a ratio is to reach.
type goal struct {
	inTime bool // the ratio is one of times, at most limit; otherwise of speeds, at least limit
	limit  float64
}

// faster is the goal of at least so many times the speed.
func faster(times float64) *goal { return &goal{limit: times} }

// within is the goal of at most so many times the time.
func within(times float64) *goal { return &goal{inTime: true, limit: times} }

func (g *goal) String() string {
	if g.inTime {
		return fmt.Sprintf("<= %.4g x time", g.limit)
	}
	return fmt.Sprintf(">= %.4g x speed", g.limit)
}

// reached tells whether a ratio, which is one of times or of speeds as the goal is,
// reaches it.
func (g *goal) reached(ratio float64) bool {
	if g.inTime {
		return ratio <= g.limit
	}
	return ratio >= g.limit
}

// A count is one comparison of figures: by how much one side's may exceed another's.
type count struct {
	figure      string
	of, against string
	limit       *float64
}

// A figure is something counted rather than timed.
type figure struct {
	name  string // and unit, as benchmarks name what they measure
	value float64
}

// rows returns every row, in the order of the goals; full makes the files of some longer.
func rows(full bool) []row {
	all := slices.Concat(readRows(), writeRows(), openRows(), coldRows(full), viewRows(), streamRows(), flushRows(full), programRows(full), crateRows(), curveRows(), fioRows())
	slices.SortStableFunc(all, func(a, b row) int { return cmp.Compare(a.order(), b.order()) })
	return all
}

// order puts goals first, by number, and then what has none.
func (r *row) order() int {
	var number int
	if _, err := fmt.Sscanf(r.id, "P%d", &number); err != nil {
		return math.MaxInt
	}
	return number
}

// name is the identifier and the variant of a row.
func (r *row) name() string {
	if r.variant == "" {
		return r.id
	}
	return r.id + "/" + r.variant
}

// versus compares mmapio with sides for which there is no goal.
func versus(sides ...string) []pair {
	var pairs []pair
	for _, s := range sides {
		pairs = append(pairs, pair{of: sideMmapio, against: s})
	}
	return pairs
}

// The names of the sides. They are parts of benchmark names, so without a slash.
const (
	sideMmapio   = "mmapio"
	sideOS       = "os"
	sideExp      = "xexp"
	sideMmapGo   = "mmap-go"
	sideCrate    = "mmap-io"
	sideMemmap2  = "memmap2"
	sideAferoOS  = "afero-os"
	sideAferoMem = "afero-mem"
	sideHeap     = "heap"
	sideBufio    = "bufio"
	sideBufio64  = "bufio-64KiB"
)
