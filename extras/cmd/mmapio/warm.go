package main

import (
	"context"
	"errors"

	"github.com/mmapio/mmapio"
)

type warmCmd struct {
	manyFiles
	jsonFlag
}

// Help is what mmapio warm --help prints below the usage.
func (*warmCmd) Help() string {
	return "Reads files into memory (the page cache), so that programs find them there, and prints what " +
		"of each was in memory before and what is now. Holes are left out: there is nothing to read. What does not fit into memory " +
		"pushes out what came first." + aboutFolders
}

// move is what a command has changed about a file in memory.
type move struct {
	Name    string `json:"name"`
	Size    int64  `json:"size_bytes"`
	Before  *int64 `json:"resident_before_bytes"`
	After   *int64 `json:"resident_after_bytes"`
	Dirty   *int64 `json:"dirty_bytes,omitempty"`
	Stays   string `json:"stays,omitempty"`   // why there is something after an eviction
	Unknown string `json:"unknown,omitempty"` // why fields are null
}

// workStep is how much is done at once: in between there is time for the bar and for signals.
const workStep = 32 << 20

// Run reads the files.
func (c *warmCmd) Run(ctx context.Context) error {
	return moveFiles(newBatch(ctx, "warm"), c.Files, c.JSON, func(b *batch, file *mmapio.File, m *move) error {
		return inSteps(b, file, m.Size, file.Prefault)
	})
}

// inSteps calls do for what of the file is not hole, a part at a time.
func inSteps(b *batch, file *mmapio.File, size int64, do func(off, n int64) error) error {
	for off := int64(0); off < size; {
		from, to := nextData(file, off, size)
		b.bar.add(from - off)
		for from < to {
			if err := interrupted(b.ctx, nil); err != nil {
				return err
			}
			n := min(to-from, workStep)
			if err := do(from, n); err != nil {
				return err
			}
			b.bar.add(n)
			from += n
		}
		off = to
	}
	return nil
}

// moveFiles calls do with each of the files, which moves the bar, and prints what has changed.
func moveFiles(b *batch, names []string, asJSON bool, do func(*batch, *mmapio.File, *move) error, options ...mmapio.Option) error {
	files, err := b.find(names)
	if err != nil {
		return err
	}
	var sum int64
	for _, entry := range files {
		sum += min(entry.size, 1<<62-sum)
	}
	b.bar = byteProgress(b.op, sum)
	defer b.bar.end()
	total := move{Name: "total", Before: new(int64), After: new(int64)}
	var reasons []string
	done := 0
	err = b.each(files, func(file *mmapio.File, entry found) error {
		m := move{Name: entry.name}
		var err error
		if m.Size, err = file.Size(); err != nil {
			return err
		}
		var unknown error
		if m.Before, unknown = residentBytes(b.ctx, file); errors.Is(unknown, errInterrupted) {
			return unknown
		}
		if err := do(b, file, &m); err != nil {
			return err
		}
		if unknown == nil {
			if m.After, unknown = residentBytes(b.ctx, file); errors.Is(unknown, errInterrupted) {
				return unknown
			}
		}
		if unknown != nil {
			m.Unknown, m.Before = reason(unknown), nil
			reasons = addReason(reasons, m.Unknown)
			total.Before, total.After = nil, nil
		} else if total.After != nil {
			*total.Before += *m.Before
			*total.After += *m.After
		}
		if m.After == nil || *m.After == 0 {
			m.Stays = ""
		}
		total.Size += m.Size
		b.bar.clear()
		if asJSON {
			return printJSON(m)
		}
		if done++; done == 1 {
			if err := printText(moveFormat, "SIZE", "BEFORE", "", "AFTER", "", "NAME"); err != nil {
				return err
			}
		}
		return m.print()
	}, options...)
	b.bar.end()
	if err != nil {
		return err
	}
	if done > 1 {
		total.Name = "total of " + plural(done, "file")
		if err := total.print(); err != nil {
			return err
		}
	}
	if !asJSON {
		for _, reason := range reasons {
			if err := printText("- : %s\n", reason); err != nil {
				return err
			}
		}
	}
	return b.result()
}

// residentBytes returns how many bytes of the file are in memory, or why nobody knows.
func residentBytes(ctx context.Context, file *mmapio.File) (*int64, error) {
	if onHugetlbfs(file) {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		n, _ := allocated(info)
		return &n, nil
	}
	r, err := residencyOf(ctx, file)
	if err != nil {
		return nil, err
	}
	return &r.bytes, nil
}

const moveFormat = "%9s %9s %5s %9s %5s  %s\n"

// print prints the row of a file.
func (m *move) print() error {
	err := printText(moveFormat, byteCount(m.Size), optionalCount(m.Before), percent(m.Before, m.Size),
		optionalCount(m.After), percent(m.After, m.Size), quoteLines(m.Name))
	if err == nil && m.Stays != "" {
		err = printText("%9s %s\n", "", m.Stays)
	}
	return err
}
