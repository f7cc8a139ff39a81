package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report is all that a run has measured.
type report struct {
	Command string   `json:"command"`
	Machine machine  `json:"machine"`
	Rounds  int      `json:"rounds"` // at most: a row that takes long has fewer
	Slice   duration `json:"slice"`  // how long a side has its turn
	Took    duration `json:"took"`
	Rows    []result `json:"rows"`
}

// A duration is a time.Duration that is a text in JSON.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// A result is what was measured in one row.
type result struct {
	ID          string       `json:"id"`
	Variant     string       `json:"variant,omitempty"`
	What        string       `json:"what"`
	Curve       *curve       `json:"curve,omitempty"`
	X           float64      `json:"x,omitempty"`
	Skipped     string       `json:"skipped,omitempty"`  // the reason
	Failed      string       `json:"failed,omitempty"`   // the error
	LeftOut     []absent     `json:"left_out,omitempty"` // sides that the row does without
	Rounds      int          `json:"rounds,omitempty"`
	Took        duration     `json:"took"` // with all that comes before the first round
	BytesEach   int          `json:"bytes_per_op,omitempty"`
	Sides       []timing     `json:"sides,omitempty"`
	Comparisons []comparison `json:"comparisons,omitempty"`
	Limits      []bound      `json:"limits,omitempty"`
	Figures     []counted    `json:"figures,omitempty"`
	Excesses    []excess     `json:"excesses,omitempty"`
}

// An absent is a side that could not be opened, and why.
type absent struct {
	Side   string `json:"side"`
	Reason string `json:"reason"`
}

// A timing is how long a side took for one operation.
type timing struct {
	Side string `json:"side"`
	Runs int    `json:"ops_per_round"`
	spread
	NanosecondsEach []float64 `json:"ns_per_op"` // by round
	// Delays are what the row measured one by one in all rounds, beside.
	Delays []percentile `json:"delays,omitempty"`
}

// A percentile is the value that so many per cent of a sample do not exceed.
type percentile struct {
	Percent     float64 `json:"percent"`
	Nanoseconds float64 `json:"ns"`
}

// A comparison is the ratio between two sides: of their speeds, or of their times.
type comparison struct {
	Of      string `json:"of"`
	Against string `json:"against"`
	InTime  bool   `json:"in_time"`
	spread
	Goal    string `json:"goal,omitempty"`
	Reached *bool  `json:"reached,omitempty"`
}

// A bound is the time that one operation of a side took, and may take at most.
type bound struct {
	Of string `json:"of"`
	spread
	Limit   float64 `json:"limit_ns"`
	Reached bool    `json:"reached"`
}

// A counted is the figure of a side.
type counted struct {
	Side   string  `json:"side"`
	Figure string  `json:"figure"`
	Value  float64 `json:"value"`
}

// An excess is by how much the figure of one side is above another's.
type excess struct {
	Figure  string   `json:"figure"`
	Of      string   `json:"of"`
	Against string   `json:"against"`
	Values  [2]int64 `json:"values"`
	By      int64    `json:"by"`
	Limit   *float64 `json:"limit,omitempty"`
	Reached *bool    `json:"reached,omitempty"`
}

// progress hears of what is going on.
type progress interface {
	begin(steps int)
	row(name string)
	step(steps int)
	end()
}

// measure runs every row. A row that cannot be set up here is skipped with the
// reason. One with any other failure, above all that sides disagree about what they
// read or wrote, has failed: the report has its error, and the next row is run.
// Where no next row can be, as after an interruption, the error comes with the report of
// the rows before.
func measure(w *workspace, rows []row, rounds int, slice time.Duration, p progress) (rep report, err error) {
	began := time.Now()
	rep = report{Rounds: rounds, Slice: duration(slice)}
	defer func() { rep.Took = duration(time.Since(began).Round(time.Millisecond)) }()
	steps := 0
	for i := range rows {
		steps += rows[i].most(rounds)
	}
	p.begin(steps)
	defer p.end()
	for i := range rows {
		r := &rows[i]
		p.row(r.name())
		start := time.Now()
		res, err := measureRow(w, r, r.most(rounds), slice, p)
		res.Took = duration(time.Since(start).Round(time.Millisecond))
		// Whatever the row made of it: an interruption ends its sides as well.
		if ended := context.Cause(w.ctx); ended != nil {
			ended = fmt.Errorf("%w in row %s, after %d of %d rows", ended, r.name(), i, len(rows))
			if errors.Is(err, errNotUndone) {
				ended = errors.Join(ended, err)
			}
			return rep, ended
		}
		// The next row would find what is left.
		if left := w.clear(); left != nil || errors.Is(err, errNotUndone) {
			return rep, fmt.Errorf("%s: %w", r.name(), errors.Join(err, left))
		}
		if err != nil {
			res = result{ID: res.ID, Variant: res.Variant, What: res.What, Curve: res.Curve, X: res.X, Took: res.Took, LeftOut: res.LeftOut, Failed: err.Error()}
		}
		rep.Rows = append(rep.Rows, res)
	}
	return rep, nil
}

