//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// again returns this program, to be run in another way.
func again(t *testing.T, way string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), way+"=1")
	return cmd
}

// A signal ends a comparison that would go on for long: it says so, and leaves nothing.
func TestSignalEndsComparison(t *testing.T) {
	for _, test := range []struct {
		signal syscall.Signal
		status int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}, {syscall.SIGHUP, 129}} {
		dir := t.TempDir()
		cmd := again(t, asProgram, "-only", "P1,P10", "-rounds", "10000000", "-dir", dir, "-json", filepath.Join(t.TempDir(), "out.json"))
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			if made, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(made) > 0 {
				break
			}
			if time.Since(began) > time.Minute {
				t.Error("no file is made")
				break
			}
		}
		if err := cmd.Process.Signal(test.signal); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != test.status {
			t.Errorf("%v: got %v, want status %d", test.signal, err, test.status)
		}
		if !strings.Contains(said.String(), "bench: interrupted by the signal") || !strings.Contains(said.String(), "in row P1, after 0 of 2 rows") {
			t.Errorf("%v: it said %q", test.signal, &said)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v: files left: %v, %v", test.signal, left, err)
		}
	}
}

// The second signal ends what the first one does not.
func TestSecondSignal(t *testing.T) {
	cmd := again(t, asWaiting)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	lines := bufio.NewScanner(out)
	for _, want := range []string{"ready", `interrupted by the signal "interrupt"`} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("it said %q, want %q", lines.Text(), want)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	err = cmd.Wait()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("got %v", err)
	}
}

// A build that is stopped takes along what it has started.
func TestBuildStoppedWhole(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Skipf("no named pipe: %v: %s", err, out)
	}
	const script = "#!/bin/sh\nexec 9>\"$FIFO\"\nsleep 1000 &\necho started >&9\nwait\n"
	if err := os.WriteFile(filepath.Join(dir, "cargo"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FIFO", fifo)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("HOME", dir)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	built := make(chan error, 1)
	go func() {
		_, err := buildRust(ctx, "")
		built <- err
	}()
	opened := make(chan *os.File, 1)
	go func() {
		from, err := os.Open(fifo) // waits for the script
		if err != nil {
			t.Error(err)
		}
		opened <- from
	}()
	var from *os.File
	select {
	case from = <-opened:
	case err := <-built:
		t.Skipf("a program in %s cannot be run: %v", dir, err)
	}
	defer from.Close()
	if line, err := bufio.NewReader(from).ReadString('\n'); line != "started\n" {
		t.Fatalf("the script said %q, %v", line, err)
	}
	cancel()
	if err := <-built; err == nil {
		t.Error("a build that was stopped: no error")
	}
	// The end comes when nobody has the pipe open any more.
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, from)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("what the build has started goes on")
	}
}
