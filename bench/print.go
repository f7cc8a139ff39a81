package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// writeTable prints a report for people.
func writeTable(out io.Writer, rep report) error {
	fmt.Fprint(out, rep.Machine)
	fmt.Fprintf(out, "%d rounds, each side %v at a time, in turns; %v in all\n", rep.Rounds, time.Duration(rep.Slice), time.Duration(rep.Took).Round(time.Second))
	if rep.Rounds < leastRounds {
		fmt.Fprintf(out, "fewer than %d rounds: these ratios are a hint, not a result\n", leastRounds)
	}
	fmt.Fprintln(out)

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROW\tWORKLOAD\tSIDE\t\tAGAINST\t\tRATIO\tQUARTILES\tGOAL\t")
	reached, missed := 0, 0
	var skipped []string
	tally := func(goal *bool) string {
		switch {
		case goal == nil:
			return ""
		case *goal:
			reached++
			return "reached"
		}
		missed++
		return "MISSED"
	}
	for _, r := range rep.Rows {
		id, what := r.ID, r.What
		line := func(cells string) {
			fmt.Fprintf(w, "%s\t%s\t%s\n", id, what, cells)
			id, what = "", ""
		}
		if r.Skipped != "" {
			line("skipped\t\t\t\t\t\t\t")
			skipped = append(skipped, fmt.Sprintf("%s skipped: %s\n", r.ID, r.Skipped))
			continue
		}
		times := make(map[string]float64)
		for _, s := range r.Sides {
			times[s.Side] = s.Median
		}
		for _, l := range r.Limits {
			line(fmt.Sprintf("%s\t%s\t\t\t\t%s .. %s\t<= %.4g ns\t%s",
				l.Of, nanoseconds(l.Median), digits(l.Q1), digits(l.Q3), l.Limit, tally(&l.Reached)))
		}
		for _, c := range r.Comparisons {
			unit := "speed"
			if c.InTime {
				unit = "time"
			}
			line(fmt.Sprintf("%s\t%s\t%s\t%s\t%s x %s\t%s .. %s\t%s\t%s",
				c.Of, nanoseconds(times[c.Of]), c.Against, nanoseconds(times[c.Against]),
				digits(c.Median), unit, digits(c.Q1), digits(c.Q3), c.Goal, tally(c.Reached)))
		}
		for _, e := range r.Excesses {
			what = r.What + ": " + e.Figure
			goal := ""
			if e.Limit != nil {
				goal = fmt.Sprintf("<= %+.0f", *e.Limit)
			}
			line(fmt.Sprintf("%s\t%d\t%s\t%d\t%+d\t\t%s\t%s",
				e.Of, e.Values[0], e.Against, e.Values[1], e.By, goal, tally(e.Reached)))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, reason := range skipped {
		fmt.Fprint(out, reason)
	}
	_, err := fmt.Fprintf(out, "goals: %d reached, %d missed; rows skipped: %d\n", reached, missed, len(skipped))
	return err
}

// nanoseconds prints the time of one operation.
func nanoseconds(ns float64) string { return digits(ns) + " ns" }

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

// writeJSON prints a report for programs.
func writeJSON(out io.Writer, rep report) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(rep)
}

func writeJSONFile(path string, rep report) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(writeJSON(f, rep), f.Close())
}

// newProgress returns a bar on out if that is a terminal.
func newProgress(out io.Writer) progress {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bar{out: f}
	}
	return silence{}
}

type silence struct{}

func (silence) begin(int)  {}
func (silence) row(string) {}
func (silence) step(int)   {}
func (silence) end()       {}

type bar struct {
	out io.Writer
	*progressbar.ProgressBar
}

func (b *bar) begin(steps int) {
	b.ProgressBar = progressbar.NewOptions(steps,
		progressbar.OptionSetWriter(b.out),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(200*time.Millisecond),
	)
}

func (b *bar) row(name string) { b.Describe(name) }
func (b *bar) step(steps int)  { b.Add(steps) }
func (b *bar) end()            { b.Clear() }
