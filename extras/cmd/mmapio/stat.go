package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/mmapio/mmapio"
)

type statCmd struct {
	manyFiles
	jsonFlag
	Picture bool `name:"picture" default:"true" negatable:"" help:"Show where in the file its bytes in memory are."`
}

// Help is what mmapio stat --help prints below the usage.
func (*statCmd) Help() string {
	return "Prints for each file: its size, what it takes up on the disk, how much of it is mapped by " +
		"other processes, how much is in memory (the page cache), how much of that is in huge pages, " +
		"and a picture of the file from its start to its end: " +
		"O for what is in memory, o for what is there in part, a blank for what is not. " +
		"Nothing is read in by that. A number that the system does not tell is shown as -, with the reason below. " +
		"Linux tells what of a file is in memory to its owner, and to those who may write it; all but size and disk " +
		"is for Linux." + aboutFolders
}

// fileStat is what is known of a file.
type fileStat struct {
	Name             string  `json:"name"`
	Size             int64   `json:"size_bytes"`
	Allocated        *int64  `json:"allocated_bytes"`
	Mapped           *int64  `json:"mapped_bytes"`
	MappedAtLeast    bool    `json:"mapped_bytes_is_minimum"`
	MappingProcesses *int64  `json:"mapping_processes"`
	Resident         *int64  `json:"resident_bytes"`
	Huge             *int64  `json:"huge_bytes"`
	PageSize         int64   `json:"page_size_bytes"`
	Pages            int64   `json:"pages"`
	ResidentPages    *int64  `json:"resident_pages"`
	Picture          *string `json:"picture,omitempty"`
	Unknown          string  `json:"unknown,omitempty"` // why fields are null
}

// Run prints what is known of the files.
func (c *statCmd) Run(ctx context.Context) error {
	b := newBatch(ctx, "stat")
	files, err := b.find(c.Files)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return b.result()
	}
	mapped, mappedErr := readMappedFiles()
	b.bar = stepProgress("looking", int64(len(files)))
	defer b.bar.end()
	total := fileStat{Allocated: new(int64), Mapped: new(int64), Resident: new(int64), Huge: new(int64)}
	var reasons []string
	done := 0
	err = b.each(files, func(file *mmapio.File, entry found) error {
		stat, err := c.look(ctx, file, entry.name, mapped, mappedErr)
		if err != nil {
			return err
		}
		b.bar.clear()
		if c.JSON {
			err = printJSON(stat)
		} else {
			if done == 0 {
				err = printText(statFormat, "SIZE", "ON DISK", "MAPPED", "RESIDENT", "", "HUGE", "NAME")
			}
			if err == nil {
				err = stat.print()
			}
		}
		done++
		total.add(stat)
		if stat.Unknown != "" && !c.JSON {
			reasons = addReason(reasons, stat.Unknown)
		}
		b.bar.add(1)
		return err
	}, mmapio.WithMapping(mmapio.MapNever))
	b.bar.end()
	if err != nil {
		return err
	}
	if !c.JSON && done > 1 {
		total.Name = fmt.Sprintf("total of %d files", done)
		if err := total.print(); err != nil {
			return err
		}
	}
	for _, reason := range reasons {
		if err := printText("- : %s\n", reason); err != nil {
			return err
		}
	}
	if !c.JSON && done > 0 && mapped != nil && mapped.partial {
		if err := printText("MAPPED leaves out processes that this user may not look at\n"); err != nil {
			return err
		}
	}
	return b.result()
}

// look finds out about an open file.
func (c *statCmd) look(ctx context.Context, file *mmapio.File, name string, mapped *mappedFiles, mappedErr error) (*fileStat, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	pageSize := int64(mmapio.PageSize())
	s := &fileStat{Name: name, Size: info.Size(), PageSize: pageSize}
	if s.Size > 0 {
		s.Pages = (s.Size-1)/pageSize + 1
	}
	if n, ok := allocated(info); ok {
		s.Allocated = &n
	}

	if mappedErr == nil {
		n, processes, err := mapped.of(file, info)
		if err == nil {
			s.Mapped, s.MappingProcesses, s.MappedAtLeast = &n, number(int64(processes)), mapped.partial
		}
		mappedErr = err
	}
	residentErr := error(nil)
	if onHugetlbfs(file) { // always in memory, but mincore tells what this process has mapped
		s.Resident, s.Huge, s.ResidentPages = s.Allocated, s.Allocated, number(*s.Allocated/pageSize)
	} else {
		residentErr = c.lookAtMemory(ctx, file, s)
		if errors.Is(residentErr, errInterrupted) {
			return nil, errInterrupted
		}
	}
	var reasons []string
	for _, err := range []error{residentErr, mappedErr} {
		if err != nil {
			reasons = addReason(reasons, reason(err))
		}
	}
	s.Unknown = strings.Join(reasons, "; ")
	return s, nil
}

// lookAtMemory fills in what is in memory.
func (c *statCmd) lookAtMemory(ctx context.Context, file *mmapio.File, s *fileStat) error {
	r, err := residencyOf(ctx, file)
	if err != nil {
		return err
	}
	s.Resident, s.ResidentPages = &r.bytes, &r.in
	if c.Picture {
		picture := r.picture()
		s.Picture = &picture
	}
	huge, err := r.hugeBytes(ctx, file)
	if err != nil {
		return err
	}
	s.Huge = &huge
	return nil
}

// reason returns what is wrong, without the name of the file.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return err.Error()
}

const maxReasons = 10

// addReason adds a reason to those there are.
func addReason(reasons []string, reason string) []string {
	for _, known := range reasons {
		if known == reason {
			return reasons
		}
	}
	if len(reasons) < maxReasons {
		reasons = append(reasons, reason)
	}
	return reasons
}

const statFormat = "%9s %9s %9s %9s %5s %9s  %s\n"

// print prints the row of a file, and its picture.
func (s *fileStat) print() error {
	err := printText(statFormat, byteCount(s.Size), optionalCount(s.Allocated), optionalCount(s.Mapped),
		optionalCount(s.Resident), percent(s.Resident, s.Size), optionalCount(s.Huge), quoteLines(s.Name))
	if err == nil && s.Picture != nil && s.Size > 0 {
		err = printText("[%s]\n", *s.Picture)
	}
	return err
}

// add adds the numbers of a file to a total. What is not known of one is not known of all.
func (s *fileStat) add(one *fileStat) {
	s.Size += one.Size
	for _, field := range []struct{ to, from **int64 }{
		{&s.Allocated, &one.Allocated},
		{&s.Mapped, &one.Mapped},
		{&s.Resident, &one.Resident},
		{&s.Huge, &one.Huge},
	} {
		if *field.to == nil || *field.from == nil {
			*field.to = nil
			continue
		}
		**field.to += **field.from
	}
}
