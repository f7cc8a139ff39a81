package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// jsonFlag is the flag of commands that print JSON when asked to.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON instead, with numbers in bytes."`
}

// errOutput is in errors of writing the results: there is no point in going on.
var errOutput = errors.New("cannot print the results")

// printJSON prints v as one line.
func printJSON(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printText("%s\n", line)
}

// printText prints a part of the results.
func printText(format string, arguments ...any) error {
	if _, err := fmt.Printf(format, arguments...); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// quoteLines returns the name as it can stand at the end of a line. What would break the line,
// or command the terminal, is quoted.
func quoteLines(name string) string {
	if strings.ContainsFunc(name, unicode.IsControl) {
		return strconv.Quote(name)
	}
	return name
}

// number returns a pointer to n, for a field of JSON that is null when nobody knows it.
func number(n int64) *int64 { return &n }

// optionalCount is byteCount for a number that nobody may know.
func optionalCount(n *int64) string {
	if n == nil {
		return "-"
	}
	return byteCount(*n)
}

// percent returns how much of size n is: 100% is all of it, and 0% nothing.
func percent(n *int64, size int64) string {
	if n == nil || size == 0 {
		return "-"
	}
	if part := float64(*n) / float64(size) * 100; *n == 0 || part >= 1 {
		return fmt.Sprintf("%d%%", int(part))
	}
	return "<1%"
}

// plural returns "1 file", "2 files" and so on.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
