package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What follows is read off a report by every form that it is written in.

// conditions tells how a report was measured, beside the machine.
func (rep *report) conditions() []string {
	all := []string{fmt.Sprintf("%d rounds, each side %v at a time, in turns; %v in all",
		rep.Rounds, time.Duration(rep.Slice), time.Duration(rep.Took).Round(time.Second))}
	if rep.Rounds < leastRounds {
		all = append(all, fmt.Sprintf("fewer than %d rounds: these ratios are a hint, not a result", leastRounds))
	}
	return all
}

// remarks tells what is not in a report, and sums up its goals.
func (rep *report) remarks() []string {
	type remark struct{ id, text string }
	var order []remark
	names := make(map[remark][]string) // of the rows: many may have one reason
	add := func(r *result, text string) {
		key := remark{r.ID, text}
		if names[key] == nil {
			order = append(order, key)
		}
		names[key] = append(names[key], r.name())
	}
	skipped, failed := 0, 0
	for i := range rep.Rows {
		switch r := &rep.Rows[i]; {
		case r.Skipped != "":
			skipped++
			add(r, "skipped: "+r.Skipped)
		case r.Failed != "":
			failed++
			add(r, "failed: "+r.Failed)
		}
	}
	for i := range rep.Rows {
		for _, a := range rep.Rows[i].LeftOut {
			add(&rep.Rows[i], fmt.Sprintf("without %s: %s", a.Side, a.Reason))
		}
	}
	var all []string
	for _, key := range order {
		name := names[key][0]
		if n := len(names[key]); n > 1 {
			name = fmt.Sprintf("%s (%d rows)", key.id, n)
		}
		all = append(all, name+" "+key.text)
	}
	reached, missed := rep.goals()
	return append(all, fmt.Sprintf("goals: %d reached, %d missed; rows skipped: %d, failed: %d", reached, missed, skipped, failed))
}

// goals counts those reached and those missed.
func (rep *report) goals() (reached, missed int) {
	count := func(goal *bool) {
		switch {
		case goal == nil:
		case *goal:
			reached++
		default:
			missed++
		}
	}
	for _, r := range rep.Rows {
		for _, l := range r.Limits {
			count(&l.Reached)
		}
		for _, c := range r.Comparisons {
			count(c.Reached)
		}
		for _, e := range r.Excesses {
			count(e.Reached)
		}
	}
	return reached, missed
}

// table returns the rows that are not points of curves.
func (rep *report) table() []result {
	return slices.DeleteFunc(slices.Clone(rep.Rows), func(r result) bool { return r.Curve != nil })
}

// drawn is a curve with what was measured for it.
type drawn struct {
	*curve
	id     string
	sides  []string // in the order of the rows
	points []point
}

// A point is what the sides took at x, for one operation. A side may be missing.
type point struct {
	x    float64
	took map[string]timing
}

// curves returns the curves of a report, in its order. Rows that were skipped or have failed are
// no points.
func (rep *report) curves() []drawn {
	var all []drawn
	for _, r := range rep.Rows {
		if r.Curve == nil || r.missing() != "" {
			continue
		}
		i := slices.IndexFunc(all, func(d drawn) bool { return d.id == r.ID })
		if i < 0 {
			i = len(all)
			all = append(all, drawn{curve: r.Curve, id: r.ID})
		}
		d, p := &all[i], point{r.X, make(map[string]timing)}
		for _, s := range r.Sides {
			p.took[s.Side] = s
			if !slices.Contains(d.sides, s.Side) {
				d.sides = append(d.sides, s.Side)
			}
		}
		d.points = append(d.points, p)
	}
	return all
}

// label prints x.
func (c *curve) label(x float64) string {
	if c.Bytes {
		return size(int64(x))
	}
	return fmt.Sprint(x)
}

// size prints a number of bytes as people do.
func size(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {miB, "MiB"}, {kiB, "KiB"}} {
		if n >= unit.bytes && n%unit.bytes == 0 {
			return fmt.Sprintf("%d %s", n/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// name is the identifier and the variant.
func (r *result) name() string { return strings.TrimSuffix(r.ID+"/"+r.Variant, "/") }

// missing tells what became of a row that was not measured; it is empty for one that was.
func (r *result) missing() string {
	switch {
	case r.Skipped != "":
		return "skipped"
	case r.Failed != "":
		return "failed"
	}
	return ""
}

// medians returns what one operation of each side took.
func (r *result) medians() map[string]float64 {
	times := make(map[string]float64)
	for _, s := range r.Sides {
		times[s.Side] = s.Median
	}
	return times
}
