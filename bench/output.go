package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// outputs are where a report goes, by form. The table goes to the standard output, unless
// another form does.
type outputs struct {
	json, html, markdown string
}

// form is one way to write a report, and the file to write it to.
type form struct {
	to    string
	write func(out io.Writer, rep report) error
}

func (o *outputs) forms() []form {
	return []form{{o.json, writeJSON}, {o.html, writeHTML}, {o.markdown, writeMarkdown}}
}

const standardOutput = "-"

// check fails where a report could not be written: better now than after all is measured.
func (o *outputs) check() error {
	here := 0
	for _, f := range o.forms() {
		if f.to == standardOutput {
			here++
		}
	}
	if here > 1 {
		return errors.New("only one form can go to the standard output")
	}
	for _, f := range o.forms() {
		if f.to == "" || f.to == standardOutput {
			continue
		}
		info, err := os.Stat(f.to)
		if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
			continue // whoever reads a pipe would take the look for the end
		}
		file, openErr := os.OpenFile(f.to, os.O_WRONLY|os.O_CREATE, 0o666)
		if openErr != nil {
			return openErr
		}
		if closeErr := file.Close(); closeErr != nil {
			return closeErr
		}
		if errors.Is(err, fs.ErrNotExist) { // nothing is left if nothing is measured
			if err := os.Remove(f.to); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes a report in every form that is asked for. One that fails does not keep the
// others from being written: what was measured took long.
func (o *outputs) write(stdout io.Writer, rep report) (err error) {
	table := form{standardOutput, writeTable}
	for _, f := range o.forms() {
		switch f.to {
		case "":
		case standardOutput:
			table = f
		default:
			err = errors.Join(err, writeTo(f, rep))
		}
	}
	return errors.Join(err, table.write(stdout, rep))
}

func writeTo(f form, rep report) error {
	file, err := os.Create(f.to)
	if err != nil {
		return err
	}
	if err := errors.Join(f.write(file, rep), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", f.to, err)
	}
	return nil
}

// writeJSON writes a report for programs.
func writeJSON(out io.Writer, rep report) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(rep)
}