// errNotUndone is of a row that has left the machine as it set it up.
var errNotUndone = errors.New("what the row has set up is still there")

// errFailedRows is of a comparison that some rows are missing from.
var errFailedRows = errors.New("rows have failed")

// failure tells which rows have failed; it is nil if none has.
func (rep *report) failure() error {
	var failed []string
	for i := range rep.Rows {
		if r := &rep.Rows[i]; r.Failed != "" {
			failed = append(failed, r.name())
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d %w: %s", len(failed), len(rep.Rows), errFailedRows, strings.Join(failed, ", "))
}

// most is how many rounds a row has where all rows have so many at most.
func (r *row) most(rounds int) int {
	if r.rounds > 0 {
		return min(r.rounds, rounds)
	}
	return rounds
}

func measureRow(w *workspace, r *row, rounds int, slice time.Duration, p progress) (result, error) {
	res := result{ID: r.id, Variant: r.variant, What: r.what, BytesEach: r.bytes, Curve: r.curve, X: r.x, Rounds: rounds}
	if err := context.Cause(w.ctx); err != nil {
		return res, err
	}
	if have := runtime.GOMAXPROCS(0); have < r.cpus {
		res.Skipped = fmt.Sprintf("needs %d processors, has %d", r.cpus, have)
		p.step(rounds)
		return res, nil
	}
	if r.figures != nil {
		defer p.step(rounds)
		return countRow(w, r, res), nil
	}
	return timeRow(w, r, res, rounds, slice, p)
}

// countRow counts the figures of every side.
func countRow(w *workspace, r *row, res result) result {
	values := make(map[[2]string]figure)
	for _, s := range r.sides {
		figures, err := r.figures(w, s.hold)
		if err != nil {
			res.Skipped = fmt.Sprintf("%s: %v", s.name, err)
			return res
		}
		for _, f := range figures {
			values[[2]string{s.name, f.name}] = f
			res.Figures = append(res.Figures, counted{s.name, f.name, f.value})
		}
	}
	for _, c := range r.counts {
		of, ok := values[[2]string{c.of, c.figure}]
		if !ok {
			continue // this system does not tell
		}
		against := values[[2]string{c.against, c.figure}]
		e := excess{
			Figure: c.figure, Of: c.of, Against: c.against,
			Values: [2]int64{int64(of.value), int64(against.value)},
			By:     int64(of.value - against.value),
			Limit:  c.limit,
		}
		if c.limit != nil {
			reached := of.value-against.value <= *c.limit
			e.Reached = &reached
		}
		res.Excesses = append(res.Excesses, e)
	}
	return res
}

// timeRow lets the sides take turns.
func timeRow(w *workspace, r *row, res result, rounds int, slice time.Duration, p progress) (_ result, err error) {
	if r.around != nil {
		undo, reason := r.around()
		if reason != nil {
			res.Skipped = reason.Error()
			p.step(rounds)
			return res, nil
		}
		defer func() {
			if e := undo(); e != nil {
				err = errors.Join(err, fmt.Errorf("%w: %w", errNotUndone, e))
			}
		}()
	}
	var open []opened
	defer func() {
		for _, s := range open {
			err = errors.Join(err, s.end())
		}
	}()
	for _, s := range r.sides {
		session, err := s.open(w)
		switch {
		case err == nil:
			open = append(open, opened{s.name, session})
		case s.optional:
			res.LeftOut = append(res.LeftOut, absent{s.name, err.Error()})
		default:
			res.Skipped = fmt.Sprintf("%s: %v", s.name, err)
			p.step(rounds)
			return res, nil
		}
	}
	if err := agree(r, open); err != nil {
		return res, err
	}
	runs := make([]int, len(open))
	for i, s := range open {
		if runs[i] = min(r.ops, w.ops); r.ops > 0 {
			continue
		}
		if runs[i], err = calibrate(s.session, slice); err != nil {
			return res, fmt.Errorf("%s: %w", s.name, err)
		}
	}

	each := make(map[string][]float64) // by side, by round
	delays := make(map[string][]float64)
	var order []int
	for round := range rounds {
		// In any order, and then the other way round: who always comes after another process, or
		// after one that leaves the caches to it in some state, would be measured with that.
		if round%2 == 0 {
			order = rand.Perm(len(open))
		} else {
			slices.Reverse(order)
		}
		for _, i := range order {
			if err := context.Cause(w.ctx); err != nil {
				return res, err
			}
			s := open[i]
			took, err := timed(s.session, runs[i])
			if err != nil {
				return res, fmt.Errorf("%s: %w", s.name, err)
			}
			each[s.name] = append(each[s.name], float64(took)/float64(runs[i]))
			if s.delays != nil {
				for _, d := range s.delays() {
					delays[s.name] = append(delays[s.name], float64(d))
				}
			}
		}
		p.step(1)
	}

	for i, s := range open {
		res.Sides = append(res.Sides, timing{s.name, runs[i], spreadOf(each[s.name]), each[s.name], percentilesOf(delays[s.name])})
	}
	for _, l := range r.limits {
		took := spreadOf(each[l.of])
		res.Limits = append(res.Limits, bound{l.of, took, l.nanoseconds, took.Median <= l.nanoseconds})
	}
	for _, c := range r.pairs {
		if group := r.groups[c.against]; group != nil {
			c.against = fastest(each, group)
		}
		if each[c.of] != nil && each[c.against] != nil { // an optional side may be missing
			res.Comparisons = append(res.Comparisons, compare(c, each[c.of], each[c.against]))
		}
	}
	return res, nil
}

// An opened is a side that is measured.
type opened struct {
	name string
	*session
}

// fastest returns which of the sides that were measured took the least time, or nothing if
// none was.
func fastest(each map[string][]float64, sides []string) string {
	best, least := "", math.Inf(1)
	for _, name := range sides {
		if times := each[name]; times != nil {
			if median := spreadOf(times).Median; median < least {
				best, least = name, median
			}
		}
	}
	return best
}

// compare relates the times of one side to another's.
func compare(c pair, of, against []float64) comparison {
	res := comparison{Of: c.of, Against: c.against}
	if c.goal == nil || !c.goal.inTime {
		res.spread = spreadOf(ratios(against, of))
	} else {
		res.InTime = true
		res.spread = spreadOf(ratios(of, against))
	}
	if c.goal != nil {
		reached := c.goal.reached(res.Median)
		res.Goal, res.Reached = c.goal.String(), &reached
	}
	return res
}

// agree lets every side do the same operations, first one by one, then many at
// once, and checks that they read and wrote the same.
func agree(r *row, sides []opened) error {
	single, many := 64, 1000
	if r.check > 0 {
		single, many = min(single, r.check), r.check
	} else if r.bytes > 0 {
		const enough = 32 * miB // or large operations would take minutes
		single, many = max(1, min(single, enough/r.bytes)), max(1, min(many, enough/r.bytes))
	}
	var first uint64
	var firstName string
	for _, s := range sides {
		if s.unseen {
			continue
		}
		sum := uint64(0)
		for range single {
			one, err := s.do(1)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			sum = sum*31 + one
		}
		all, err := s.do(many)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		sum = sum*31 + all
		if s.file != "" {
			file, err := sumFile(s.files, s.file, s.from)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			sum = sum*31 + file
		}
		if firstName == "" {
			first, firstName = sum, s.name
		} else if sum != first {
			return fmt.Errorf("%s and %s disagree: checksums %016x and %016x", firstName, s.name, first, sum)
		}
	}
	return nil
}

// calibrate returns how many operations take about as long as slice. It warms the
// side up on the way. One slow try means little, so the fastest of some counts.
func calibrate(s *session, slice time.Duration) (int, error) {
	const tries = 3
	for n := 1; ; n *= 2 {
		fastest := time.Duration(math.MaxInt64)
		for range tries {
			took, err := timed(s, n)
			if err != nil {
				return 0, err
			}
			if fastest = min(fastest, took); fastest < slice/2 {
				break
			}
		}
		if fastest >= slice/2 {
			return max(1, int(float64(n)*float64(slice)/float64(fastest))), nil
		}
	}
}

// timed returns how long n operations take.
func timed(s *session, n int) (time.Duration, error) {
	if s.prepare != nil {
		if err := s.prepare(); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	_, err := s.run(n)
	took := time.Since(began)
	if s.took != nil {
		took = s.took(n)
	}
	return took, err
}
