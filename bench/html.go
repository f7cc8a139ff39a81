package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"readable": readable,
	"digits":   digits,
	"ratio":    ratio,
	"verdict":  verdict,
	"medians":  func(r result) map[string]float64 { return r.medians() },
}).Parse(pageText))

// A page is what the template is filled with.
type page struct {
	Report     report
	Machine    []string
	Conditions []string
	Remarks    []string
	Table      []result
	Overview   plotted
	Curves     []figureOfCurve
	Delays     []figureOfDelays
	Reached    int
	Missed     int
}

// A legend names the colours of a figure.
type legend struct {
	Side   string
	Colour template.CSS
}

type figureOfCurve struct {
	drawn
	Legend []legend
	Plots  []plotted
	Rows   []pointRow
}

type pointRow struct {
	X     string
	Cells []string
}

// Sides are the columns of the table of a curve.
func (f figureOfCurve) Sides() []string { return f.sides }

type figureOfDelays struct {
	result
	Legend []legend
	Plot   plotted
	Rows   []pointRow
}

// shownPercentiles are those that the table below a distribution has.
var shownPercentiles = []float64{50, 90, 99, 99.9, 100}

// writeHTML writes a report as one page that needs nothing from anywhere else.
func writeHTML(out io.Writer, rep report) error {
	p := page{Report: rep, Machine: rep.Machine.lines(), Conditions: rep.conditions(), Remarks: rep.remarks(), Table: rep.table()}
	p.Reached, p.Missed = rep.goals()
	overview, err := plotOverview(p.Table)
	if err != nil {
		return err
	}
	p.Overview = overview
	for _, c := range rep.curves() {
		f := figureOfCurve{drawn: c, Legend: legendOf(c.sides)}
		speed, err := plotCurve(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.id, err)
		}
		f.Plots = append(f.Plots, speed)
		if slices.Contains(c.sides, sideOS) {
			against, err := plotAgainst(c, sideOS)
			if err != nil {
				return fmt.Errorf("%s: %w", c.id, err)
			}
			f.Plots = append(f.Plots, against)
		}
		for _, at := range c.points {
			row := pointRow{X: c.label(at.x)}
			for _, side := range c.sides {
				cell := ""
				if took, ok := at.took[side]; ok {
					cell = readable(took.Median)
				}
				row.Cells = append(row.Cells, cell)
			}
			f.Rows = append(f.Rows, row)
		}
		p.Curves = append(p.Curves, f)
	}
	for _, r := range rep.Rows {
		if !slices.ContainsFunc(r.Sides, func(s timing) bool { return len(s.Delays) > 0 }) {
			continue
		}
		plot, err := plotDelays(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name(), err)
		}
		f := figureOfDelays{result: r, Plot: plot}
		var sides []string
		for _, s := range r.Sides {
			sides = append(sides, s.Side)
			row := pointRow{X: s.Side}
			for _, percent := range shownPercentiles {
				for _, d := range s.Delays {
					if d.Percent == percent {
						row.Cells = append(row.Cells, readable(d.Nanoseconds))
					}
				}
			}
			f.Rows = append(f.Rows, row)
		}
		f.Legend = legendOf(sides)
		p.Delays = append(p.Delays, f)
	}
	return pageTemplate.Execute(out, p)
}

func legendOf(sides []string) []legend {
	var all []legend
	colours := palette(sides)
	for _, side := range sides {
		c := colours[side]
		all = append(all, legend{side, template.CSS(fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B))})
	}
	return all
}
