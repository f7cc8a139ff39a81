package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mmapio/mmapio/extras/watch"
)

type watchCmd struct {
	manyFiles
	jsonFlag
	Content  bool          `name:"content" default:"true" negatable:"" help:"Compare the content, to find what was changed, through mappings too."`
	Block    int           `name:"block" default:"4096" placeholder:"BYTES" help:"Compare in blocks of that many bytes, 64 to 1048576 (default: ${default})."`
	Interval time.Duration `name:"interval" default:"1s" placeholder:"TIME" help:"Compare, and look for new files in folders, that often (default: ${default})."`
}

// Help is what mmapio watch --help prints below the usage.
func (*watchCmd) Help() string {
	return "Prints a line for each change of the files until a signal (Ctrl-C) ends the command: the time, what " +
		"happened (modified, metadata, removed, resized, replaced, overflow), where the change begins and how long it is in bytes, the " +
		"size of the file, and its name. Extents are told in whole blocks. Each file is read whole at the start, " +
		"and again at every interval; holes and what programs have in memory are left as they are. --no-content tells " +
		"that something was modified, not where. Files that are new in the folders are created, and watched from then on." + aboutFolders
}

// change is one event as JSON.
type change struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Name   string    `json:"name"`
	Offset *int64    `json:"offset_bytes,omitempty"`
	Length *int64    `json:"length_bytes,omitempty"`
	Size   *int64    `json:"size_bytes,omitempty"`
	Error  string    `json:"error,omitempty"`
}

// watchStart is the first line of what is printed: what happens from now on is told.
type watchStart struct {
	Time  time.Time `json:"time"`
	Kind  string    `json:"kind"`
	Files int       `json:"files"`
}

// watcher is the command at work.
type watcher struct {
	*watchCmd
	*batch
	stop    context.CancelFunc
	watched map[string]bool
	notes   []string // reasons for polling that were told

	mu      sync.Mutex // of the output
	waiting []watch.Event
	started bool
	err     error // of the output
}

// Run watches the files.
func (c *watchCmd) Run(ctx context.Context) error {
	if c.Interval <= 0 {
		return fmt.Errorf("watch: the interval must be more than 0, not %v", c.Interval)
	}
	if c.Block < 64 || c.Block > 1<<20 {
		return fmt.Errorf("watch: a block has 64 to %d bytes, not %d", 1<<20, c.Block)
	}
	b := newBatch(ctx, "watch")
	files, err := b.find(c.Files)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	w := &watcher{watchCmd: c, batch: b, stop: stop, watched: make(map[string]bool)}
	var watches []*watch.Watch
	defer func() {
		stop()
		for _, one := range watches {
			<-one.Done()
		}
	}()
	add := func(entry found) error {
		one, err := w.watch(watching, entry.name)
		if err != nil {
			return err
		}
		watches = append(watches, one)
		return nil
	}

	b.bar = stepProgress("reading", int64(len(files)))
	defer b.bar.end()
	for _, entry := range files {
		err := add(entry)
		if err := interrupted(ctx, nil); err != nil {
			return err
		}
		if err != nil {
			b.fail(err)
		}
		b.bar.add(1)
	}
	b.bar.end()
	b.bar = nil
	if len(watches) == 0 && len(files) > 0 || b.failed && len(files) == 0 {
		return b.result()
	}
	if err := w.begin(len(watches)); err != nil {
		return err
	}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for {
		select {
		case <-watching.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.err != nil {
				return w.err
			}
			return b.result()
		case <-tick.C:
		}
		w.lookForNew(add)
	}
}

// watch begins to watch a file.
func (w *watcher) watch(ctx context.Context, name string) (*watch.Watch, error) {
	options := []watch.Option{watch.WithInterval(w.Interval)}
	if w.Content {
		options = append(options, watch.WithContent(w.Block, w.Interval))
	}
	one, err := watch.PathFunc(ctx, name, w.tell, options...)
	if err != nil {
		return nil, err
	}
	w.watched[name] = true
	if why := one.Fallback(); why != nil {
		why = errors.New("there are no events here, files are looked at every " + w.Interval.String() + ": " + reason(why))
		if before := len(w.notes); before < len(addReason(w.notes, why.Error())) {
			w.notes = addReason(w.notes, why.Error())
			w.note(why)
		}
	}
	return one, nil
}

// lookForNew watches what is new in the folders. Errors of what is known to fail are not told
// again.
func (w *watcher) lookForNew(add func(found) error) {
	again := newBatch(w.ctx, w.op)
	again.quiet = true
	files, err := again.find(w.Files)
	if err != nil {
		return // interrupted
	}
	for _, entry := range files {
		if w.watched[entry.name] {
			continue
		}
		if add(entry) != nil {
			continue // it is gone again, or cannot be read, and was not before
		}
		w.tell(watch.Event{Name: entry.name, Kind: created, Size: entry.size})
	}
}

// created is a kind of event that package watch has not: it watches files that are there.
const created watch.Kind = 255

// begin says that all files are watched. Events that came before follow.
func (w *watcher) begin(files int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if w.JSON {
		err = printJSON(watchStart{time.Now(), "watching", files})
	} else {
		err = printText("watching %s until interrupted\n", plural(files, "file"))
	}
	w.started = true
	for _, event := range w.waiting {
		if err == nil {
			err = w.print(event)
		}
	}
	w.waiting = nil
	return err
}

// tell prints an event, or keeps it until all files are watched.
func (w *watcher) tell(event watch.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started {
		w.waiting = append(w.waiting, event)
		return
	}
	if w.err != nil {
		return
	}
	if w.err = w.print(event); w.err != nil {
		w.stop()
	}
}

func (w *watcher) print(event watch.Event) error {
	kind := event.Kind.String()
	if event.Kind == created {
		kind = "created"
	}
	now := time.Now()
	extent := (event.Kind == watch.Modified || event.Kind == watch.Resized) && event.Len >= 0
	if w.JSON {
		c := change{Time: now, Kind: kind, Name: event.Name}
		if extent {
			c.Offset, c.Length = &event.Offset, &event.Len
		}
		if event.Size >= 0 {
			c.Size = &event.Size
		}
		if event.Err != nil {
			c.Error = event.Err.Error()
		}
		return printJSON(c)
	}
	where, size := "-", "-"
	if extent {
		where = fmt.Sprintf("%d+%d", event.Offset, event.Len)
	}
	if event.Size >= 0 {
		size = fmt.Sprint(event.Size)
	}
	name := quoteLines(event.Name)
	if event.Err != nil {
		name += ": " + reason(event.Err)
	}
	return printText("%s  %-9s %22s  size %12s  %s\n", now.Format("15:04:05.000"), kind, where, size, name)
}
