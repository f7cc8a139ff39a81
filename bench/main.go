// Command bench compares mmapio with os.File and with its peers, side by side:
//
//	go run ./bench                      # the table, in less than three minutes
//	go run ./bench -full -html out.html # everything, and a page with plots of it
//	go run ./bench -only P1,P5          # some rows
//	go run ./bench -json out.json       # and all that was measured, as JSON
//
// All sides of a row take turns within one run, so that whatever else the machine
// does slows all of them alike. A result is the median over the rounds of the
// ratio between two sides in the same round. The same workloads are benchmarks of
// this package, for benchstat:
//
//	go test -C bench -run '^$' -bench . -count 10 | tee new.txt
//	benchstat -col /side new.txt
//
// The rows of P17 are those of the benchmark file of the Rust crate mmap-io. It and memmap2
// take part, in other rows too, where there is cargo: the program of the folder rust is
// built in the user's cache folder, which needs the network the first time. Without cargo
// these rows are skipped and these sides left out, and the table says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// The rounds of a run. Short turns and many rounds keep what others do on the machine
// out of the median.
const (
	quickRounds = 24
	fullRounds  = 60
	leastRounds = 10 // with fewer, a median says little
	turn        = 10 * time.Millisecond
)

func main() {
	child, err := wroteLog()
	if !child {
		ctx, stop := untilSignal()
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Exit(status(err))
}

// status is what the program ends with.
func status(err error) int {
	var signaled interruption
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.As(err, &signaled):
		return signaled.status()
	}
	return 1
}

// An interruption is a signal that ended the comparison.
type interruption struct {
	signal os.Signal
}

func (i interruption) Error() string { return fmt.Sprintf("interrupted by the signal %q", i.signal) }

// status is what a shell makes of a program that the signal ends.
func (i interruption) status() int {
	if number, ok := i.signal.(syscall.Signal); ok {
		return 128 + int(number)
	}
	return 130
}

// hangup is SIGHUP: the terminal is closed. Package syscall does not name it for each system.
const hangup = syscall.Signal(1)

// untilSignal returns a context that ends with an interruption at the first signal that is to
// end the program. The second one ends it at once.
func untilSignal() (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, hangup)
	go func() {
		for s := range signals {
			if ctx.Err() != nil {
				os.Exit(interruption{s}.status())
			}
			cancel(interruption{s})
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

var errUsage = errors.New("wrong use")

const usage = `Usage: go run ./bench [flags]

Compares mmapio with os.File and with its peers, and prints a table.

Without flags it takes about two minutes, and some more the first time where there is
cargo, which then builds the Rust sides. With -full it takes six to eight minutes: it
measures in more rounds and on larger files, all rows of the crate mmap-io's own
benchmarks (P17), the Rust sides that take long (of P5, P11 and P16), all that fio does, and
the curves for plots.

The first Ctrl-C, SIGTERM or SIGHUP ends the run, after the turn of the side that is
measured: its files are removed, and what is measured by then is written. The second one
ends it at once.

The status is 0 if all rows were measured or skipped, 1 if some have failed, 2 if the
flags are wrong, and 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP.

`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	only := flags.String("only", "", "measure these `rows` alone, as in P1,P5; "+strings.Join(identifiers(rows(false)), ", "))
	full := flags.Bool("full", false, "measure everything, in more rounds and on larger files")
	rounds := flags.Int("rounds", 0, fmt.Sprintf("how often every side has its turn, at most; 0 stands for %d, or %d with -full", quickRounds, fullRounds))
	dir := flags.String("dir", os.TempDir(), "`folder` for the test files, which take up to 2.5 GB at a time and are removed")
	var outputs outputs
	flags.StringVar(&outputs.json, "json", "", "write all that was measured to this `file`")
	flags.StringVar(&outputs.html, "html", "", "measure what plots need, too, and write a page with tables and plots to this `file`")
	flags.StringVar(&outputs.markdown, "markdown", "", "write the table to this `file`, as Markdown; for this one and the two above, - is the standard output in place of the table")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	}
	if *rounds < 0 {
		return fmt.Errorf("%w: -rounds must be 0 or more", errUsage)
	}
	if err := outputs.check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	chosen, err := choose(rows(*full), *only, *full, outputs.html != "")
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	switch {
	case *rounds > 0:
	case *full:
		*rounds = fullRounds
	default:
		*rounds = quickRounds
	}

	machine := describeMachine(ctx, *dir)
	w, err := newWorkspace(ctx, *dir)
	if err != nil {
		return err
	}
	report, err := measure(w, chosen, *rounds, turn, newProgress(stderr))
	err = errors.Join(err, w.close(), report.failure())
	if err != nil && len(report.Rows) == 0 {
		return err
	}
	// What was measured before an interruption or a failure took long, and is right.
	report.Machine = machine
	report.Command = strings.Join(append([]string{"go run ./bench"}, args...), " ")
	return errors.Join(err, outputs.write(stdout, report))
}

// choose returns the rows with the given identifiers, whatever they take. For none it
// returns all; those that take long only for a full run, and those that are points of
// curves only where these are drawn.
func choose(all []row, only string, full, curves bool) ([]row, error) {
	var chosen []row
	if only == "" {
		for _, r := range all {
			if (full || !r.full) && (full || curves || r.curve == nil) {
				chosen = append(chosen, r)
			}
		}
		return chosen, nil
	}
	for id := range strings.SplitSeq(only, ",") {
		id = strings.TrimSpace(id)
		before := len(chosen)
		for _, r := range all {
			if strings.EqualFold(r.id, id) {
				chosen = append(chosen, r)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("there is no row %q: the rows are %s", id, strings.Join(identifiers(all), ", "))
		}
	}
	return chosen, nil
}

// identifiers lists the identifiers of rows, each once.
func identifiers(rows []row) []string {
	var ids []string
	for _, r := range rows {
		if len(ids) == 0 || ids[len(ids)-1] != r.id {
			ids = append(ids, r.id)
		}
	}
	return ids
}
