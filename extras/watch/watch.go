package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// grace is how long an event may be later than the change that a look has found.
	grace = 50 * time.Millisecond
	// patience is how many quiet times a change waits for the file to be left alone.
	patience = 10
)

// retryInterval is how often it is tried again to have events. Tests change it.
var retryInterval = 10 * time.Second

// Target is an open file: an *mmapio.File, an *os.File, or another that stands for one
// of the operating system. Of a file behind a wrapper that shows another
// name than the operating system's, as those of afero.BasePathFs, give the file inside: see
// Find of package extras. One that has a name of its own, see mmapio.WithName, is found by
// that of its OSFile.
type Target interface {
	Name() string
	Stat() (fs.FileInfo, error)
}

// Watch is a file being watched. It ends when its context does, or with [Watch.Close].
// Its methods may be called by several goroutines at once.
type Watch struct {
	// Events has what happens to the file, in order. It is closed when the watch has
	// ended. It is nil if a function is called instead.
	Events <-chan Event

	name   string // absolute
	shown  string // as given, or as the file shows it
	config config
	out    chan Event
	call   func(Event)
	cancel context.CancelFunc
	done   chan struct{}

	signals atomic.Uint32
	lost    atomic.Pointer[error] // why there is a signalOverflow
	wake    chan struct{}
	status  atomic.Pointer[status]

	// What follows belongs to the goroutine.
	holds      map[hold]struct{}
	state      state
	failing    bool // the last look failed, and that was told
	unexpected bool // a look has found what no event told
	content    content
	sawBits    signal
	began, due time.Time // of a burst of changes
	nextLook   time.Time
	nextScan   time.Time
	nextArm    time.Time
}

// status is how a Watch gets to know of changes, and why it has to poll.
type status struct {
	mode Mode
	why  error
}

// File watches the file that f has open, by its name, and sends on [Watch.Events].
// f itself is used at the start only and may be closed afterwards; its position stays. If its name belongs to
// another file by then, the first event says so. Events have the name that f shows.
//
// The file must be a regular one of the operating system. Errors are of type
// [*fs.PathError], [os.ErrInvalid] for a nil f, and the error of ctx; an Option
// that makes no sense and a file that cannot be read for [WithContent] are errors too.
// That there are no events is none: see [Watch.Mode].
func File(ctx context.Context, f Target, options ...Option) (*Watch, error) {
	return watchFile(ctx, f, nil, options)
}

// FileFunc watches as [File] does and calls fn with each event, one at a time, on a
// goroutine of its own. The next event is looked for when fn has returned. fn may
// call [Watch.Close].
func FileFunc(ctx context.Context, f Target, fn func(Event), options ...Option) (*Watch, error) {
	if fn == nil {
		return nil, &fs.PathError{Op: "watch", Path: nameOf(f), Err: os.ErrInvalid}
	}
	return watchFile(ctx, f, fn, options)
}

// Path watches as [File] does the file of that name, which must exist.
func Path(ctx context.Context, name string, options ...Option) (*Watch, error) {
	return start(ctx, name, name, nil, nil, options)
}

// PathFunc watches as [FileFunc] does the file of that name, which must exist.
func PathFunc(ctx context.Context, name string, fn func(Event), options ...Option) (*Watch, error) {
	if fn == nil {
		return nil, &fs.PathError{Op: "watch", Path: name, Err: os.ErrInvalid}
	}
	return start(ctx, name, name, nil, fn, options)
}

func nameOf(f Target) string {
	if f == nil {
		return ""
	}
	return f.Name()
}

