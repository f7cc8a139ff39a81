package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Some tests and a row run this program again, which is the test here.
const (
	asProgram = "MMAPIO_BENCH_AS_PROGRAM" // in the environment: be the program
	asWaiting = "MMAPIO_BENCH_AS_WAITING" // be a program that goes on after a signal
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asProgram) != "":
		main()
	case os.Getenv(asWaiting) != "":
		ctx, _ := untilSignal()
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	if child, err := wroteLog(); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tiny returns a workspace whose files are small and few.
func tiny(t *testing.T) *workspace {
	t.Helper()
	w, err := newWorkspace(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.largest, w.files, w.ops = miB, 20, 1<<14
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// Every row runs, every side of it does its work, and they agree about the bytes:
// a run fails otherwise.
func TestEveryRow(t *testing.T) {
	const rounds = 2
	for _, r := range rows(true) { // which has every side
		t.Run(r.name(), func(t *testing.T) {
			w := tiny(t)
			rep, err := measure(w, []row{r}, rounds, time.Millisecond, silence{})
			if err != nil {
				t.Fatal(err)
			}
			res := rep.Rows[0]
			if res.Failed != "" {
				t.Fatal(res.Failed)
			}
			if res.Skipped != "" {
				warm := runtime.GOOS != "linux" || strings.Contains(res.Skipped, errKept.Error())
				if runtime.GOMAXPROCS(0) < r.cpus || r.around != nil || warm && strings.Contains(r.what, "cold") {
					t.Skip(res.Skipped)
				}
				if _, err := exec.LookPath("cargo"); err != nil && (r.id == "P17" || strings.Contains("/"+r.variant, besideRust)) {
					t.Skip(res.Skipped)
				}
				t.Fatalf("skipped: %s", res.Skipped)
			}
			out := make(map[string]bool)
			for _, absent := range res.LeftOut {
				t.Logf("without %s: %s", absent.Side, absent.Reason)
				out[absent.Side] = true
			}
			pairs := slices.DeleteFunc(slices.Clone(r.pairs), func(p pair) bool { return out[p.of] || out[p.against] })
			if len(res.Comparisons) != len(pairs) {
				t.Errorf("%d comparisons for %d pairs", len(res.Comparisons), len(pairs))
			}
			for _, c := range res.Comparisons {
				if !(c.Min > 0 && c.Min <= c.Q1 && c.Q1 <= c.Median && c.Median <= c.Q3 && c.Q3 <= c.Max) {
					t.Errorf("%s against %s: %+v", c.Of, c.Against, c.spread)
				}
				if (c.Reached == nil) != (c.Goal == "") {
					t.Errorf("%s against %s: goal %q, reached %v", c.Of, c.Against, c.Goal, c.Reached)
				}
			}
			for _, s := range res.Sides {
				if len(s.NanosecondsEach) != rounds || s.Runs < 1 || r.ops > 0 && s.Runs != min(r.ops, w.ops) || s.Min <= 0 {
					t.Errorf("%s: %+v", s.Side, s)
				}
			}
			if r.figures != nil && (len(res.Sides) > 0 || len(res.Figures) < len(r.sides)) {
				t.Errorf("figures %v", res.Figures)
			}
			left, err := os.ReadDir(w.dir)
			if err != nil || len(left) > 0 {
				t.Errorf("files left: %v, %v", left, err)
			}
		})
	}
}

// The names that pairs and counts use are those of sides.
func TestRowsAreWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range rows(true) {
		if seen[r.name()] {
			t.Errorf("%s is there twice", r.name())
		}
		seen[r.name()] = true
		names := make(map[string]bool)
		for _, s := range r.sides {
			if names[s.name] || strings.ContainsAny(s.name, "/ ") {
				t.Errorf("%s: bad name of a side: %q", r.name(), s.name)
			}
			names[s.name] = true
			if (s.open == nil) == (s.hold == nil) || (s.hold == nil) != (r.figures == nil) {
				t.Errorf("%s: %s cannot be opened", r.name(), s.name)
			}
		}
		for _, p := range r.pairs {
			if !names[p.of] || !names[p.against] && r.groups[p.against] == nil || p.of == p.against {
				t.Errorf("%s compares %q with %q", r.name(), p.of, p.against)
			}
		}
		for name, group := range r.groups {
			if names[name] || !slices.ContainsFunc(r.pairs, func(p pair) bool { return p.against == name }) {
				t.Errorf("%s: group %s is a side, or not compared with", r.name(), name)
			}
			for _, s := range group {
				if !names[s] {
					t.Errorf("%s: group %s has no side %q", r.name(), name, s)
				}
			}
		}
		for _, c := range r.counts {
			if !names[c.of] || !names[c.against] || c.of == c.against {
				t.Errorf("%s compares %q with %q", r.name(), c.of, c.against)
			}
		}
		if len(r.pairs)+len(r.counts) == 0 {
			t.Errorf("%s compares nothing", r.name())
		}
	}
}

// fake returns a side whose runs return the sum of the operations' values.
func fake(name string, value uint64) side {
	return side{name: name, open: func(*workspace) (*session, error) {
		return &session{run: func(n int) (uint64, error) {
			time.Sleep(time.Duration(n)) // so that calibration ends
			return value * uint64(n), nil
		}}, nil
	}}
}

func measureOne(t *testing.T, r row) (result, error) {
	t.Helper()
	rep, err := measure(tiny(t), []row{r}, 2, time.Millisecond, silence{})
	if err != nil {
		return result{}, err
	}
	res := rep.Rows[0]
	if res.Failed != "" {
		return res, errors.New(res.Failed)
	}
	return res, nil
}

func TestSidesThatDisagree(t *testing.T) {
	r := row{id: "X", sides: []side{fake("a", 1), fake("b", 1)}, pairs: []pair{{"a", "b", nil}}}
	if _, err := measureOne(t, r); err != nil {
		t.Fatalf("sides that agree: %v", err)
	}
	r.sides[1] = fake("b", 2)
	if _, err := measureOne(t, r); err == nil || !strings.Contains(err.Error(), "a and b disagree") {
		t.Fatalf("sides that read different bytes: %v", err)
	}

	written := func(name, content string) side {
		return side{name: name, open: func(w *workspace) (*session, error) {
			return &session{file: w.path(name), run: func(n int) (uint64, error) {
				time.Sleep(time.Duration(n))
				return 0, os.WriteFile(w.path(name), []byte(content), 0o600)
			}}, nil
		}}
	}
	r.sides = []side{written("a", "same"), written("b", "same")}
	if _, err := measureOne(t, r); err != nil {
		t.Fatalf("sides that agree: %v", err)
	}
	r.sides[1] = written("b", "different")
	if _, err := measureOne(t, r); err == nil || !strings.Contains(err.Error(), "a and b disagree") {
		t.Fatalf("sides that write different bytes: %v", err)
	}
}

func TestSkippedRow(t *testing.T) {
	closed := false
	good := fake("a", 1)
	open := good.open
	good.open = func(w *workspace) (*session, error) {
		s, err := open(w)
		s.close = func() error { closed = true; return nil }
		return s, err
	}
	bad := side{name: "b", open: func(*workspace) (*session, error) { return nil, errors.New("no room") }}
	res, err := measureOne(t, row{id: "X", sides: []side{good, bad}, pairs: []pair{{"a", "b", nil}}})
	if err != nil || res.Skipped != "b: no room" || len(res.Comparisons) > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if !closed {
		t.Error("the side that was open is not closed")
	}

	res, err = measureOne(t, row{id: "X", cpus: runtime.GOMAXPROCS(0) + 1})
	if err != nil || !strings.HasPrefix(res.Skipped, "needs ") {
		t.Fatalf("%+v, %v", res, err)
	}
}

// A row does without an optional side, and says so. It names no comparison with it.
func TestOptionalSide(t *testing.T) {
	absentSide := side{name: "c", optional: true, open: func(*workspace) (*session, error) { return nil, errors.New("not installed") }}
	unseen := side{name: "d", open: func(*workspace) (*session, error) {
		return &session{
			unseen: true, run: func(n int) (uint64, error) { return 0, nil },
			took: func(n int) time.Duration { return time.Duration(n) * time.Hour },
		}, nil
	}}
	res, err := measureOne(t, row{
		id: "X", ops: 100, sides: []side{absentSide, fake("a", 1), unseen, fake("b", 1)},
		pairs:  []pair{{"a", "b", nil}, {"a", "c", faster(1)}, {"a", "others", faster(1)}, {"d", "a", nil}},
		groups: map[string][]string{"others": {"c", "d"}},
	})
	if err != nil || res.Skipped != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	if len(res.LeftOut) != 1 || res.LeftOut[0] != (absent{"c", "not installed"}) {
		t.Errorf("left out: %v", res.LeftOut)
	}
	var pairs []string
	for _, c := range res.Comparisons {
		pairs = append(pairs, c.Of+c.Against)
	}
	if got := strings.Join(pairs, " "); got != "ab ad da" {
		t.Errorf("compared %s", got)
	}
	if d := res.Sides[1]; d.Side != "d" || d.Median != float64(time.Hour) {
		t.Errorf("a side that says what it took: %+v", d)
	}
}

// A group is compared with by its fastest side.
func TestFastestOfGroup(t *testing.T) {
	each := map[string][]float64{"a": {5, 5, 5}, "b": {1, 9, 9}, "c": {4, 4, 9}}
	if got := fastest(each, []string{"a", "b", "none", "c"}); got != "c" {
		t.Errorf("got %q", got)
	}
	if got := fastest(each, []string{"none"}); got != "" {
		t.Errorf("got %q", got)
	}
}

// A row may have fewer rounds than asked for, not more.
func TestRoundsOfRow(t *testing.T) {
	for _, test := range []struct{ own, asked, want int }{{0, 5, 5}, {3, 5, 3}, {9, 5, 5}} {
		r := row{id: "X", ops: 1, rounds: test.own, sides: []side{fake("a", 1)}}
		rep, err := measure(tiny(t), []row{r}, test.asked, time.Millisecond, silence{})
		if err != nil {
			t.Fatal(err)
		}
		if got := rep.Rows[0]; got.Rounds != test.want || len(got.Sides[0].NanosecondsEach) != test.want {
			t.Errorf("%+v: %d rounds", test, got.Rounds)
		}
	}
}

// What is measured beside is kept from all rounds.
func TestDelays(t *testing.T) {
	calls := 0
	r := row{id: "X", ops: 1, sides: []side{{name: "a", open: func(*workspace) (*session, error) {
		return &session{
			run:    func(n int) (uint64, error) { calls++; return uint64(n), nil },
			delays: func() []time.Duration { return []time.Duration{time.Duration(calls), time.Duration(calls)} },
		}, nil
	}}}}
	res, err := measureOne(t, r)
	if err != nil {
		t.Fatal(err)
	}
	delays := res.Sides[0].Delays
	if first, last := delays[0], delays[len(delays)-1]; first.Nanoseconds != float64(calls-1) || last != (percentile{100, float64(calls)}) {
		t.Errorf("after %d calls: %v .. %v", calls, first, last)
	}
}

// A row that fails is named with its error, whatever it had measured, and the others are run.
func TestFailingRun(t *testing.T) {
	runs := 0
	failing := side{name: "b", open: func(*workspace) (*session, error) {
		return &session{run: func(n int) (uint64, error) {
			if runs++; runs > 66 { // those that show that the sides agree, and a round
				return 0, errors.New("no space left")
			}
			return uint64(n), nil
		}}, nil
	}}
	rows := []row{
		{id: "X", variant: "v", what: "x", ops: 1, sides: []side{fake("a", 1), failing}, pairs: []pair{{"a", "b", faster(1)}}},
		{id: "Y", ops: 1, sides: []side{fake("a", 1), fake("b", 1)}, pairs: []pair{{"a", "b", nil}}},
	}
	w := tiny(t)
	rep, err := measure(w, rows, 5, time.Millisecond, silence{})
	if err != nil || len(rep.Rows) != 2 {
		t.Fatalf("%+v, %v", rep, err)
	}
	x, y := rep.Rows[0], rep.Rows[1]
	if x.Failed != "b: no space left" || x.name() != "X/v" || x.What != "x" || len(x.Sides)+len(x.Comparisons) > 0 || x.Skipped != "" {
		t.Errorf("the row that failed: %+v", x)
	}
	if y.Failed != "" || len(y.Comparisons) != 1 {
		t.Errorf("the row after it: %+v", y)
	}
	if runs != 67 {
		t.Errorf("%d runs", runs)
	}
	failed := rep.failure()
	if !errors.Is(failed, errFailedRows) || failed.Error() != "1 of 2 rows have failed: X/v" || status(failed) != 1 {
		t.Errorf("got %v, status %d", failed, status(failed))
	}
	rep.Rows = rep.Rows[1:]
	if err := rep.failure(); err != nil {
		t.Errorf("where no row failed: %v", err)
	}
}

// Where a row has left the machine changed, no other row is run.
func TestRowNotUndone(t *testing.T) {
	r := row{id: "X", ops: 1, sides: []side{fake("a", 1)}, around: func() (func() error, error) {
		return func() error { return errors.New("still there") }, nil
	}}
	rep, err := measure(tiny(t), []row{r, {id: "Y"}}, 2, time.Millisecond, silence{})
	if !errors.Is(err, errNotUndone) || !strings.HasPrefix(err.Error(), "X: ") || len(rep.Rows) > 0 {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {flag.ErrHelp, 0}, {fmt.Errorf("%w: x", errUsage), 2}, {errors.New("x"), 1},
		{fmt.Errorf("%w in row X", interruption{os.Interrupt}), 130},
		{errors.Join(fmt.Errorf("%w: x", errFailedRows), interruption{syscall.SIGTERM}), 143},
	} {
		if got := status(test.err); got != test.want {
			t.Errorf("%v: got %d, want %d", test.err, got, test.want)
		}
	}
}

// The sides that take part in the rows of a full run. What a row does without is explained where
// the row is.
func TestPeersOfRows(t *testing.T) {
	sides := make(map[string]map[string]bool) // by identifier and the first part of the variant
	for _, r := range rows(true) {
		variant, _, _ := strings.Cut(r.variant, "/")
		if r.curve != nil {
			variant = ""
		}
		key := strings.TrimSuffix(r.id+" "+variant, " ")
		if sides[key] == nil {
			sides[key] = make(map[string]bool)
		}
		for _, s := range r.sides {
			name, _, _ := strings.Cut(s.name, "(")
			sides[key][name] = true
		}
	}
	for _, key := range []string{
		"P1", "P2", "P3", "P4 size=4KiB", "P4 size=64KiB", "P5 written=4KiB", "P5 written=1MiB", "P6 op=read", "P6 op=write",
		"P7 of=crc", "P7 of=lines", "P10", "P11 of=reads", "P13 of=view", "P13 of=chunk", "P14", "P15 written=4KiB",
		"P15 written=1MiB", "P16 beside=rust", "reads", "writes",
	} {
		if !sides[key][sideCrate] || !sides[key][sideMemmap2] {
			t.Errorf("%s lacks Rust sides: %v", key, sides[key])
		}
	}
	for _, key := range []string{"P1", "P2", "P3", "P4 size=4KiB", "P6 op=read", "P7 of=crc", "P7 of=lines", "P8 to=tcp", "P8 to=file", "P10", "P11 of=reads", "reads"} {
		if !sides[key][sideExp] {
			t.Errorf("%s lacks %s: %v", key, sideExp, sides[key])
		}
	}
	if !sides["reads"][sideAferoMem] || !sides["reads"][sideAferoOS] || !sides["writes"][sideAferoOS] {
		t.Errorf("the curves lack afero: %v, %v", sides["reads"], sides["writes"])
	}
}

// Each side has a turn in every round, and no side always comes after the same other one.
func TestTurns(t *testing.T) {
	const rounds = 60
	var order []string
	recorded := func(name string) side {
		return side{name: name, open: func(*workspace) (*session, error) {
			return &session{run: func(n int) (uint64, error) {
				order = append(order, name)
				time.Sleep(time.Millisecond)
				return uint64(n), nil
			}}, nil
		}}
	}
	r := row{id: "X", ops: 1, sides: []side{recorded("a"), recorded("b"), recorded("c")}}
	if _, err := measure(tiny(t), []row{r}, rounds, time.Millisecond, silence{}); err != nil {
		t.Fatal(err)
	}
	order = order[len(order)-3*rounds:]
	for round := range slices.Chunk(order, 3) {
		if sorted := slices.Sorted(slices.Values(round)); strings.Join(sorted, "") != "abc" {
			t.Errorf("a round has the turns %v", round)
		}
	}
	after := make(map[string]int)
	for i := range order[1:] {
		after[order[i+1]+" after "+order[i]]++
	}
	for _, who := range []string{"a after b", "a after c", "b after a", "b after c", "c after a", "c after b"} {
		if after[who] < rounds/12 {
			t.Errorf("%s in %d of %d rounds: %v", who, after[who], rounds, after)
		}
	}
}

// A slow try does not keep calibration from finding out how fast a side is.
func TestCalibrate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := &session{run: func(n int) (uint64, error) {
			if calls++; calls == 1 {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(time.Duration(n) * 100 * time.Microsecond)
			return 0, nil
		}}
		if n, err := calibrate(s, 10*time.Millisecond); n != 100 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	})
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	var out, messages bytes.Buffer
	args := []string{"-only", "p10, P1", "-rounds", "2", "-dir", dir, "-json", "-"}
	if err := run(t.Context(), args, &out, &messages); err != nil {
		t.Fatal(err)
	}
	var rep struct {
		Rounds  int
		Machine struct{ Packages map[string]string }
		Rows    []struct {
			ID    string
			Sides []struct {
				NsPerOp []float64 `json:"ns_per_op"`
				Median  float64
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("%v in %s", err, &out)
	}
	if rep.Rounds != 2 || len(rep.Rows) != 2 || rep.Rows[0].ID != "P10" || rep.Rows[1].ID != "P1" {
		t.Errorf("got %+v", rep)
	}
	for _, r := range rep.Rows {
		for _, s := range r.Sides {
			if len(s.NsPerOp) != 2 || s.Median <= 0 {
				t.Errorf("%s: %+v", r.ID, s)
			}
		}
	}
	if messages.Len() > 0 {
		t.Errorf("progress where there is no terminal: %s", &messages)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// What was measured before an interruption is not lost.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := side{name: "a", open: func(*workspace) (*session, error) {
		return &session{run: func(n int) (uint64, error) { time.Sleep(time.Millisecond); cancel(); return 0, nil }}, nil
	}}
	rows := []row{{id: "X", ops: 2e6, sides: []side{fake("a", 1)}}, {id: "Y", ops: 1, sides: []side{last}}, {id: "Z"}}
	w := tiny(t)
	w.ctx = ctx
	rep, err := measure(w, rows, 2, time.Millisecond, silence{})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), " in row Y, after 1 of 3 rows") {
		t.Errorf("got %v", err)
	}
	if len(rep.Rows) != 1 || rep.Rows[0].ID != "X" || rep.Took == 0 {
		t.Errorf("got %+v", rep)
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{"-only", "P1,P99"}, {"-only", ","}, {"-rounds", "-1"}, {"-rounds", "many"}, {"-frobnicate"}, {"P1"}, {"-json", "-", "-html", "-"},
	} {
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%q: got %v", args, err)
		}
	}
	var help bytes.Buffer
	if err := run(t.Context(), []string{"-help"}, io.Discard, &help); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: got %v", err)
	}
	for _, want := range []string{"about two minutes", "With -full it takes", "130, 143 or 129", "-markdown file"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("-help does not say %q:\n%s", want, &help)
		}
	}
	if err := run(t.Context(), []string{"-dir", filepath.Join(t.TempDir(), "none")}, io.Discard, io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder that is not there: got %v", err)
	}
}

