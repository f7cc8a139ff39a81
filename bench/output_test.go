package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// sample returns a report with every kind of row.
func sample() report {
	yes, no, limit := true, false, 512.0
	times := func(side string, each ...float64) timing {
		return timing{Side: side, Runs: 10, spread: spreadOf(each), NanosecondsEach: each}
	}
	slept := func(side string, each ...float64) timing {
		t := times(side, each...)
		t.Delays = percentilesOf(each)
		return t
	}
	bySize := &curve{Title: "Reads <by> size", What: "reads", Axis: "bytes", Bytes: true, Y: bytesPerSecond}
	byCount := &curve{Title: "Reads by goroutines", What: "reads", Axis: "goroutines", Y: eachSecond}
	byLength := &curve{Title: "Appends", What: "appends", Axis: "length", Bytes: true, Y: timeEach}
	return report{
		Command: "go run ./bench -only P1 -html <out>",
		Machine: machine{CPU: "A <CPU>", Cores: 2, System: "linux/amd64", FileSystem: "ext4", Load: []float64{0.5, 1, 2}, Programs: map[string]string{"fio": "fio-3"}},
		Rounds:  30, Slice: duration(10 * time.Millisecond),
		Rows: []result{
			{
				ID: "P1", What: "read | hot", Sides: []timing{times("mmapio", 8, 9, 10), times("os", 270, 270, 270), times("xexp", 6, 6, 6)},
				Comparisons: []comparison{
					{Of: "mmapio", Against: "os", spread: spread{30, 27, 33, 25, 34}, Goal: ">= 25 x speed", Reached: &yes},
					{Of: "mmapio", Against: "xexp", InTime: true, spread: spread{1.8, 1.7, 1.9, 1.6, 2}, Goal: "<= 1.7 x time", Reached: &no},
				},
			},
			{ID: "P12", Variant: "v=1", What: "little memory", Skipped: "no cgroup: <denied>"},
			{ID: "P13", What: "view", Sides: []timing{times("mmapio", 15, 15, 15)}, Limits: []bound{{Of: "mmapio", spread: spreadOf([]float64{15}), Limit: 20, Reached: true}}},
			{ID: "P18", What: "open files", Excesses: []excess{{Figure: "heap-B/file", Of: "mmapio", Against: "os", Values: [2]int64{700, 100}, By: 600, Limit: &limit, Reached: &no}}},
			{ID: "P11", Variant: "of=sleeper", What: "sleep", Sides: []timing{slept("mmapio", 1e6, 2e6, 3e6), slept("os", 1e6, 2e6, 4e6)}},
			{ID: "fio", What: "with fio", LeftOut: []absent{{"fio-mmap", "not installed"}}, Sides: []timing{times("mmapio", 9)}},
			{ID: "reads", Curve: bySize, X: 64, Sides: []timing{times("mmapio", 8, 8), times("os", 240, 240)}},
			{ID: "reads", Curve: bySize, X: 4096, Sides: []timing{times("mmapio", 200, 200), times("os", 500, 400)}},
			{ID: "goroutines", Curve: byCount, X: 1, Sides: []timing{times("mmapio", 8), times("os", 240)}},
			{ID: "goroutines", Curve: byCount, X: 2, Sides: []timing{times("mmapio", 4), times("os", 120)}},
			{ID: "appends", Curve: byLength, X: 1 << 20, Sides: []timing{times("mmapio", 500), times("os", 510)}},
			{
				ID: "P16", What: "grow", Sides: []timing{times("mmapio(first)", 8), times("mmapio(last)", 9), times("os(last)", 4)},
				Comparisons: []comparison{
					{Of: "mmapio(last)", Against: "mmapio(first)", InTime: true, spread: spread{1.1, 1, 1.2, 1, 1.3}},
					{Of: "mmapio(last)", Against: "os(last)", spread: spread{0.5, 0.4, 0.6, 0.3, 0.7}},
				},
			},
			{ID: "P15", Variant: "v=2", What: "flush", Failed: "os: disk <full>"},
			{ID: "reads", Curve: bySize, X: 65536, Failed: "os: disk <full>"},
		},
	}
}

