// Package async does operations on files in the background. Each method of a [Group]
// that begins one returns a [Future] at once:
//
//	g := async.NewGroup(ctx)
//	copied := g.Copy("backup", "data", nil)
//	written := g.WriteAt(f, record, 4096)
//	...
//	if _, err := written.Wait(ctx); err != nil {
//		return err // else the record is on stable storage
//	}
//	return g.Close() // waits for the rest, and returns its errors
//
// # Concurrency
//
// A Group does so many operations at once as [WithLimit] says. The others wait in the
// order in which they came, and cost a little memory each. Operations that run at the
// same time are not ordered: who needs one to follow another waits for the first.
//
// # Cancellation
//
// An operation is cancelled by the end of the context of its Group, and by
// [Future.Cancel]. One that has not begun does not begin. What one that has begun leaves
// is said at each method; nothing is left half made. The error of a cancelled operation
// is one that [errors.Is] finds [context.Canceled] or [context.DeadlineExceeded] in. The
// context that is given to [Future.Wait] ends the waiting alone.
//
// # Errors
//
// Each operation has an error that its Wait returns. Errors that no Wait has returned are
// returned by [Group.Close], so that none is lost. An operation that panics, in a
// function that the caller gave, fails with a [*PanicError]; the program goes on.
package async

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
)

// Group does operations in the background. It is made by [NewGroup]. Its methods may be
// called by several goroutines at once.
type Group struct {
	ctx   context.Context
	limit int

	mu      sync.Mutex
	idle    sync.Cond // nothing is pending
	queue   []*task   // not begun, in order
	running int       // begun and not done
	pending int       // not done
	asked   uint64    // in all
	closed  bool
	failed  map[*task]struct{} // done with an error that nobody has seen yet
}

// Option changes how a [Group] works. A nil Option is ignored.
type Option func(*Group)

// WithLimit sets how many operations run at once; each takes a goroutine meanwhile. The
// default is GOMAXPROCS, and at least 4. A limit below 1 is 1.
func WithLimit(n int) Option {
	return func(g *Group) { g.limit = max(n, 1) }
}

// NewGroup returns a Group whose operations are cancelled when ctx ends. It uses no
// goroutine while it has nothing to do, but must be closed: else errors may be lost.
func NewGroup(ctx context.Context, options ...Option) *Group {
	g := &Group{ctx: ctx, limit: max(runtime.GOMAXPROCS(0), 4), failed: make(map[*task]struct{})}
	g.idle.L = &g.mu
	for _, option := range options {
		if option != nil {
			option(g)
		}
	}
	return g
}

// Close waits until all operations are done, and returns their errors as one, joined by
// [errors.Join] in the order in which the operations were asked for; without those that
// a [Future.Wait] has returned. When it returns, the Group has no goroutine any more. To
// have it return soon, end the context of the Group before.
//
// What is asked for once Close has been called fails with [fs.ErrClosed]. Close may be
// called again; it then returns the errors that have come up since. An operation must
// neither call Close of its own Group nor wait for another operation of it: that might
// wait for ever.
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.pending > 0 {
		g.idle.Wait()
	}
	failed := make([]*task, 0, len(g.failed))
	for t := range g.failed {
		failed = append(failed, t)
	}
	clear(g.failed)
	slices.SortFunc(failed, func(a, b *task) int { return cmp.Compare(a.number, b.number) })
	errs := make([]error, len(failed))
	for i, t := range failed {
		errs[i] = t.err
	}
	return errors.Join(errs...)
}

// task is an operation, whatever the type of its result.
type task struct {
	group  *Group
	number uint64
	name   fs.PathError // for errors that come before it has begun; without Op there is none
	ctx    context.Context
	cancel context.CancelFunc
	// claim reports whether the caller is the one to do the operation. It is false
	// once the context has ended: then the operation is being given up.
	claim func() bool
	do    func(ctx context.Context) error
	done  chan struct{}
	err   error // once it is done
}