func TestChoose(t *testing.T) {
	all := []row{{id: "A"}, {id: "B", variant: "x=1"}, {id: "B", variant: "x=2"}, {id: "C", full: true}, {id: "d", curve: &curve{}}}
	for _, test := range []struct {
		only         string
		full, curves bool
		want         string
	}{
		{want: "[A B B]"},
		{curves: true, want: "[A B B d]"},
		{full: true, want: "[A B B C d]"},
		{only: "B", want: "[B B]"},
		{only: "c, A,D", want: "[C A d]"},
		{only: "A", full: true, curves: true, want: "[A]"},
	} {
		chosen, err := choose(all, test.only, test.full, test.curves)
		var got []string
		for _, r := range chosen {
			got = append(got, r.id)
		}
		if fmt.Sprint(got) != test.want || err != nil {
			t.Errorf("%+v: got %v, %v", test, got, err)
		}
	}
	if got := identifiers(all); !slices.Equal(got, []string{"A", "B", "C", "d"}) {
		t.Errorf("identifiers %v", got)
	}
}

// The rows are in the order of the goals, and those without one come last.
func TestOrder(t *testing.T) {
	var ids []string
	for _, id := range identifiers(rows(true)) {
		if strings.HasPrefix(id, "P") {
			ids = append(ids, id)
		} else {
			ids = append(ids, "other")
		}
	}
	last := 0
	for _, id := range slices.Compact(ids) {
		number := 1000
		fmt.Sscanf(id, "P%d", &number)
		if number <= last {
			t.Errorf("%s after P%d", id, last)
		}
		last = number
	}
}