// The page has everything in it: it names nothing that a browser would fetch.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	if err := writeHTML(&b, sample()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "url(") || strings.Contains(b.String(), "@import") || strings.Contains(b.String(), "ZgotmplZ") {
		t.Error("the style refers to something, or was refused")
	}
	root, err := html.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	plots := 0
	var text strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			text.WriteString(n.Data + "\n")
			continue
		}
		switch n.Data {
		case "script", "link", "img", "iframe", "object", "embed", "image", "use", "base", "form":
			t.Errorf("the page has a %s", n.Data)
		case "svg":
			plots++
		}
		for _, a := range n.Attr {
			if a.Key == "src" || strings.HasSuffix(a.Key, "href") || strings.HasPrefix(a.Key, "on") {
				t.Errorf("%s has %s=%q", n.Data, a.Key, a.Val)
			}
		}
	}
	// One of all rows, two for each of the three curves, one of the delays.
	if plots != 1+3*2+1 {
		t.Errorf("%d plots", plots)
	}
	for _, want := range []string{
		"A <CPU>", "load 0.50", "fio is fio-3", "go run ./bench -only P1 -html <out>", "30.0 x speed (27.0 .. 33.0)", "MISSED", "reached",
		"\nfailed: os: disk <full>", "P15/v=2 failed: os: disk <full>", "skipped: no cgroup: <denied>", "P12/v=1 skipped: no cgroup: <denied>", "fio without fio-mmap: not installed",
		"open files: heap-B/file", "+600", "Reads <by> size", "4 KiB", "P1  read | hot, against os",
		"P16  grow, against os(last)",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// A page of rows without comparisons has no plots, and is written all the same.
func TestPageOfNothing(t *testing.T) {
	rep := report{Rows: []result{{ID: "reads", Curve: &curve{}, Skipped: "no room"}, {ID: "P1", Skipped: "no room"}}}
	var b bytes.Buffer
	if err := writeHTML(&b, rep); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<svg") || !strings.Contains(b.String(), "no room") {
		t.Error(b.String())
	}
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := writeMarkdown(&b, sample()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Printed by `go run ./bench -only P1 -html <out>`:",
		`| P1 | read \| hot | mmapio 9.00 ns | os 270 ns | 30.0 x speed (27.0 .. 33.0) | >= 25 x speed: reached | xexp 6.00 ns: 1.80 x time (1.70 .. 1.90) (<= 1.7 x time: MISSED) |`,
		"| P12 | little memory |  |  | skipped |  | no cgroup: <denied> |",
		"| P13 | view | mmapio 15.0 ns |  |  | <= 20 ns: reached |  |",
		"| P18 | open files: heap-B/file | mmapio 700 | os 100 | +600 | <= +512: MISSED |  |",
		"- fio without fio-mmap: not installed",
		"| P15 | flush |  |  | failed |  | os: disk <full> |",
		"- P15/v=2 failed: os: disk <full>",
		"- goals: 2 reached, 2 missed; rows skipped: 1, failed: 2",
	}
	for _, line := range want {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, &b)
		}
	}
	for line := range strings.Lines(b.String()) {
		if bars := len(regexp.MustCompile(`(^|[^\\])\|`).FindAllString(line, -1)); strings.HasPrefix(line, "|") && bars != 8 {
			t.Errorf("%d bars in %s", bars, line)
		}
	}
}

