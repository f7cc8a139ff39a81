package main

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The sizes of plots. A page scales them to its width.
const (
	plotWidth  = 16 * vg.Centimeter
	plotHeight = 10 * vg.Centimeter
)

// colours are those of the sides, the same in all plots; they can be told apart by
// people who do not see all colours (Okabe and Ito).
var colours = map[string]color.RGBA{
	sideMmapio:   {0x00, 0x72, 0xb2, 0xff},
	sideOS:       {0x22, 0x22, 0x22, 0xff},
	sideExp:      {0xe6, 0x9f, 0x00, 0xff},
	sideMmapGo:   {0xd5, 0x5e, 0x00, 0xff},
	sideBufio:    {0x00, 0x9e, 0x73, 0xff},
	sideAferoOS:  {0x99, 0x99, 0x99, 0xff},
	sideAferoMem: {0xcc, 0x79, 0xa7, 0xff},
}

// others are the colours of sides that have none of their own.
var others = []color.RGBA{
	{0x56, 0xb4, 0xe9, 0xff}, {0x8c, 0x56, 0x4b, 0xff}, {0xbc, 0xbd, 0x22, 0xff}, {0x7f, 0x3c, 0x8d, 0xff},
}

// palette gives each side its colour.
func palette(sides []string) map[string]color.RGBA {
	chosen, next := make(map[string]color.RGBA), 0
	for _, side := range sides {
		c, ok := colours[side]
		if !ok {
			c = others[next%len(others)]
			next++
		}
		chosen[side] = c
	}
	return chosen
}

var grey, faint = color.Gray{0x66}, color.Gray{0xe2}

// A plotted is a plot as the element of a page, and what its y axis is.
type plotted struct {
	Caption string
	Element template.HTML
}

// newPlot returns an empty plot with a grid.
func newPlot(x string) *plot.Plot {
	p := plot.New()
	letters := func(size font.Length) font.Font {
		return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font, axis.Label.TextStyle.Color = letters(11), grey
		axis.Tick.Label.Font, axis.Tick.Label.Color = letters(10), grey
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = grey, grey
		axis.Padding = 6
	}
	p.X.Label.Text = x
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = faint, faint
	p.Add(grid)
	return p
}

// ticks are marks at given places.
func ticks(places []float64, label func(float64) string) plot.ConstantTicks {
	var all plot.ConstantTicks
	for _, at := range places {
		all = append(all, plot.Tick{Value: at, Label: label(at)})
	}
	return all
}

// logarithmic makes an axis one, with a mark at each power of ten, or at 1, 2 and 5 times
// these where there are few.
func logarithmic(axis *plot.Axis, label func(float64) string) {
	axis.Scale = plot.LogScale{}
	least, most := axis.Min, axis.Max
	steps := []float64{1}
	if most/least < 200 {
		steps = []float64{1, 2, 5}
	}
	var places []float64
	for power := math.Floor(math.Log10(least)); power <= math.Ceil(math.Log10(most)); power++ {
		for _, step := range steps {
			places = append(places, step*math.Pow(10, power))
		}
	}
	// From mark to mark, so that the ends of the axis are named.
	for _, at := range places {
		if at <= least*1.0001 {
			axis.Min = at
		}
	}
	for _, at := range slices.Backward(places) {
		if at >= most*0.9999 {
			axis.Max = at
		}
	}
	places = slices.DeleteFunc(places, func(at float64) bool { return at < axis.Min || at > axis.Max })
	axis.Tick.Marker = ticks(places, label)
}

// addLine draws what one side did. The subject is thicker than what it is compared with.
func addLine(p *plot.Plot, side string, at plotter.XYs, colour color.Color, dots bool) error {
	line, points, err := plotter.NewLinePoints(at)
	if err != nil {
		return err
	}
	line.Color, line.Width = colour, 1.5
	if strings.HasPrefix(side, sideMmapio) {
		line.Width = 2.5
	}
	p.Add(line)
	if dots {
		points.Color, points.Radius, points.Shape = colour, line.Width+0.5, draw.CircleGlyph{}
		p.Add(points)
	}
	return nil
}

// markedTime prints a time at a mark, which is a round one.
func markedTime(ns float64) string {
	return inUnit(ns, func(x float64) string { return fmt.Sprintf("%.4g", x) })
}

// plotCurve draws how x changes what the sides do.
func plotCurve(c drawn) (plotted, error) {
	y := func(took timing, x float64) float64 { return took.Median }
	label, name := markedTime, "time of one operation"
	switch c.Y {
	case eachSecond:
		y = func(took timing, _ float64) float64 { return 1e9 / took.Median }
		label, name = amount(""), "operations per second"
	case bytesPerSecond:
		y = func(took timing, x float64) float64 { return x * 1e9 / took.Median }
		label, name = amount("B/s"), "speed"
	}
	return plotPoints(c, name, y, label)
}

// plotAgainst draws how many times as fast as one side the others are.
func plotAgainst(c drawn, base string) (plotted, error) {
	rest := c
	rest.sides = slices.DeleteFunc(slices.Clone(c.sides), func(s string) bool { return s == base })
	rest.points = nil
	for _, p := range c.points {
		with := point{p.x, make(map[string]timing)}
		if against, ok := p.took[base]; ok {
			for _, side := range rest.sides {
				if took, ok := p.took[side]; ok {
					took.spread = spreadOf(ratios(against.NanosecondsEach, took.NanosecondsEach))
					with.took[side] = took
				}
			}
		}
		rest.points = append(rest.points, with)
	}
	label := func(x float64) string { return fmt.Sprintf("%v x", x) }
	return plotPoints(rest, "speed as a multiple of os.File's", func(ratio timing, _ float64) float64 { return ratio.Median }, label, 1)
}

