package main

import (
	"fmt"
	"io"
	"strings"
)

// writeMarkdown writes the table as Markdown, with the command that prints it. A row has one
// line, whose ratio is that of its first comparison; what else was compared is in the last column.
func writeMarkdown(out io.Writer, rep report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Printed by `%s`:\n", rep.Command)
	for _, line := range append(rep.Machine.lines(), rep.conditions()...) {
		fmt.Fprintf(&b, "%s.\n", line)
	}
	b.WriteString("A ratio is the median over the rounds, and its quartiles.\n")
	b.WriteString("\n| | workload | | compared with | ratio | goal | beside |\n|---|---|---|---|---|---|---|\n")
	for _, r := range rep.table() {
		line := func(what string, cells ...string) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.ID, cell(what), strings.Join(cells, " | "))
		}
		if missing := r.missing(); missing != "" {
			line(r.What, "", "", missing, "", cell(r.Skipped+r.Failed))
			continue
		}
		times := r.medians()
		named := func(side string) string { return fmt.Sprintf("%s %s", side, readable(times[side])) }
		goal := func(text string, reached *bool) string {
			if reached == nil {
				return ""
			}
			return text + ": " + verdict(reached)
		}
		var beside []string
		for i, c := range r.Comparisons {
			text := ratio(c)
			if i > 0 || len(r.Limits) > 0 {
				text = fmt.Sprintf("%s: %s", named(c.Against), text)
				if c.Of != r.Comparisons[0].Of {
					text = fmt.Sprintf("%s to %s", named(c.Of), text)
				}
				if c.Reached != nil {
					text += " (" + goal(c.Goal, c.Reached) + ")"
				}
				beside = append(beside, text)
			}
		}
		switch {
		case len(r.Limits) > 0:
			l := r.Limits[0]
			line(r.What, named(l.Of), "", "", goal(fmt.Sprintf("<= %.4g ns", l.Limit), &l.Reached), strings.Join(beside, "; "))
		case len(r.Comparisons) > 0:
			c := r.Comparisons[0]
			line(r.What, named(c.Of), named(c.Against), ratio(c), goal(c.Goal, c.Reached), strings.Join(beside, "; "))
		}
		for _, e := range r.Excesses {
			limit := ""
			if e.Limit != nil {
				limit = goal(fmt.Sprintf("<= %+.0f", *e.Limit), e.Reached)
			}
			line(r.What+": "+e.Figure, fmt.Sprintf("%s %d", e.Of, e.Values[0]), fmt.Sprintf("%s %d", e.Against, e.Values[1]), fmt.Sprintf("%+d", e.By), limit, "")
		}
	}
	b.WriteString("\n")
	for _, line := range rep.remarks() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// ratio prints the median of a comparison and its quartiles.
func ratio(c comparison) string {
	unit := "speed"
	if c.InTime {
		unit = "time"
	}
	return fmt.Sprintf("%s x %s (%s .. %s)", digits(c.Median), unit, digits(c.Q1), digits(c.Q3))
}

// cell keeps text inside a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(text)
}
