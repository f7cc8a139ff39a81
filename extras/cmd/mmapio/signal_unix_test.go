//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// makeFIFO makes a FIFO and returns its path.
func makeFIFO(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no FIFO here: %v", err)
	}
	return path
}

// start starts cmd; its standard error goes to the buffer.
func start(t *testing.T, cmd *exec.Cmd) *bytes.Buffer {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &stderr
}

// awaitDrained returns when everything in the FIFO has been read, where the system
// tells. It is replaced there.
var awaitDrained = func(*testing.T, *os.File) {}

// feed opens the FIFO, which somebody is about to read, and writes content. A FIFO
// holds much less than a mebibyte, so most of that has been read when feed returns,
// on Linux all of it.
func feed(t *testing.T, path string, content []byte) *os.File {
	t.Helper()
	fifo, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fifo.Close() })
	if _, err := fifo.Write(content); err != nil {
		t.Fatal(err)
	}
	awaitDrained(t, fifo)
	return fifo
}

func TestCpFromFIFO(t *testing.T) {
	fifo := makeFIFO(t)
	dst := filepath.Join(t.TempDir(), "dst")
	content := random(1<<20 + 1)
	cmd := toolCommand(t, t.TempDir(), "cp", fifo, dst)
	stderr := start(t, cmd)
	feed(t, fifo, content).Close()
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v, standard error %q", err, stderr)
	}
	wantContent(t, dst, content)
}

func TestCpToFIFO(t *testing.T) {
	fifo := makeFIFO(t)
	src := filepath.Join(t.TempDir(), "src")
	content := random(1<<20 + 1)
	write(t, src, content)
	cmd := toolCommand(t, t.TempDir(), "cp", src, fifo)
	stderr := start(t, cmd)
	got, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v, standard error %q", err, stderr)
	}
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(content))
	}
	if info, err := os.Stat(fifo); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the FIFO has become %v, %v", info, err)
	}
}

// TestCpInterrupted stops a copy while it waits for more from a FIFO.
func TestCpInterrupted(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, unix.SIGTERM, unix.SIGHUP} {
		for _, exists := range []bool{false, true} {
			fifo, folder := makeFIFO(t), t.TempDir()
			dst := filepath.Join(folder, "dst")
			words := []string{"interrupted", "the partial copy was removed"}
			if exists {
				write(t, dst, []byte("old"))
				words = append(words, dst+" is as it was")
			}
			before := namesIn(t, folder)
			cmd := toolCommand(t, t.TempDir(), "cp", fifo, dst)
			stderr := start(t, cmd)
			feed(t, fifo, random(1<<20))
			if during := namesIn(t, folder); len(during) != len(before)+1 {
				t.Errorf("during the copy the folder holds %q, want a temporary file beside %q", during, before)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the status tells
			wantFailure(t, result{stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}, exitInterrupted, words...)
			wantNames(t, folder, before...)
			if exists {
				wantContent(t, dst, []byte("old"))
			}
		}
	}
}

// TestCpToFIFOInterrupted stops a copy while it waits for a FIFO to be read.
func TestCpToFIFOInterrupted(t *testing.T) {
	fifo := makeFIFO(t)
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, random(4<<20))
	cmd := toolCommand(t, t.TempDir(), "cp", src, fifo)
	stderr := start(t, cmd)
	reader, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := io.CopyN(io.Discard, reader, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status tells
	wantFailure(t, result{stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}, exitInterrupted, "interrupted", fifo+" may have got a part")
}

func TestSumInterrupted(t *testing.T) {
	fifo := makeFIFO(t)
	after := filepath.Join(t.TempDir(), "after")
	write(t, after, []byte("text"))
	var stdout bytes.Buffer
	cmd := toolCommand(t, t.TempDir(), "sum", after, fifo, after)
	cmd.Stdout = &stdout
	stderr := start(t, cmd)
	feed(t, fifo, random(1<<20))
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status tells
	wantFailure(t, result{stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}, exitInterrupted, "interrupted")
	if want := sumLine(after, []byte("text")); stdout.String() != want {
		t.Errorf("prints\n%swant\n%s", &stdout, want)
	}
}

// TestTourInterrupted stops a tour once it has said what file it is about.
func TestTourInterrupted(t *testing.T) {
	temp := t.TempDir()
	cmd := toolCommand(t, temp, "tour")
	cmd.Env = append(cmd.Env, toolEnv+"=endless")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := start(t, cmd)
	lines := bufio.NewReader(stdout)
	for range 2 { // the second line comes before the measurements
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if names := namesIn(t, temp); len(names) != 1 {
		t.Errorf("during the tour the temporary folder holds %q, want one folder", names)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status tells
	wantFailure(t, result{stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}, exitInterrupted, "interrupted", "temporary files were removed")
	wantNames(t, temp)
}

// TestTourWithoutReader has nobody read what a tour prints after its first line, as with head.
func TestTourWithoutReader(t *testing.T) {
	temp := t.TempDir()
	cmd := toolCommand(t, temp, "tour")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := start(t, cmd)
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status tells
	wantFailure(t, result{stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}, exitError, "cannot print the results", "temporary files were removed")
	wantNames(t, temp)
}

// TestCpWriteError has the copy fail in the middle, at the largest file size that
// the process may write.
func TestCpWriteError(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	write(t, src, random(1<<20))
	write(t, dst, []byte("old"))
	cmd := toolCommand(t, t.TempDir(), "cp", src, dst)
	cmd.Args = slices.Concat([]string{shell, "-c", `ulimit -f 64 && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:])
	cmd.Path = shell
	r := finish(t, cmd)
	if strings.Contains(r.stderr, "ulimit") {
		t.Skipf("no limits for files here: %s", r.stderr)
	}
	wantFailure(t, r, exitError, dst, unix.EFBIG.Error(), "the partial copy was removed", dst+" is as it was")
	if strings.Contains(r.stderr, ".tmp") {
		t.Errorf("%q names the temporary file", r.stderr)
	}
	wantContent(t, dst, []byte("old"))
	wantNames(t, folder, "src", "dst")
}

// TestIgnoredSignal goes on after a signal that was ignored at the start, as nohup
// has it.
func TestIgnoredSignal(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	fifo := makeFIFO(t)
	dst := filepath.Join(t.TempDir(), "dst")
	content := random(1 << 20)
	cmd := toolCommand(t, t.TempDir(), "cp", fifo, dst)
	cmd.Args = slices.Concat([]string{shell, "-c", `trap "" HUP && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:])
	cmd.Path = shell
	stderr := start(t, cmd)
	writer := feed(t, fifo, content)
	if err := cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v, standard error %q", err, stderr)
	}
	wantContent(t, dst, content)
}
