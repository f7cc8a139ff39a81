package mmapio

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// schedule has the Files that are to be flushed at some time: see [Every]. One timer
// serves them all. It holds them strongly, because a File that nobody else knows any more
// is still owed its flush.
var schedule struct {
	mu      sync.Mutex
	queue   flushQueue
	timer   *time.Timer // nil while nobody waits
	workers int         // goroutines that flush
}

// mostWorkers bounds how many Files are flushed at once: each may take up a thread for as
// long as its disk wants. A slow disk holds up the Files of others only with that many.
const mostWorkers = 128

// appointment is the place of a File in the schedule.
type appointment struct {
	made atomic.Bool

	// Under schedule.mu:
	due     time.Time
	place   int  // in the queue, or unplaced
	working bool // a worker has the File; if an appointment was made, it waits for that
}

const unplaced = -1

// arm sees to it that the File is flushed in time, if the policy asks for that.
func (p *flusher) arm() {
	if p.policy.on&onTime == 0 || p.timed.made.Load() {
		return
	}
	schedule.mu.Lock()
	defer schedule.mu.Unlock()
	if p.closed.Load() || !p.timed.made.CompareAndSwap(false, true) {
		return
	}
	p.timed.due = time.Now().Add(p.policy.interval)
	if !p.timed.working {
		heap.Push(&schedule.queue, p)
		setTimer()
	}
}

// disarm takes the File out of the schedule, unless it is owed something.
func (p *flusher) disarm() {
	if p.policy.on&onTime == 0 {
		return
	}
	schedule.mu.Lock()
	if p.timed.place != unplaced {
		heap.Remove(&schedule.queue, p.timed.place)
		setTimer()
	}
	p.timed.made.Store(false)
	schedule.mu.Unlock()
	if p.owes() { // somebody wrote meanwhile and saw that the File was in the schedule
		p.arm()
	}
}

// setTimer sets the timer to the first appointment. The caller holds schedule.mu.
func setTimer() {
	if len(schedule.queue) == 0 || schedule.workers == mostWorkers {
		if schedule.timer != nil {
			schedule.timer.Stop()
			schedule.timer = nil
		}
		return
	}
	wait := time.Until(schedule.queue[0].timed.due)
	if schedule.timer == nil {
		schedule.timer = time.AfterFunc(wait, flushDue)
	} else {
		schedule.timer.Reset(wait)
	}
}

// flushDue starts workers for the Files that are due.
func flushDue() {
	schedule.mu.Lock()
	defer schedule.mu.Unlock()
	for schedule.workers < mostWorkers {
		p := nextDue()
		if p == nil {
			break
		}
		schedule.workers++
		go work(p)
	}
	setTimer()
}

// nextDue takes the next File that is due out of the queue. The caller holds
// schedule.mu.
func nextDue() *flusher {
	if len(schedule.queue) == 0 || time.Until(schedule.queue[0].timed.due) > 0 {
		return nil
	}
	p := heap.Pop(&schedule.queue).(*flusher)
	p.timed.made.Store(false) // before the flush begins: what it may miss makes a new appointment
	p.timed.working = true
	return p
}

// work flushes p, and what is due by then.
func work(p *flusher) {
	for p != nil {
		err := p.file.flushUnless(func() bool { return !p.owes() }) // an error stays: see flushFailed
		if err == nil && p.lent.Load() > 0 {
			p.arm()
		}
		schedule.mu.Lock()
		p.timed.working = false
		if p.timed.made.Load() {
			heap.Push(&schedule.queue, p)
		}
		if p = nextDue(); p == nil {
			schedule.workers--
		}
		setTimer()
		schedule.mu.Unlock()
	}
}

// flushQueue is a heap with the File that is due first at its front.
type flushQueue []*flusher

func (q flushQueue) Len() int { return len(q) }

func (q flushQueue) Less(i, j int) bool { return q[i].timed.due.Before(q[j].timed.due) }

func (q flushQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].timed.place, q[j].timed.place = i, j
}

func (q *flushQueue) Push(p any) {
	p.(*flusher).timed.place = len(*q)
	*q = append(*q, p.(*flusher))
}

func (q *flushQueue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	p.timed.place = unplaced
	return p
}
