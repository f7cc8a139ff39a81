// Command tally reads what go test -json prints and sums it up: a line a package, the
// output of what failed, and why tests were skipped. It fails when something failed
// or nothing passed.
//
// TOTALS names a file that gets a line "passed failed skipped" appended, PASSED one that gets
// the names of the tests that passed, without those of which all subtests were skipped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

type counts struct{ passed, failed, skipped int }

func main() {
	ok, err := tally()
	if err != nil {
		fmt.Println("tally:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func tally() (ok bool, err error) {
	output := make(map[string][]string) // of each test, until its end
	perPackage := make(map[string]*counts)
	var sum counts
	var passed []string
	parts := make(map[string]*counts) // the subtests of each test
	ok = true
	lines := bufio.NewReader(os.Stdin)
	for {
		line, readErr := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) != nil || e.Action == "":
			fmt.Print(line) // of go itself
		}
		key := e.Package + " " + e.Test
		if perPackage[e.Package] == nil {
			perPackage[e.Package] = new(counts)
		}
		in := perPackage[e.Package]
		switch e.Action {
		case "output":
			output[key] = append(output[key], e.Output)
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			fmt.Println("does not build:", e.ImportPath)
			ok = false
		case "pass", "fail", "skip":
			if e.Test == "" {
				if e.Action == "fail" {
					ok = false
					show(output[key])
				}
				if *in != (counts{}) || e.Action == "fail" {
					fmt.Printf("%s: %d passed, %d failed, %d skipped, %.1f s\n", e.Package, in.passed, in.failed, in.skipped, e.Elapsed)
				}
				break
			}
			whole, of := new(counts), parts[key]
			if slash := strings.LastIndexByte(e.Test, '/'); slash >= 0 {
				parent := e.Package + " " + e.Test[:slash]
				if parts[parent] == nil {
					parts[parent] = new(counts)
				}
				whole = parts[parent]
			}
			switch e.Action {
			case "pass":
				in.passed++
				sum.passed++
				if of != nil && of.passed == 0 && of.skipped > 0 {
					whole.skipped++
					break
				}
				whole.passed++
				passed = append(passed, e.Test)
			case "fail":
				in.failed++
				sum.failed++
				ok = false
				show(output[key])
			case "skip":
				in.skipped++
				sum.skipped++
				whole.skipped++
				fmt.Printf("skipped %s: %s\n", e.Test, reason(output[key]))
			}
			delete(output, key)
		}
		if readErr != nil {
			break
		}
	}
	for key, lines := range output {
		// A test without an end was under way when its program died.
		if !strings.HasSuffix(key, " ") {
			ok = false
			fmt.Println("no result:", key)
			show(lines)
		}
	}
	if sum.passed == 0 {
		fmt.Println("no test passed")
		ok = false
	}
	if err := appendTo("TOTALS", fmt.Sprintln(sum.passed, sum.failed, sum.skipped)); err != nil {
		return false, err
	}
	return ok, appendTo("PASSED", strings.Join(append(passed, ""), "\n"))
}

// show prints the output of what failed, its middle left out if it is long.
func show(output []string) {
	const most = 80
	if left := len(output) - most; left > 0 {
		fmt.Print(strings.Join(output[:most/2], ""))
		fmt.Printf("... %d lines ...\n", left)
		output = output[len(output)-most/2:]
	}
	fmt.Print(strings.Join(output, ""))
}

// reason returns what a skipped test said.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		said = append(said, line)
	}
	return strings.Join(said, " ")
}

// appendTo adds text to the file that an environment variable names, if it does.
func appendTo(variable, text string) error {
	name := os.Getenv(variable)
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
