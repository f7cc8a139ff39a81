package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// writeTable prints a report for people.
func writeTable(out io.Writer, rep report) error {
	fmt.Fprint(out, rep.Machine)
	for _, line := range rep.conditions() {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintln(out)

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROW\tWORKLOAD\tSIDE\t\tAGAINST\t\tRATIO\tQUARTILES\tGOAL\t")
	for _, r := range rep.table() {
		id, what := r.ID, r.What
		line := func(cells string) {
			fmt.Fprintf(w, "%s\t%s\t%s\n", id, what, cells)
			id, what = "", ""
		}
		if missing := r.missing(); missing != "" {
			line(missing + "\t\t\t\t\t\t\t")
			continue
		}
		times := r.medians()
		for _, l := range r.Limits {
			line(fmt.Sprintf("%s\t%s\t\t\t\t%s .. %s\t<= %.4g ns\t%s",
				l.Of, readable(l.Median), digits(l.Q1), digits(l.Q3), l.Limit, verdict(&l.Reached)))
		}
		for _, c := range r.Comparisons {
			unit := "speed"
			if c.InTime {
				unit = "time"
			}
			line(fmt.Sprintf("%s\t%s\t%s\t%s\t%s x %s\t%s .. %s\t%s\t%s",
				c.Of, readable(times[c.Of]), c.Against, readable(times[c.Against]),
				digits(c.Median), unit, digits(c.Q1), digits(c.Q3), c.Goal, verdict(c.Reached)))
		}
		for _, e := range r.Excesses {
			what = r.What + ": " + e.Figure
			goal := ""
			if e.Limit != nil {
				goal = fmt.Sprintf("<= %+.0f", *e.Limit)
			}
			line(fmt.Sprintf("%s\t%d\t%s\t%d\t%+d\t\t%s\t%s",
				e.Of, e.Values[0], e.Against, e.Values[1], e.By, goal, verdict(e.Reached)))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range rep.curves() {
		if err := writeCurve(out, c); err != nil {
			return err
		}
	}
	fmt.Fprintln(out)
	for _, line := range rep.remarks() {
		fmt.Fprintln(out, line)
	}
	return nil
}

// writeCurve prints what the sides of a curve took at each of its points.
func writeCurve(out io.Writer, c drawn) error {
	fmt.Fprintf(out, "\n%s\n", c.Title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\t%s\t\n", c.Axis, strings.Join(c.sides, "\t"))
	for _, p := range c.points {
		fmt.Fprintf(w, "%s\t", c.label(p.x))
		for _, side := range c.sides {
			cell := ""
			if took, ok := p.took[side]; ok {
				cell = readable(took.Median)
			}
			fmt.Fprintf(w, "%s\t", cell)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// verdict tells whether a goal is reached, where there is one.
func verdict(reached *bool) string {
	switch {
	case reached == nil:
		return ""
	case *reached:
		return "reached"
	}
	return "MISSED"
}

// digits prints a number with two or three digits, and all before the point.
func digits(x float64) string {
	switch {
	case math.Abs(x) >= 100:
		return fmt.Sprintf("%.0f", x)
	case math.Abs(x) >= 10:
		return fmt.Sprintf("%.1f", x)
	case math.Abs(x) >= 0.1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

// readable prints a time in the unit that suits it.
func readable(ns float64) string { return inUnit(ns, digits) }

// inUnit prints a time in the unit that suits it.
func inUnit(ns float64, number func(float64) string) string {
	for _, unit := range []struct {
		ns   float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if ns >= unit.ns*0.9999 {
			return number(ns/unit.ns) + " " + unit.name
		}
	}
	return number(ns) + " ns"
}
