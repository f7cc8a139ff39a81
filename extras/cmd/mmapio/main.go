// Command mmapio looks at files in memory, and copies, sums and measures files, through
// package mmapio.
//
//	mmapio stat FILE...   print what of files is in memory
//	mmapio warm FILE...   read files into memory
//	mmapio evict FILE...  take files out of memory
//	mmapio lock FILE...   keep files in memory until interrupted
//	mmapio watch FILE...  print what changes in files until interrupted
//	mmapio serve DIR      serve a folder by HTTP until interrupted
//	mmapio cp SRC DST     copy a file
//	mmapio sum FILE...    print SHA-256 and CRC-32C of files
//	mmapio tour [FILE]    compare mmapio with os on this machine
//
// The first five take folders too. All print JSON with -json.
//
// Results go to standard output. Errors go to standard error, each as one line;
// so does a progress bar, if standard error is a terminal. The exit status is 0
// on success, 1 on an error and 130 when a signal interrupted the command. A signal is
// how lock, watch and serve are meant to end: that is success.
package main

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/mmapio/mmapio"
)

// commands is the grammar of the command line: each field is a command, and its
// method Run does the work.
type commands struct {
	Stat  statCmd  `cmd:"" help:"Print what of files is in memory."`
	Warm  warmCmd  `cmd:"" help:"Read files into memory."`
	Evict evictCmd `cmd:"" help:"Take files out of memory."`
	Lock  lockCmd  `cmd:"" help:"Keep files in memory until interrupted."`
	Watch watchCmd `cmd:"" help:"Print what changes in files until interrupted."`
	Serve serveCmd `cmd:"" help:"Serve a folder by HTTP until interrupted."`
	Cp    cpCmd    `cmd:"" help:"Copy a file."`
	Sum   sumCmd   `cmd:"" help:"Print SHA-256 and CRC-32C of files."`
	Tour  tourCmd  `cmd:"" help:"Compare mmapio with os on this machine."`
}

const (
	exitError       = 1
	exitInterrupted = 130
)

var (
	errInterrupted = errors.New("interrupted")
	errReported    = errors.New("errors have been printed")
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run does what args say and returns the exit status.
func run(args []string) int {
	parser, err := kong.New(new(commands),
		kong.Name("mmapio"),
		kong.Description("Looks at files in memory, and copies, sums and measures files, through package mmapio."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 80}))
	if err != nil {
		report(err)
		return exitError
	}
	command, err := parser.Parse(withTwoDashes(args))
	if err != nil {
		report(fmt.Errorf("%w (mmapio --help tells more)", err))
		return exitError
	}

	ctx, stop := notifyContext()
	defer stop()
	command.BindTo(ctx, (*context.Context)(nil))
	switch err := command.Run(); {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitError
	case errors.Is(err, errInterrupted):
		report(err)
		return exitInterrupted
	default:
		report(err)
		return exitError
	}
}

// withTwoDashes returns args with two dashes before the long flags that have one, as the
// tools of Go write them: -json is --json.
func withTwoDashes(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' {
			args[i] = "-" + arg
		}
	}
	return args
}

// report prints err as one line. Names in it cannot command the terminal.
func report(err error) {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ReplaceAll(err.Error(), "\n", "; "))
	fmt.Fprintln(os.Stderr, "mmapio:", text)
}

// notifyContext returns a context that ends with the first signal to stop. A
// second one ends the program at once. Signals that the program was told to
// ignore when it was started, as nohup does, stay ignored.
func notifyContext() (context.Context, context.CancelFunc) {
	var signals []os.Signal
	for _, s := range stopSignals {
		if !signal.Ignored(s) {
			signals = append(signals, s)
		}
	}
	if len(signals) == 0 {
		return context.WithCancel(context.Background())
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// interrupted returns errInterrupted when a signal has arrived, and err otherwise.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// openFile opens a file through mmapio. Opening a FIFO waits for its other end; a
// signal ends the waiting.
func openFile(ctx context.Context, name string, flag int, options ...mmapio.Option) (*mmapio.File, error) {
	return wait(ctx, func() (*mmapio.File, error) {
		return mmapio.OpenFile(name, flag, 0, options...)
	})
}

// wait returns what f returns, or errInterrupted if a signal comes first. It is for
// what can take as long as somebody else likes: f is then left behind, for the few
// moments until the program ends.
func wait[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, errInterrupted
	}
}

// folderError says that name is a folder where a file was asked for.
func folderError(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: errors.New("is a folder, not a file")}
}

// stoppableHash is a hash that takes no more bytes once a signal has arrived. It is
// a hash.Hash, not just a writer, because mmapio hands those the mapped bytes.
type stoppableHash struct {
	hash.Hash
	ctx  context.Context
	also func([]byte) // gets all bytes too, if it is not nil
}

func (h *stoppableHash) Write(b []byte) (int, error) {
	if err := interrupted(h.ctx, nil); err != nil {
		return 0, err
	}
	if h.also != nil {
		h.also(b)
	}
	return h.Hash.Write(b)
}
