package main

import (
	"context"
	"fmt"
	"math"

	"github.com/mmapio/mmapio"
)

type evictCmd struct {
	manyFiles
	jsonFlag
}

// Help is what mmapio evict --help prints below the usage.
func (*evictCmd) Help() string {
	return "Writes what has changed in the files to the disk, takes them out of memory (the page cache), and prints what " +
		"of each was in memory before and what is now. What others have mapped or locked stays, " +
		"and so do files that have no other place than memory, such as those on tmpfs." + aboutFolders
}

// Run takes the files out of memory.
func (c *evictCmd) Run(ctx context.Context) error {
	// A mapping of this process would be a reason for pages to stay.
	return moveFiles(newBatch(ctx, "evict"), c.Files, c.JSON, evict, mmapio.WithMapping(mmapio.MapNever))
}

// evict takes one file out of memory.
func evict(b *batch, file *mmapio.File, m *move) error {
	defer b.bar.add(m.Size)
	if err := file.Advise(0, 0, mmapio.AdviceDontNeed); err != nil { // not on this system
		return err
	}
	// A disk may take its time to write.
	_, syncErr := wait(b.ctx, func() (struct{}, error) { return struct{}{}, file.Sync() })
	if syncErr != nil {
		if syncErr == errInterrupted {
			return syncErr
		}
		b.fail(fmt.Errorf("%w; what is not written to the disk stays in memory", syncErr))
	}
	if err := file.Advise(0, math.MaxInt64, mmapio.AdviceDontNeed); err != nil {
		return err
	}
	if m.Size == 0 {
		return nil
	}
	_, dirty, known := cached(file, 0, m.Size)
	if known && !inMemoryOnly(file) {
		m.Dirty = number(dirty * int64(mmapio.PageSize()))
	}
	switch {
	case inMemoryOnly(file):
		m.Stays = "stays: the file has no other place than memory"
	case m.Dirty != nil && *m.Dirty > 0:
		m.Stays = "stays: " + byteCount(*m.Dirty) + " not written to the disk"
	default:
		m.Stays = "stays: mapped, locked or in use by others"
	}
	return nil
}
