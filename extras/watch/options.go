package watch

import (
	"fmt"
	"os"
	"time"
)

// Option changes how a file is watched. A nil Option is ignored.
type Option func(*config) error

// config is what the options of one Watch add up to.
type config struct {
	quiet    time.Duration
	interval time.Duration
	polling  bool
	looking  time.Duration // how often a file is looked at that there are events for

	blockSize       int // 0: content is not compared
	contentInterval time.Duration
}

const (
	defaultQuiet           = 20 * time.Millisecond
	defaultInterval        = time.Second
	defaultLooking         = 2 * time.Second
	defaultBlockSize       = 64 << 10
	defaultContentInterval = time.Second

	leastBlockSize = 64
	mostBlockSize  = 1 << 20
)

func newConfig(options []Option) (config, error) {
	c := config{quiet: defaultQuiet, interval: defaultInterval, looking: defaultLooking}
	for _, option := range options {
		if option == nil {
			continue
		}
		if err := option(&c); err != nil {
			return config{}, err
		}
	}
	return c, nil
}

// WithQuiet sets how long a file must be left alone before a change is told, so
// that what belongs together is told as one. A file that is never left alone for that long
// is told of at ten times the quiet time. The default is 20 milliseconds; 0 tells at
// once, with the states in between that are seen. A negative time is an error.
func WithQuiet(quiet time.Duration) Option {
	return func(c *config) error {
		if quiet < 0 {
			return fmt.Errorf("negative quiet time %v: %w", quiet, os.ErrInvalid)
		}
		c.quiet = quiet
		return nil
	}
}

// WithInterval sets how often a file is looked at where there are no events. The default
// is a second. An interval that is not positive is an error.
func WithInterval(interval time.Duration) Option {
	return func(c *config) error {
		if interval <= 0 {
			return fmt.Errorf("interval of %v: %w", interval, os.ErrInvalid)
		}
		c.interval = interval
		return nil
	}
}

// WithPolling looks at the file at the interval of [WithInterval], and does without
// events also where there are some.
func WithPolling() Option {
	return func(c *config) error {
		c.polling = true
		return nil
	}
}

// WithContent compares the content of the file, in blocks of blockSize bytes: at the
// interval, counted from the end of one comparison to the start of the next, and at
// every change that is seen. Modified events then name what has changed: an extent begins
// at a border of a block and ends at one or at the end of the file, neighbouring blocks
// make one extent, and what was appended begins at the old end, exactly. Of a file that
// was cut inside a block, what is left of the block counts as changed. Writing
// the same bytes again changes nothing but [Metadata].
//
// The watch begins with reading the whole file: changes are told relative to what was
// read then. Two different blocks have the same hash, and the change is missed, once
// in 2⁶⁴ times.
//
// The file is read by system calls, not through a mapping, and what was not in
// memory is not kept there. On Linux that is RWF_DONTCACHE where the file system has it (ext4,
// XFS and Btrfs of recent kernels), else pages that mincore says were not there are given back; for a
// file that the process may neither write nor owns, mincore says nothing, and they stay.
// Elsewhere the system decides. Holes are not read on ext4, XFS, Btrfs and tmpfs.
//
// What has changed is told when the file has been read, and takes up to 8 bytes more for each
// block until it is received. When a part cannot be read, what was found before it is told,
// and then an [Overflow].
//
// Each comparison reads and hashes the whole file again, except for holes, whether or not
// anything says that it has changed: of a file of 1 GiB, with an interval of a second, that is
// 1 GiB to read and to hash after each second of rest, for as long as the watch goes on. A
// file that is written to is read after each quiet time with changes as well. A longer
// interval costs less; larger blocks save memory only. In one process four files are read at
// the same time, and others wait for their turn.
//
// The hashes take 8 bytes a block. A file of more than 2²⁷ blocks is not compared: that is an
// error of the watch when it begins, and an [Overflow] when the file becomes as long later.
// There is no other bound: the longest file that is compared has 8 TiB with blocks of 64
// KiB, and its hashes take 1 GiB.
//
// A blockSize of 0 means 64 KiB, and an interval of 0 a second. A blockSize below 64 or
// above 1 MiB is an error, and so is a negative interval.
func WithContent(blockSize int, interval time.Duration) Option {
	return func(c *config) error {
		if blockSize == 0 {
			blockSize = defaultBlockSize
		}
		if interval == 0 {
			interval = defaultContentInterval
		}
		if blockSize < leastBlockSize || blockSize > mostBlockSize {
			return fmt.Errorf("block size %d is not between %d and %d: %w", blockSize, leastBlockSize, mostBlockSize, os.ErrInvalid)
		}
		if interval < 0 {
			return fmt.Errorf("negative interval %v: %w", interval, os.ErrInvalid)
		}
		c.blockSize, c.contentInterval = blockSize, interval
		return nil
	}
}
