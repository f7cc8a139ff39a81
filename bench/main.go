// Command bench compares mmapio with os.File and with its peers, side by side:
//
//	go run ./bench                # the table
//	go run ./bench -only P1,P5    # some rows of it
//	go run ./bench -json out.json # and everything that was measured, as JSON
//
// All sides of a row take turns within one run, so that whatever else the machine
// does slows all of them alike. A result is the median over the rounds of the
// ratio between two sides in the same round. The same workloads are benchmarks of
// this package, for benchstat:
//
//	go test -C bench -run '^$' -bench . -count 10 | tee new.txt
//	benchstat -col /side new.txt
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

// The defaults of a run: sixty rounds of all rows take about a minute. Short turns
// and many rounds keep what others do on the machine out of the median.
const (
	defaultRounds = 60
	defaultSlice  = 10 * time.Millisecond
	leastRounds   = 10 // with fewer, a median says little
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong use")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "measure these `rows` alone, as in P1,P5")
	rounds := flags.Int("rounds", defaultRounds, "how often every side has its turn")
	dir := flags.String("dir", os.TempDir(), "`folder` for the test files, which take up to 1.6 GB and are removed")
	jsonTo := flags.String("json", "", "write all that was measured to this `file`; - is the standard output, in place of the table")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	}
	if *rounds < 1 {
		return fmt.Errorf("%w: -rounds must be 1 or more", errUsage)
	}
	chosen, err := choose(rows(), *only)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}

	w, err := newWorkspace(*dir)
	if err != nil {
		return err
	}
	report, err := measure(ctx, w, chosen, *rounds, defaultSlice, newProgress(stderr))
	if closeErr := w.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	report.Machine = describeMachine(ctx, *dir)
	if *jsonTo == "-" {
		return writeJSON(stdout, report)
	}
	if err := writeTable(stdout, report); err != nil {
		return err
	}
	if *jsonTo == "" {
		return nil
	}
	return writeJSONFile(*jsonTo, report)
}

// choose returns the rows with the given identifiers, all of them for none.
func choose(all []row, only string) ([]row, error) {
	if only == "" {
		return all, nil
	}
	var chosen []row
	for id := range strings.SplitSeq(only, ",") {
		id = strings.ToUpper(strings.TrimSpace(id))
		before := len(chosen)
		for _, r := range all {
			if r.id == id {
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
