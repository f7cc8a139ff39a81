package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

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
