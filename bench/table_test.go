package main

import (
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	yes, no, limit := true, false, 512.0
	rep := report{
		Machine: machine{
			CPU: "A CPU", Cores: 2, MemoryGiB: 24, System: "linux/amd64", Kernel: "6.1", FileSystem: "ext4", Go: "go1.26",
			Packages: map[string]string{"github.com/mmapio/mmapio": "v1", "golang.org/x/exp": "v2", "github.com/edsrzf/mmap-go": "v3", "github.com/spf13/afero": "v4"},
		},
		Rounds: 9, Slice: duration(20 * time.Millisecond), Took: duration(1600 * time.Millisecond),
		Rows: []result{
			{
				ID: "P1", What: "read",
				Sides: []timing{{Side: "mmapio", spread: spread{Median: 7.9}}, {Side: "os", spread: spread{Median: 224.4}}, {Side: "xexp", spread: spread{Median: 0.01}}},
				Comparisons: []comparison{
					{Of: "mmapio", Against: "os", spread: spread{Median: 28.41, Q1: 27, Q3: 29}, Goal: ">= 25 x speed", Reached: &yes},
					{Of: "mmapio", Against: "xexp", InTime: true, spread: spread{Median: 790, Q1: 700, Q3: 800}, Goal: "<= 1.7 x time", Reached: &no},
				},
			},
			{ID: "P3", What: "two", Skipped: "needs 2 processors, has 1"},
			{ID: "P5", What: "write", Failed: "os: disk full"},
			{ID: "P18", What: "open files", Excesses: []excess{
				{Figure: "heap-B/file", Of: "mmapio", Against: "os", Values: [2]int64{700, 100}, By: 600, Limit: &limit, Reached: &no},
				{Figure: "mappings", Of: "mmapio", Against: "xexp", Values: [2]int64{0, 1000}, By: -1000},
			}},
		},
	}
	want := `
A CPU, 2 cores, 24 GiB; linux/amd64, kernel 6.1; ext4; go1.26
mmapio is github.com/mmapio/mmapio v1
xexp is golang.org/x/exp v2
mmap-go is github.com/edsrzf/mmap-go v3
afero is github.com/spf13/afero v4
9 rounds, each side 20ms at a time, in turns; 2s in all
fewer than 10 rounds: these ratios are a hint, not a result

ROW  WORKLOAD                 SIDE              AGAINST           RATIO         QUARTILES     GOAL
P1   read                     mmapio   7.90 ns  os       224 ns   28.4 x speed  27.0 .. 29.0  >= 25 x speed  reached
                              mmapio   7.90 ns  xexp     0.01 ns  790 x time    700 .. 800    <= 1.7 x time  MISSED
P3   two                      skipped
P5   write                    failed
P18  open files: heap-B/file  mmapio   700      os       100      +600                        <= +512        MISSED
     open files: mappings     mmapio   0        xexp     1000     -1000

P3 skipped: needs 2 processors, has 1
P5 failed: os: disk full
goals: 1 reached, 2 missed; rows skipped: 1, failed: 1
`
	var b strings.Builder
	if err := writeTable(&b, rep); err != nil {
		t.Fatal(err)
	}
	if got := trimLines(b.String()); got != trimLines(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// trimLines takes the spaces off the ends of lines.
func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(s)) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}
