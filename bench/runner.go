package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"
)

// A report is all that a run has measured.
type report struct {
	Machine machine  `json:"machine"`
	Rounds  int      `json:"rounds"`
	Slice   duration `json:"slice"` // how long a side has its turn
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
	Skipped     string       `json:"skipped,omitempty"` // the reason
	BytesEach   int          `json:"bytes_per_op,omitempty"`
	Sides       []timing     `json:"sides,omitempty"`
	Comparisons []comparison `json:"comparisons,omitempty"`
	Limits      []bound      `json:"limits,omitempty"`
	Figures     []counted    `json:"figures,omitempty"`
	Excesses    []excess     `json:"excesses,omitempty"`
}

// A timing is how long a side took for one operation.
type timing struct {
	Side string `json:"side"`
	Runs int    `json:"ops_per_round"`
	spread
	NanosecondsEach []float64 `json:"ns_per_op"` // by round
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
// reason. Any other failure is an error, above all that sides disagree about what
// they read or wrote.
func measure(ctx context.Context, w *workspace, rows []row, rounds int, slice time.Duration, p progress) (report, error) {
	began := time.Now()
	rep := report{Rounds: rounds, Slice: duration(slice)}
	p.begin(len(rows) * rounds)
	defer p.end()
	for i := range rows {
		r := &rows[i]
		p.row(r.name())
		res, err := measureRow(ctx, w, r, rounds, slice, p)
		if err := errors.Join(err, w.clear()); err != nil {
			return report{}, fmt.Errorf("%s: %w", r.name(), err)
		}
		rep.Rows = append(rep.Rows, res)
	}
	rep.Took = duration(time.Since(began).Round(time.Millisecond))
	return rep, nil
}

func measureRow(ctx context.Context, w *workspace, r *row, rounds int, slice time.Duration, p progress) (result, error) {
	res := result{ID: r.id, Variant: r.variant, What: r.what, BytesEach: r.bytes}
	if err := ctx.Err(); err != nil {
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
	return timeRow(ctx, w, r, res, rounds, slice, p)
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
func timeRow(ctx context.Context, w *workspace, r *row, res result, rounds int, slice time.Duration, p progress) (_ result, err error) {
	if r.around != nil {
		undo, err := r.around()
		if err != nil {
			res.Skipped = err.Error()
			p.step(rounds)
			return res, nil
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	sessions := make([]*session, len(r.sides))
	defer func() {
		for _, s := range sessions {
			if s != nil {
				err = errors.Join(err, s.end())
			}
		}
	}()
	for i, s := range r.sides {
		if sessions[i], err = s.open(w); err != nil {
			res.Skipped = fmt.Sprintf("%s: %v", s.name, err)
			p.step(rounds)
			return res, nil
		}
	}
	if err := agree(r, sessions); err != nil {
		return res, err
	}
	runs := make([]int, len(sessions))
	for i, s := range sessions {
		if runs[i] = r.ops; r.ops > 0 {
			continue
		}
		if runs[i], err = calibrate(s, slice); err != nil {
			return res, fmt.Errorf("%s: %w", r.sides[i].name, err)
		}
	}

	each := make([][]float64, len(sessions)) // by side, by round
	for round := range rounds {
		for turn := range sessions {
			if err := ctx.Err(); err != nil {
				return res, err
			}
			i := (round + turn) % len(sessions)
			took, err := timed(sessions[i], runs[i])
			if err != nil {
				return res, fmt.Errorf("%s: %w", r.sides[i].name, err)
			}
			each[i] = append(each[i], float64(took)/float64(runs[i]))
		}
		p.step(1)
	}

	bySide := make(map[string][]float64)
	for i, s := range r.sides {
		bySide[s.name] = each[i]
		res.Sides = append(res.Sides, timing{s.name, runs[i], spreadOf(each[i]), each[i]})
	}
	for _, l := range r.limits {
		took := spreadOf(bySide[l.of])
		res.Limits = append(res.Limits, bound{l.of, took, l.nanoseconds, took.Median <= l.nanoseconds})
	}
	for _, c := range r.pairs {
		res.Comparisons = append(res.Comparisons, compare(c, bySide[c.of], bySide[c.against]))
	}
	return res, nil
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
func agree(r *row, sessions []*session) error {
	const single, many = 64, 1000
	var first uint64
	for i, s := range sessions {
		sum := uint64(0)
		for range single {
			one, err := s.do(1)
			if err != nil {
				return fmt.Errorf("%s: %w", r.sides[i].name, err)
			}
			sum = sum*31 + one
		}
		all, err := s.do(many)
		if err != nil {
			return fmt.Errorf("%s: %w", r.sides[i].name, err)
		}
		sum = sum*31 + all
		if s.file != "" {
			file, err := sumFile(s.file)
			if err != nil {
				return fmt.Errorf("%s: %w", r.sides[i].name, err)
			}
			sum = sum*31 + file
		}
		if i == 0 {
			first = sum
		} else if sum != first {
			return fmt.Errorf("%s and %s disagree: checksums %016x and %016x", r.sides[0].name, r.sides[i].name, first, sum)
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