// The table has the curves below the rows.
func TestCurvesInTable(t *testing.T) {
	var b bytes.Buffer
	if err := writeTable(&b, sample()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Reads <by> size\n  bytes   mmapio      os\n   64 B  8.00 ns  240 ns\n  4 KiB   200 ns  450 ns\n", "fio without fio-mmap: not installed"} {
		if !strings.Contains(trimLines(b.String()), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := writeJSON(&b, sample()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Command string
		Machine struct {
			Load     []float64
			Programs map[string]string
		}
		Rows []struct {
			ID, Variant, Skipped string
			Failed               string
			LeftOut              []struct{ Side, Reason string } `json:"left_out"`
			X                    float64
			Curve                *struct{ Title, Y string }
			Sides                []struct {
				Side   string
				Median float64
				Each   []float64 `json:"ns_per_op"`
				Delays []struct{ Percent, NS float64 }
			}
			Comparisons []struct {
				Of, Against, Goal string
				InTime            bool `json:"in_time"`
				Median, Q1, Q3    float64
				Reached           *bool
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	r := got.Rows[0]
	if c := r.Comparisons[1]; c.Of != "mmapio" || c.Against != "xexp" || !c.InTime || c.Q1 != 1.7 || *c.Reached {
		t.Errorf("comparison %+v", c)
	}
	if s := r.Sides[0]; s.Median != 9 || !reflect.DeepEqual(s.Each, []float64{8, 9, 10}) || s.Delays != nil {
		t.Errorf("side %+v", s)
	}
	if r := got.Rows[1]; r.Variant != "v=1" || r.Skipped != "no cgroup: <denied>" {
		t.Errorf("row %+v", r)
	}
	if d := got.Rows[4].Sides[1].Delays; len(d) != 104 || d[50].Percent != 50 || d[50].NS != 2e6 || d[103].NS != 4e6 {
		t.Errorf("delays %v", d)
	}
	if l := got.Rows[5].LeftOut; len(l) != 1 || l[0].Side != "fio-mmap" {
		t.Errorf("left out %v", l)
	}
	if r := got.Rows[12]; r.ID != "P15" || r.Failed != "os: disk <full>" {
		t.Errorf("row %+v", r)
	}
	if r := got.Rows[7]; r.X != 4096 || r.Curve.Title != "Reads <by> size" || r.Curve.Y != string(bytesPerSecond) {
		t.Errorf("point %+v", r)
	}
	if got.Command == "" || got.Machine.Load[0] != 0.5 || got.Machine.Programs["fio"] != "fio-3" {
		t.Errorf("header %+v", got)
	}
}

// Every form goes where it is wanted, and one that cannot be written does not take the others along.
func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	o := outputs{json: filepath.Join(dir, "a.json"), html: filepath.Join(dir, "none", "a.html"), markdown: "-"}
	if err := o.check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: got %v", err)
	}
	kept := outputs{json: o.json, html: filepath.Join(dir, "kept.html")}
	if err := os.WriteFile(kept.html, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := kept.check(); err != nil {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(kept.html); err != nil || string(text) != "before" {
		t.Errorf("what was there before is %q, %v", text, err)
	}
	if _, err := os.Stat(o.json); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("looking whether a file can be written leaves it: %v", err)
	}
	if err := o.write(&out, sample()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out.String(), "| P1 |") || strings.Contains(out.String(), "ROW") {
		t.Errorf("standard output: %s", &out)
	}
	if text, err := os.ReadFile(o.json); err != nil || !json.Valid(text) {
		t.Errorf("%v, %s", err, text)
	}
	o.html = "-"
	if err := o.check(); err == nil {
		t.Error("two forms for the standard output")
	}
	if err := (&outputs{}).write(io.Discard, sample()); err != nil {
		t.Error(err)
	}
}

func TestReadable(t *testing.T) {
	for ns, want := range map[float64]string{0.5: "0.50 ns", 999: "999 ns", 1500: "1.50 µs", 2e6: "2.00 ms", 3e9: "3.00 s"} {
		if got := readable(ns); got != want {
			t.Errorf("%v: got %s, want %s", ns, got, want)
		}
	}
	for n, want := range map[int64]string{16: "16 B", 1024: "1 KiB", 1500: "1500 B", 64 * miB: "64 MiB", 4 << 30: "4 GiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for x, want := range map[float64]string{12: "12 B/s", 1e3: "1 kB/s", 2.5e6: "2.5 MB/s", 1e10: "10 GB/s"} {
		if got := amount("B/s")(x); got != want {
			t.Errorf("%v: got %s, want %s", x, got, want)
		}
	}
}
