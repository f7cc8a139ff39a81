package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a new pseudo terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// onTerminal runs the tool with standard error on a terminal, and returns what it
// wrote there and to standard output.
func onTerminal(t *testing.T, args ...string) (terminal, stdout string) {
	t.Helper()
	master, slave := openTerminal(t)
	var out bytes.Buffer
	cmd := toolCommand(t, t.TempDir(), args...)
	cmd.Stdout, cmd.Stderr = &out, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	seen, err := io.ReadAll(master) // to an EIO, when nobody has the other end any more
	if len(seen) == 0 {
		t.Errorf("nothing on the terminal: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("mmapio %q: %v, on the terminal: %q", args, err, seen)
	}
	return string(seen), out.String()
}

// clearLine is how a bar ends: nothing of it stays in the line.
const clearLine = "\x1b[2K\r"

func TestProgressOnTerminal(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	content := random(3 * stepOfFile)
	write(t, src, content)

	seen, _ := onTerminal(t, "cp", src, dst)
	if !strings.Contains(seen, "src") || !strings.Contains(seen, "%") || !strings.HasSuffix(seen, clearLine) {
		t.Errorf("cp shows %q, want a bar that is taken away", seen)
	}
	wantContent(t, dst, content)

	seen, stdout := onTerminal(t, "sum", src)
	if !strings.Contains(seen, "src") || !strings.Contains(seen, "%") || !strings.HasSuffix(seen, clearLine) {
		t.Errorf("sum shows %q, want a bar that is taken away", seen)
	}
	if want := sumLine(src, content); stdout != want {
		t.Errorf("sum prints %q, want %q", stdout, want)
	}

	seen, stdout = onTerminal(t, "tour")
	if !strings.Contains(seen, "measuring") || !strings.HasSuffix(seen, clearLine) {
		t.Errorf("tour shows %q, want a bar that is taken away", seen)
	}
	wantTable(t, stdout)
}

// TestProgressWithoutSize shows a bar for a file whose size nobody knows.
func TestProgressWithoutSize(t *testing.T) {
	const src = "/proc/version"
	if _, err := os.Stat(src); err != nil {
		t.Skip(err)
	}
	seen, _ := onTerminal(t, "cp", src, filepath.Join(t.TempDir(), "dst"))
	if !strings.HasSuffix(seen, clearLine) {
		t.Errorf("cp shows %q, want a bar that is taken away", seen)
	}
}