// begin puts t into the queue.
func (g *Group) begin(t *task) {
	t.group, t.done = g, make(chan struct{})
	t.ctx, t.cancel = context.WithCancel(g.ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	t.number = g.asked
	g.pending++
	if g.closed {
		g.finish(t, t.wrap(fs.ErrClosed))
		return
	}
	t.claim = context.AfterFunc(t.ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.finish(t, t.wrap(t.ctx.Err()))
	})
	g.queue = append(g.queue, t)
	g.next()
}

// next begins as many operations as may run. The caller holds mu.
func (g *Group) next() {
	for g.running < g.limit && len(g.queue) > 0 {
		t := g.queue[0]
		g.queue[0] = nil
		if g.queue = g.queue[1:]; t.claim() {
			g.running++
			go g.run(t)
		}
	}
}

// run does an operation, on a goroutine of its own, which it may end.
func (g *Group) run(t *task) {
	var err error
	returned := false
	defer func() {
		if !returned {
			err = &PanicError{Value: recover(), Stack: debug.Stack()}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running--
		g.finish(t, err)
		g.next()
	}()
	err = t.do(t.ctx)
	returned = true
}

// finish makes t done. The caller holds mu.
func (g *Group) finish(t *task, err error) {
	t.cancel()
	t.do, t.err = nil, err
	if err != nil {
		g.failed[t] = struct{}{}
	}
	close(t.done)
	if g.pending--; g.pending == 0 {
		g.idle.Broadcast()
	}
}

// wrap returns an error that comes before the operation has begun.
func (t *task) wrap(err error) error {
	if t.name.Op == "" {
		return err
	}
	return &fs.PathError{Op: t.name.Op, Path: t.name.Path, Err: err}
}

// PanicError says that an operation panicked, or that it called [runtime.Goexit].
type PanicError struct {
	Value any    // what it panicked with; nil for Goexit
	Stack []byte // where, as [debug.Stack] returns it
}

// Error returns a text with the value, without the stack.
func (e *PanicError) Error() string {
	if e.Value == nil {
		return "operation ended its goroutine"
	}
	return fmt.Sprintf("operation panicked: %v", e.Value)
}

// Unwrap returns the value if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Future is the result of an operation that is done in the background. Its methods may be
// called by several goroutines at once.
type Future[T any] struct {
	task  task
	value T
}

// Done returns a channel that is closed when the operation is done, well or not.
func (f *Future[T]) Done() <-chan struct{} { return f.task.done }

// Wait waits until the operation is done and returns its result. If ctx ends before that,
// Wait returns the error of [context.Context.Err], and the operation goes on. Wait may be
// called as often as one likes: it returns the same result again.
func (f *Future[T]) Wait(ctx context.Context) (T, error) {
	select {
	case <-f.task.done:
	default:
		select {
		case <-f.task.done:
		case <-ctx.Done():
			var zero T
			return zero, ctx.Err()
		}
	}
	if f.task.err != nil {
		g := f.task.group
		g.mu.Lock()
		delete(g.failed, &f.task)
		g.mu.Unlock()
	}
	return f.value, f.task.err
}

// Cancel cancels the operation, and does not wait until it is done. It does nothing to an
// operation that is done.
func (f *Future[T]) Cancel() { f.task.cancel() }

// Go calls do in the background, with a context that ends when the operation is
// cancelled. The Future has what do returns.
//
// It is a function and not a method because methods have no type parameters of their own.
func Go[T any](g *Group, do func(ctx context.Context) (T, error)) *Future[T] {
	return start(g, fs.PathError{}, do)
}

func start[T any](g *Group, name fs.PathError, do func(ctx context.Context) (T, error)) *Future[T] {
	f := &Future[T]{}
	f.task.name = name
	f.task.do = func(ctx context.Context) (err error) {
		f.value, err = do(ctx)
		return err
	}
	g.begin(&f.task)
	return f
}
