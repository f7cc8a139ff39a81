package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// background is the tool running beside the test, as lock, watch and serve do.
type background struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Reader
	stderr bytes.Buffer
	ended  bool
}

func inBackground(t *testing.T, args ...string) *background {
	t.Helper()
	return startBackground(t, toolCommand(t, t.TempDir(), args...))
}

func startBackground(t *testing.T, cmd *exec.Cmd) *background {
	t.Helper()
	b := &background{t: t, cmd: cmd}
	cmd.Stderr = &b.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.lines = bufio.NewReader(stdout)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !b.ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return b
}

// line waits for the next line of standard output.
func (b *background) line() string {
	b.t.Helper()
	line, err := b.lines.ReadString('\n')
	if err != nil {
		_ = b.cmd.Wait()
		b.ended = true
		b.t.Fatalf("%v after %q, standard error %q", err, line, &b.stderr)
	}
	return strings.TrimSuffix(line, "\n")
}

// object waits for the next line and reads it as JSON.
func (b *background) object() map[string]any {
	b.t.Helper()
	return parseObject(b.t, b.line())
}

// end interrupts the tool and checks that it ends well where signals can be sent.
func (b *background) end(status int) (stdout, stderr string) {
	b.t.Helper()
	canInterrupt := b.cmd.Process.Signal(os.Interrupt) == nil
	if !canInterrupt { // Windows
		if err := b.cmd.Process.Kill(); err != nil {
			b.t.Fatal(err)
		}
	}
	rest, err := io.ReadAll(b.lines)
	if err != nil {
		b.t.Error(err)
	}
	_ = b.cmd.Wait() // the status tells
	b.ended = true
	if got := b.cmd.ProcessState.ExitCode(); canInterrupt && got != status {
		b.t.Errorf("status %d, want %d; standard error %q", got, status, &b.stderr)
	}
	return string(rest), b.stderr.String()
}

// parseObject reads one JSON object.
func parseObject(t *testing.T, line string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(line), &object); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return object
}

// parseLines reads JSON objects, one a line.
func parseLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var objects []map[string]any
	for line := range strings.Lines(text) {
		objects = append(objects, parseObject(t, line))
	}
	return objects
}

// wantFields checks fields of an object: numbers are float64 there.
func wantFields(t *testing.T, object map[string]any, want map[string]any) {
	t.Helper()
	for name, value := range want {
		switch n := value.(type) {
		case int:
			value = float64(n)
		case int64:
			value = float64(n)
		}
		got, there := object[name]
		if !there || got != value {
			t.Errorf("%s is %v (there: %v), want %v, in %v", name, got, there, value, object)
		}
	}
}
