package main

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/mmapio/mmapio"
)

type lockCmd struct {
	manyFiles
	jsonFlag
}

// Help is what mmapio lock --help prints below the usage.
func (*lockCmd) Help() string {
	return "Reads files into memory and keeps them there until a signal (Ctrl-C) ends the command. Holes are left out. " +
		"What may be locked is limited by RLIMIT_MEMLOCK (ulimit -l) on Unix. " +
		"More than the memory of the machine is refused." + aboutFolders
}

// lockedFile is what is locked of a file.
type lockedFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size_bytes"`
	Locked int64  `json:"locked_bytes"`
}

// lockTotal is the last line of what is printed: all that could be locked is locked.
type lockTotal struct {
	State  string `json:"state"`
	Files  int    `json:"files"`
	Locked int64  `json:"locked_bytes"`
}

// Run locks the files.
func (c *lockCmd) Run(ctx context.Context) error {
	b := newBatch(ctx, "lock")
	files, err := b.find(c.Files)
	if err != nil {
		return err
	}
	var sum int64
	for _, entry := range files {
		sum += min(entry.size, 1<<62-sum)
	}
	b.bar = byteProgress("lock", sum)
	defer b.bar.end()
	var held []*mmapio.View // which keep what is locked without a descriptor
	defer func() { release(held) }()
	total := lockTotal{State: "held"}
	err = b.each(files, func(file *mmapio.File, entry found) error {
		one, views, err := lockFile(b, file, entry.name, total.Locked)
		if err != nil {
			release(views)
			return err
		}
		held = append(held, views...)
		total.Files++
		total.Locked += one.Locked
		b.bar.clear()
		if c.JSON {
			return printJSON(one)
		}
		if total.Files == 1 {
			if err := printText(lockFormat, "SIZE", "LOCKED", "NAME"); err != nil {
				return err
			}
		}
		return printText(lockFormat, byteCount(one.Size), byteCount(one.Locked), quoteLines(one.Name))
	}, mmapio.WithMapping(mmapio.MapNever))
	b.bar.end()
	if err != nil {
		return err
	}
	if total.Files == 0 {
		return b.result()
	}
	if c.JSON {
		err = printJSON(total)
	} else {
		err = printText("%s of %s held in memory until interrupted\n", byteCount(total.Locked), plural(total.Files, "file"))
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return b.result()
}

const lockFormat = "%9s %9s  %s\n"

func release(views []*mmapio.View) {
	for _, view := range views {
		view.Release()
	}
}

// lockFile locks what of the file is not hole, and returns the views that keep it locked, also with an
// error. So many bytes of other files have been locked before.
func lockFile(b *batch, file *mmapio.File, name string, before int64) (one lockedFile, views []*mmapio.View, err error) {
	one.Name = name
	if one.Size, err = file.Size(); err != nil {
		return one, nil, err
	}
	var data int64
	for at := int64(0); at < one.Size; {
		if err := interrupted(b.ctx, nil); err != nil {
			return one, nil, err
		}
		from, to := nextData(file, at, one.Size)
		data += to - from
		at = to
	}
	if memory, ok := totalMemory(); ok && data > memory-before {
		return one, nil, &fs.PathError{Op: "lock", Path: name, Err: fmt.Errorf("%s, and %s that are locked before, are more than the memory of the machine, which is %s",
			byteCount(data), byteCount(before), byteCount(memory))}
	}
	err = inSteps(b, file, one.Size, func(off, n int64) error {
		view, err := file.View(off, n)
		if err != nil {
			return err
		}
		views = append(views, view)
		one.Locked += n
		return view.LockAll()
	})
	if err != nil {
		err = explainLockLimit(err, before+data)
	}
	return one, views, err
}
