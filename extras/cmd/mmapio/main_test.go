package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// toolEnv makes the test binary be the tool. Its value is the size of the tour.
const toolEnv = "MMAPIO_TEST_TOOL"

func TestMain(m *testing.M) {
	switch os.Getenv(toolEnv) {
	case "":
		// A background job may have been started with signals ignored, and so would be
		// its children, which are to be interrupted here.
		for _, s := range stopSignals {
			if signal.Ignored(s) {
				signal.Notify(make(chan os.Signal, 1), s)
			}
		}
		os.Exit(m.Run())
	case "short":
		tourPlan = plan{size: 3 << 20, scratchSize: 1 << 20, lookAt: 2 << 20, positions: 100, rounds: 3, slice: time.Millisecond, appends: 1000}
	case "endless":
		tourPlan = plan{size: 3 << 20, scratchSize: 1 << 20, lookAt: 2 << 20, positions: 100, rounds: 1 << 30, slice: time.Millisecond, appends: 1000}
	}
	os.Exit(run(os.Args[1:]))
}

// result is what a run of the tool left.
type result struct {
	stdout, stderr string
	status         int
}

// toolCommand returns the command that runs the tool with args in a process of its
// own. The temporary folder is temp.
func toolCommand(t *testing.T, temp string, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), toolEnv+"=short", "TMPDIR="+temp, "TMP="+temp, "TEMP="+temp,
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else each run takes a second longer
	return cmd
}

// finish runs cmd to its end, if need be from its start.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func tool(t *testing.T, args ...string) result {
	t.Helper()
	temp := t.TempDir()
	r := finish(t, toolCommand(t, temp, args...))
	wantNames(t, temp)
	return r
}

// succeed runs the tool, which must be silent on standard error, and returns its output.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	r := tool(t, args...)
	if r.status != 0 || r.stderr != "" {
		t.Fatalf("mmapio %q: status %d, standard error %q", args, r.status, r.stderr)
	}
	return r.stdout
}

// wantFailure checks that the run failed with that status and said why in one
// line with all of words in it.
func wantFailure(t *testing.T, r result, status int, words ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	wantLine(t, r.stderr, words...)
}

// wantLine checks that text is one line of the tool with all of words in it.
func wantLine(t *testing.T, text string, words ...string) {
	t.Helper()
	if !strings.HasPrefix(text, "mmapio: ") || strings.Index(text, "\n") != len(text)-1 {
		t.Errorf("standard error %q, want one line that begins with mmapio:", text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("standard error %q does not contain %q", text, word)
		}
	}
}

// wantNames checks that the folder holds just the files of those names.
func wantNames(t *testing.T, folder string, names ...string) {
	t.Helper()
	got := namesIn(t, folder)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("%s holds %q, want %q", folder, got, names)
	}
}

func namesIn(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// write makes a file.
func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantContent checks what is in a file.
func wantContent(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, not the %d bytes it should have", path, len(got), len(want))
	}
}

// random returns n bytes, the same ones every time.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestBadUsage(t *testing.T) {
	folder := t.TempDir()
	missing := filepath.Join(folder, "missing")
	empty := filepath.Join(folder, "empty")
	write(t, empty, nil)
	for _, test := range []struct {
		args  []string
		words []string
	}{
		{nil, []string{"stat", "warm", "evict", "lock"}},
		{[]string{"stat"}, []string{"<file>"}},
		{[]string{"stat", missing}, []string{missing}},
		{[]string{"stat", "-frobnicate", empty}, []string{"--frobnicate"}},
		{[]string{"warm", missing}, []string{missing}},
		{[]string{"evict", missing}, []string{missing}},
		{[]string{"lock", missing}, []string{missing}},
		{[]string{"serve"}, []string{"<dir>"}},
		{[]string{"frobnicate"}, []string{"frobnicate"}},
		{[]string{"--frobnicate"}, []string{"--frobnicate"}},
		{[]string{"cp"}, []string{"<src>", "<dst>"}},
		{[]string{"cp", empty}, []string{"<dst>"}},
		{[]string{"cp", empty, missing, "third"}, []string{"third"}},
		{[]string{"cp", "--frobnicate", empty, missing}, []string{"--frobnicate"}},
		{[]string{"sum"}, []string{"<file>"}},
		{[]string{"sum", missing}, []string{missing}},
		{[]string{"sum", missing + "\nline"}, []string{missing + "; line"}},
		{[]string{"sum", folder}, []string{folder, "folder"}},
		{[]string{"tour", missing}, []string{missing}},
		{[]string{"tour", folder}, []string{folder, "folder"}},
		{[]string{"tour", empty}, []string{empty, "empty"}},
		{[]string{"tour", empty, empty}, []string{empty}},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			r := tool(t, test.args...)
			wantFailure(t, r, 1, test.words...)
			if r.stdout != "" {
				t.Errorf("standard output %q, want nothing", r.stdout)
			}
		})
	}
	wantNames(t, folder, "empty")
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"stat", "--help"}, {"warm", "--help"}, {"evict", "--help"}, {"lock", "--help"}, {"watch", "--help"}, {"serve", "--help"}, {"cp", "--help"}, {"sum", "--help"}, {"tour", "--help"}} {
		if out := succeed(t, args...); !strings.HasPrefix(out, "Usage: mmapio") {
			t.Errorf("mmapio %q prints %q", args, out)
		}
	}
}

// TestWait has a signal arrive while a call does not return, as opening a FIFO
// that nobody writes to does not.
func TestWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	_, err := wait(ctx, func() (int, error) {
		cancel()
		<-release
		return 1, nil
	})
	if err != errInterrupted {
		t.Errorf("got %v, want %v", err, errInterrupted)
	}
}

func TestStoppableHash(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var also bytes.Buffer
	h := &stoppableHash{sha256.New(), ctx, func(b []byte) { also.Write(b) }}
	if n, err := io.WriteString(h, "text"); n != 4 || err != nil {
		t.Errorf("wrote %d bytes, %v; want 4", n, err)
	}
	cancel()
	if n, err := io.WriteString(h, "more"); n != 0 || err != errInterrupted {
		t.Errorf("after the signal: wrote %d bytes, %v; want 0, %v", n, err, errInterrupted)
	}
	if want := sha256.Sum256([]byte("text")); !bytes.Equal(h.Sum(nil), want[:]) || also.String() != "text" {
		t.Errorf("sum %x, and %q beside; want %x, text", h.Sum(nil), &also, want)
	}
}