// plotPoints draws y at each point of a curve, and level lines.
func plotPoints(c drawn, name string, y func(took timing, x float64) float64, label func(float64) string, levels ...float64) (plotted, error) {
	p := newPlot(c.Axis)
	var places []float64
	for _, at := range c.points {
		places = append(places, at.x)
	}
	// What is compared first, so that the subject is on top.
	colours := palette(c.sides)
	for _, side := range slices.Backward(c.sides) {
		var at plotter.XYs
		for _, point := range c.points {
			if took, ok := point.took[side]; ok {
				at = append(at, plotter.XY{X: point.x, Y: y(took, point.x)})
			}
		}
		if len(at) == 0 {
			continue
		}
		if err := addLine(p, side, at, colours[side], true); err != nil {
			return plotted{}, err
		}
	}
	for _, level := range levels {
		line, err := plotter.NewLine(plotter.XYs{{X: slices.Min(places), Y: level}, {X: slices.Max(places), Y: level}})
		if err != nil {
			return plotted{}, err
		}
		line.Color, line.Dashes = grey, []vg.Length{4, 3}
		p.Add(line)
	}
	logarithmic(&p.Y, label)
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = ticks(places, c.label)
	if slices.Min(places) == slices.Max(places) { // a log scale needs a width
		p.X.Min, p.X.Max = places[0]/2, places[0]*2
	}
	if len(places) > 9 {
		p.X.Tick.Label.Rotation = math.Pi / 5
		p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = text.XRight, text.YTop
	}
	return render(name, p, plotWidth, plotHeight)
}

// plotDelays draws which part of what was measured one by one took longer than x.
func plotDelays(r result) (plotted, error) {
	p := newPlot("time that a sleep took")
	var sides []string
	for _, s := range r.Sides {
		sides = append(sides, s.Side)
	}
	colours := palette(sides)
	for _, s := range slices.Backward(r.Sides) {
		var at plotter.XYs
		for _, d := range s.Delays {
			if part := 1 - d.Percent/100; part > 0 {
				at = append(at, plotter.XY{X: d.Nanoseconds, Y: part})
			}
		}
		if len(at) == 0 {
			continue
		}
		if err := addLine(p, s.Side, at, colours[s.Side], false); err != nil {
			return plotted{}, err
		}
	}
	logarithmic(&p.X, markedTime)
	logarithmic(&p.Y, func(part float64) string { return fmt.Sprintf("%v %%", math.Round(part*1e6)/1e4) })
	return render("part of the sleeps that took longer", p, plotWidth, plotHeight)
}

// plotOverview draws the first comparison of mmapio with something else of every row, as a ratio
// of speeds.
func plotOverview(rows []result) (plotted, error) {
	p := newPlot("speed as a multiple of what it is compared with")
	type entry struct {
		name           string
		median, q1, q3 float64
	}
	var all []entry
	for _, r := range rows {
		first := slices.IndexFunc(r.Comparisons, func(c comparison) bool {
			return strings.HasPrefix(c.Of, sideMmapio) && !strings.HasPrefix(c.Against, sideMmapio)
		})
		if first < 0 {
			continue
		}
		c := r.Comparisons[first]
		e := entry{name: fmt.Sprintf("%s  %s, against %s", r.ID, r.What, c.Against), median: c.Median, q1: c.Q1, q3: c.Q3}
		if c.InTime {
			e.median, e.q1, e.q3 = 1/c.Median, 1/c.Q3, 1/c.Q1
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return plotted{}, nil
	}
	slices.Reverse(all) // the first at the top
	level, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(all)) - 0.5}})
	if err != nil {
		return plotted{}, err
	}
	level.Color, level.Dashes = grey, []vg.Length{4, 3}
	p.Add(level)
	var places []float64
	for i, e := range all {
		colour := colours[sideMmapio]
		if e.median < 1 {
			colour = colours[sideMmapGo]
		}
		between, err := plotter.NewLine(plotter.XYs{{X: e.q1, Y: float64(i)}, {X: e.q3, Y: float64(i)}})
		if err != nil {
			return plotted{}, err
		}
		between.Color, between.Width = colour, 2
		dot, err := plotter.NewScatter(plotter.XYs{{X: e.median, Y: float64(i)}})
		if err != nil {
			return plotted{}, err
		}
		dot.Color, dot.Radius, dot.Shape = colour, 4, draw.CircleGlyph{}
		p.Add(between, dot)
		places = append(places, float64(i))
	}
	logarithmic(&p.X, func(x float64) string { return fmt.Sprintf("%v x", x) })
	p.Y.Min, p.Y.Max = -0.7, float64(len(all))-0.3
	p.Y.Tick.Marker = ticks(places, func(i float64) string { return all[int(i)].name })
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	return render("", p, 2*plotWidth, vg.Length(len(all)+3)*0.55*vg.Centimeter)
}

// render returns a plot as the element of a page.
func render(caption string, p *plot.Plot, width, height vg.Length) (plotted, error) {
	c := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(c), 4, -10, 4, -6)) // room for the last label
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return plotted{}, err
	}
	_, element, ok := strings.Cut(b.String(), "<svg")
	if !ok {
		return plotted{}, fmt.Errorf("the plot has no svg element: %.100q", b.String())
	}
	return plotted{caption, template.HTML("<svg" + element)}, nil
}

// amount prints a number with a prefix for its thousands.
func amount(unit string) func(x float64) string {
	return func(x float64) string {
		for _, prefix := range []struct {
			by   float64
			name string
		}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
			if x >= prefix.by*0.9999 {
				return strings.TrimSpace(fmt.Sprintf("%.4g %s%s", x/prefix.by, prefix.name, unit))
			}
		}
		return strings.TrimSpace(fmt.Sprintf("%.4g %s", x, unit))
	}
}
