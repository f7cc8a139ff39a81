package mmapio_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A child is this test binary started again to run one function, for tests that
// would bring down or confine the whole process.

const aloneVariable = "MMAPIO_TEST_ALONE"

// aloneRuns has the functions by name. One that returns an errSkip makes the test
// in the parent skip.
var aloneRuns = map[string]func(arguments []string) error{}

// errSkip says why a child cannot test here.
type errSkip string

func (e errSkip) Error() string { return string(e) }

const (
	childFailed  = 7
	childSkipped = 8
)

// TestChildProcess is the child. It does nothing in a normal run.
func TestChildProcess(t *testing.T) {
	text := os.Getenv(aloneVariable)
	if text == "" {
		t.Skip("this is the body of a child process")
	}
	arguments := strings.Split(text, "\n")
	run, ok := aloneRuns[arguments[0]]
	if !ok {
		t.Fatalf("no child is called %q", arguments[0])
	}
	err := run(arguments[1:])
	if err == nil {
		os.Exit(0)
	}
	fmt.Println(err)
	if _, skip := err.(errSkip); skip {
		os.Exit(childSkipped)
	}
	os.Exit(childFailed)
}

// runChild runs the child of that name and
// fails or skips as it says.
func runChild(t testing.TB, name string, arguments ...string) {
	t.Helper()
	if _, ok := aloneRuns[name]; !ok {
		t.Fatalf("no child is called %q", name)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(executable, "-test.run=^TestChildProcess$")
	command.Env = append(os.Environ(), aloneVariable+"="+strings.Join(append([]string{name}, arguments...), "\n"))
	output, err := command.CombinedOutput()
	if len(output) > 8<<10 {
		output = append(output[:8<<10], "..."...)
	}
	switch code := command.ProcessState.ExitCode(); {
	case err == nil:
		return
	case code == childSkipped:
		t.Skipf("%s", output)
	case code == childFailed:
		t.Errorf("child %s: %s", name, output)
	default:
		t.Errorf("child %s came down: %v\n%s", name, err, output)
	}
}
