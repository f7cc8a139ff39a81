package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows on the terminal how far a command is. A nil progress shows
// nothing: that is what a pipe gets.
type progress struct {
	bar *progressbar.ProgressBar
}

// byteProgress shows how many bytes of the named file are done. The total is 0 if
// nobody knows it.
func byteProgress(name string, total int64) *progress {
	return newProgress(shorten(filepath.Base(name)), total, progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true))
}

// stepProgress shows how many of some steps are done.
func stepProgress(what string, total int64) *progress {
	return newProgress(what, total, progressbar.OptionShowTotalBytes(false))
}

func newProgress(what string, total int64, options ...progressbar.Option) *progress {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	if total <= 0 {
		total = -1
	}
	options = append(options,
		progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetDescription(what),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionShowCount(),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionClearOnFinish())
	return &progress{progressbar.NewOptions64(total, options...)}
}

// add moves on by n. What goes wrong with the bar is no concern of the command.
func (p *progress) add(n int64) {
	if p != nil {
		_ = p.bar.Add64(n)
	}
}

// clear takes the bar away for now, so that something else can be printed.
func (p *progress) clear() {
	if p != nil {
		_ = p.bar.Clear()
	}
}

// end takes the bar away. It must be called before anything else is printed.
func (p *progress) end() {
	if p != nil {
		_ = p.bar.Finish()
	}
}

// shorten cuts a long name, so that there is room for a bar in the line.
func shorten(name string) string {
	const limit = 24
	runes := []rune(name)
	if len(runes) <= limit {
		return name
	}
	return string(runes[:limit-3]) + "..."
}