func watchFile(ctx context.Context, f Target, fn func(Event), options []Option) (*Watch, error) {
	if f == nil {
		return nil, os.ErrInvalid
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Sys() == nil {
		return nil, &fs.PathError{Op: "watch", Path: f.Name(), Err: errNotOfSystem}
	}
	return start(ctx, f.Name(), nameInSystem(f, info), info, fn, options)
}

// nameInSystem returns the name by which the system knows f. The os.File inside is asked
// where f shows another one, and only there: to hand it out costs f something.
func nameInSystem(f Target, info fs.FileInfo) string {
	name := f.Name()
	outer, ok := f.(interface{ OSFile() *os.File })
	if !ok {
		return name
	}
	if now, err := os.Stat(name); err == nil && os.SameFile(info, now) {
		return name
	}
	if inner := outer.OSFile(); inner != nil {
		return inner.Name()
	}
	return name
}

var (
	errNotOfSystem = fmt.Errorf("not a file of the operating system: %w", errors.ErrUnsupported)
	errNotRegular  = fmt.Errorf("not a regular file: %w", errors.ErrUnsupported)
)

// start begins to watch a name, which is shown as another one. info is of the open file, if
// there is one.
func start(ctx context.Context, shown, name string, info fs.FileInfo, fn func(Event), options []Option) (*Watch, error) {
	fail := func(err error) (*Watch, error) {
		return nil, &fs.PathError{Op: "watch", Path: shown, Err: err}
	}
	config, err := newConfig(options)
	if err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(name)
	if err != nil {
		return fail(err)
	}
	w := &Watch{
		name: absolute, shown: shown, config: config, call: fn,
		done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	w.content.blockSize = config.blockSize
	if fn == nil {
		w.out = make(chan Event)
		w.Events = w.out
	}
	if err := w.begin(ctx, info); err != nil {
		w.disarm()
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return fail(err)
	}
	ctx, w.cancel = context.WithCancel(ctx)
	go w.run(ctx)
	return w, nil
}

// begin looks at the file for the first time.
func (w *Watch) begin(ctx context.Context, info fs.FileInfo) error {
	if info == nil {
		// Not before it is known that there is a file to watch.
		if s, err := stat(w.name); err != nil {
			return err
		} else if !s.regular {
			return errNotRegular
		}
	} else if !info.Mode().IsRegular() {
		return errNotRegular
	}
	w.arm()
	s, err := look(w.name)
	if err != nil {
		return err
	}
	if info != nil {
		now, err := os.Stat(w.name)
		if err != nil || !os.SameFile(info, now) {
			s = state{exists: true, foreign: true}
		}
	} else if !s.exists {
		return fs.ErrNotExist
	}
	w.state = s
	if w.config.blockSize != 0 && s.exists && s.regular {
		if _, err := w.content.read(ctx, w.name, &s); err != nil {
			return err
		}
	}
	now := time.Now()
	if s.foreign {
		w.due, w.began = now, now // that is the first event
	}
	w.nextLook = now.Add(w.lookInterval())
	w.nextScan = now.Add(w.config.contentInterval)
	return nil
}

// Close ends the watch. When it returns, nothing is left of the watch, and Events is
// closed; only a function that is being called, or just about to be, may go on for
// a while: see [Watch.Done]. Close may be called several times.
func (w *Watch) Close() {
	w.cancel()
	if w.call == nil {
		<-w.done
	}
}

// Done returns a channel that is closed when the watch has ended: nothing is left of
// it, Events is closed, and the function is not called any more.
func (w *Watch) Done() <-chan struct{} {
	return w.done
}

// Name returns the name of the file as it was given, or as the open file shows it.
func (w *Watch) Name() string {
	return w.shown
}

// Mode tells whether there are events for the file now, or it has to be polled. That
// may change when the file is replaced, and when limits of the system are used up
// or raised.
func (w *Watch) Mode() Mode {
	return w.status.Load().mode
}

// Fallback returns why the file is polled now: that its file system has no events, or the
// error of the system, with the limit to raise. It is nil when there are events,
// and [WithPolling].
func (w *Watch) Fallback() error {
	return w.status.Load().why
}

// tell is called by the hub.
func (w *Watch) tell(signals signal) {
	w.signals.Or(signals)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// arm has the hub tell of everything that happens to what the path leads through.
func (w *Watch) arm() {
	if w.config.polling {
		w.status.Store(&status{mode: Polling})
		return
	}
	err := w.tryArm()
	if err != nil {
		w.disarm()
		w.status.Store(&status{Polling, err})
	} else {
		w.status.Store(&status{mode: Events})
	}
	w.nextArm = time.Now().Add(retryInterval)
}

func (w *Watch) tryArm() error {
	for range 4 {
		places := placesOf(w.name)
		if len(places) == 0 {
			return errMoved
		}
		end := places[len(places)-1]
		file := filepath.Join(end.folder, end.name)
		s, err := look(file)
		if err != nil {
			return err
		}
		where := file
		if !s.exists {
			where = end.folder
		}
		if isRemote(where) {
			return &fs.PathError{Op: "watch", Path: where, Err: errRemote}
		}
		if watchesFiles && s.exists && (s.links > 1 || s.mountPoint) {
			places = append(places, place{file, self, true})
		}
		holds := map[hold]struct{}{}
		for _, place := range places {
			var held hold
			if held, err = shared.acquire(w, place.folder, place.name, place.last); err != nil {
				break
			}
			holds[held] = struct{}{}
		}
		old := w.holds
		w.holds = holds
		for held := range old {
			if _, ok := holds[held]; !ok {
				shared.release(w, held)
			}
		}
		switch {
		case err == errMoved || errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		}
		again := placesOf(w.name)
		if len(again) <= len(places) && slices.Equal(places[:len(again)], again) {
			return nil
		}
	}
	return errMoved
}

// disarm gives up what arm has.
func (w *Watch) disarm() {
	for held := range w.holds {
		shared.release(w, held)
	}
	w.holds = nil
}

func (w *Watch) lookInterval() time.Duration {
	if w.Mode() == Polling {
		return w.config.interval
	}
	return w.config.looking
}

// run is the goroutine of a Watch.
func (w *Watch) run(ctx context.Context) {
	defer func() {
		w.cancel()
		w.disarm()
		if w.out != nil {
			close(w.out)
		}
		close(w.done)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		if !w.step(ctx) {
			return
		}
		timer.Reset(time.Until(w.next()))
	}
}

// next returns when something is to be done.
func (w *Watch) next() time.Time {
	if !w.due.IsZero() {
		return w.due
	}
	next := w.nextLook
	if w.config.blockSize != 0 && w.nextScan.Before(next) {
		next = w.nextScan
	}
	return next
}

// step does what is to be done now. It returns false when the watch has ended.
func (w *Watch) step(ctx context.Context) bool {
	now := time.Now()
	if signals := w.signals.Swap(0); signals != 0 {
		w.sawBits |= signals
		w.unexpected = false
		w.expect(now, w.config.quiet)
	}
	scan := w.config.blockSize != 0 && !now.Before(w.nextScan)
	if w.due.IsZero() && (scan || !now.Before(w.nextLook)) {
		w.nextLook = now.Add(w.lookInterval())
		if w.Mode() == Polling && !w.config.polling && !errors.Is(w.Fallback(), errRemote) && !now.Before(w.nextArm) {
			w.arm()
		}
		same := looksSame(w.name, &w.state)
		if !same {
			s, err := look(w.name)
			if same = err == nil && s.equal(&w.state); same {
				w.state = s
			}
		}
		switch {
		case same:
			if scan {
				w.due = now
			}
		case w.Mode() == Polling:
			w.expect(now, w.config.quiet)
		default: // an event may be about to tell what it is
			w.unexpected = true
			w.expect(now, max(w.config.quiet, grace))
		}
	}
	if w.due.IsZero() || now.Before(w.due) {
		return true
	}
	bits := w.sawBits
	w.sawBits, w.due, w.began = 0, time.Time{}, time.Time{}
	ok := w.compare(ctx, bits, scan)
	w.unexpected = false
	now = time.Now()
	w.nextLook = now.Add(w.lookInterval())
	if scan {
		w.nextScan = now.Add(w.config.contentInterval)
	}
	return ok
}

// expect sets when the next comparison is due.
func (w *Watch) expect(now time.Time, quiet time.Duration) {
	if w.due.IsZero() {
		w.began = now
	}
	w.due = now.Add(quiet)
	if latest := w.began.Add(patience * quiet); w.due.After(latest) {
		w.due = latest
	}
}

// compare looks at the file, and tells what is different from the last time. What
// it looks at is as new as the signals are, or newer.
func (w *Watch) compare(ctx context.Context, signals signal, scan bool) bool {
	if signals&(signalsOfName|signalPath|signalOverflow) != 0 || w.unexpected || !w.state.exists {
		w.arm()
	}
	now, err := look(w.name)
	if signals&signalOverflow != 0 {
		if !w.send(ctx, Event{Kind: Overflow, Size: w.sizeOf(&now), Err: *w.lost.Load()}) {
			return false
		}
	}
	if err != nil {
		return w.failed(ctx, err)
	}
	old := w.state
	w.state = now
	switch {
	case !now.exists && !old.exists:
		return true
	case !now.exists:
		w.failing = false
		w.content.drop()
		w.armAnew()
		return w.send(ctx, Event{Kind: Removed, Size: -1})
	case !old.exists || !now.isSame(&old) || isRecreated(&now, signals):
		w.content.drop()
		w.armAnew()
		var err error
		if w.config.blockSize != 0 && now.regular {
			_, err = w.content.read(ctx, w.name, &now)
		}
		if !w.send(ctx, Event{Kind: Replaced, Size: now.size}) {
			return false
		}
		if err != nil {
			return w.failed(ctx, err)
		}
		w.failing = false
		return true
	}

	if now.size != old.size {
		least := min(now.size, old.size)
		if !w.send(ctx, Event{Kind: Resized, Offset: least, Len: now.size - least, Size: now.size}) {
			return false
		}
	}
	told := signals&(signalWrite|signalChmod) != 0 && !w.unexpected // what the event was is known
	modified := signals&signalWrite != 0 || now.size != old.size || !told && now.written != old.written
	metadata := signals&signalChmod != 0 || !now.sameMetadata(&old) || !modified && now.changed != old.changed
	switch {
	case w.config.blockSize == 0:
		if modified && !w.send(ctx, Event{Kind: Modified, Len: -1, Size: now.size}) {
			return false
		}
	case (modified || scan) && now.regular:
		found, err := w.content.read(ctx, w.name, &now)
		for _, e := range found {
			if !w.send(ctx, Event{Kind: Modified, Offset: e.from, Len: e.to - e.from, Size: now.size}) {
				return false
			}
		}
		if err != nil {
			return w.failed(ctx, err)
		}
		metadata = metadata || modified && len(found) == 0 && now.size == old.size && !now.equal(&old)
	}
	w.failing = false
	return !metadata || w.send(ctx, Event{Kind: Metadata, Size: now.size})
}

// isRecreated tells a file that was removed and created again from one that was
// changed, where the system gives the new one the number of the old.
func isRecreated(now *state, signals signal) bool {
	return now.birth == 0 && signals&signalRemove != 0 && signals&signalCreate != 0
}

// armAnew makes fsnotify watch anew what it should have told of. Where another file has
// taken the name, there may be events now that there were none of.
func (w *Watch) armAnew() {
	switch {
	case w.Mode() == Polling:
		if w.arm(); w.Mode() == Events {
			w.tell(signalPath) // look again: the last look was before
		}
	case w.unexpected:
		shared.renew(w.holds)
		w.arm()
	}
}

// failed tells once that the file cannot be looked at, and again when that has changed
// meanwhile.
func (w *Watch) failed(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if errors.Is(err, errMoved) {
		w.tell(signalPath)
		return true
	}
	if w.failing {
		return true
	}
	w.failing = true
	return w.send(ctx, Event{Kind: Overflow, Size: w.sizeOf(&w.state), Err: err})
}

func (w *Watch) sizeOf(s *state) int64 {
	if !s.exists {
		return -1
	}
	return s.size
}

// send hands an event over, and waits until it is taken.
func (w *Watch) send(ctx context.Context, event Event) bool {
	event.Name = w.shown
	if w.call != nil {
		if ctx.Err() != nil {
			return false
		}
		w.call(event)
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case w.out <- event:
		return true
	}
}
