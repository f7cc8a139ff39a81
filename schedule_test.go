package mmapio_test

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mmapio/mmapio"
)

// In a bubble of synctest time passes when all goroutines wait, and not before. Files are
// not mapped there, because the watch over memory pressure outlives the bubble.

func openTimed(t *testing.T, policy mmapio.FlushPolicy) *mmapio.File {
	return openPlain(t, os.O_RDWR, mmapio.WithFlushPolicy(policy), mmapio.WithMapping(mmapio.MapNever))
}

func mustWriteAt(t *testing.T, f *mmapio.File, text string) {
	t.Helper()
	if err := all(len(text))(f.WriteAt([]byte(text), 0)); err != nil {
		t.Fatal(err)
	}
}

// pass lets time pass and all that it sets going come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func expectScheduled(t *testing.T, what string, wantFiles int) {
	t.Helper()
	files, timer, workers := mmapio.Scheduled()
	if files != wantFiles || timer != (wantFiles > 0) || workers != 0 {
		t.Errorf("%s: %d files scheduled, timer %v, %d workers; want %d files", what, files, timer, workers, wantFiles)
	}
}

// Every flushes within its time, once, and only when something was written.
func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := watchDisk(t)
		f := openTimed(t, mmapio.Every(time.Second))
		expectScheduled(t, "opened", 0)
		pass(time.Hour)
		disk.expect(t, "nothing written", 0)

		mustWriteAt(t, f, "a")
		expectScheduled(t, "written", 1)
		pass(time.Second - 1)
		mustWriteAt(t, f, "b")
		disk.expect(t, "a moment before", 0)
		if n := f.Pending(); n != 2 {
			t.Errorf("%d bytes pending", n)
		}
		pass(1)
		disk.expect(t, "in time", 1)
		if n := f.Pending(); n != 0 {
			t.Errorf("%d bytes pending", n)
		}
		expectScheduled(t, "flushed", 0)
		pass(time.Hour)
		disk.expect(t, "later", 0)

		mustWriteAt(t, f, "c")
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		disk.expect(t, "Flush", 1)
		expectScheduled(t, "Flush", 0)
		mustWriteAt(t, f, "d")
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		expectScheduled(t, "Sync", 0)
		pass(time.Hour)
		disk.expect(t, "after Sync", 0)

		mustWriteAt(t, f, "e")
		f.Fd()
		pass(time.Second)
		disk.expect(t, "after Fd", 1)

		mustWriteAt(t, f, "f")
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		disk.expect(t, "Close", 1)
		expectScheduled(t, "closed", 0)
	})
}

// One timer serves files with different intervals, each at its time.
func TestEveryOfManyFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := watchDisk(t)
		var files []*mmapio.File
		for i := range 10 {
			// 7, 4, 1, 8, 5, 2, 9, 6, 3, 10 seconds
			f := openTimed(t, mmapio.Every(time.Duration((i*7+6)%10+1)*time.Second))
			mustWriteAt(t, f, "x")
			files = append(files, f)
		}
		for i := range 10 {
			expectScheduled(t, fmt.Sprint("after seconds: ", i), 10-i)
			pass(time.Second)
			disk.expect(t, fmt.Sprint("after seconds: ", i+1), 1)
		}
		for _, f := range files {
			mustWriteAt(t, f, "x")
		}
		expectScheduled(t, "all again", 10)
		for i, f := range files {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			expectScheduled(t, "closing", 9-i)
		}
		disk.expect(t, "all closed", 10)
	})
}

// A combined policy flushes by whichever comes first.
func TestEveryOrBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := watchDisk(t)
		f := openTimed(t, mmapio.Every(time.Second).Or(mmapio.EveryBytes(4)))
		defer f.Close()
		mustWriteAt(t, f, "abc")
		pass(time.Second)
		disk.expect(t, "by time", 1)
		mustWriteAt(t, f, "abcd")
		disk.expect(t, "by bytes", 1)
		expectScheduled(t, "by bytes", 0)
		mustWriteAt(t, f, "abc")
		pass(time.Second / 2)
		mustWriteAt(t, f, "d")
		disk.expect(t, "by bytes again", 1)
		mustWriteAt(t, f, "e")
		pass(time.Second - 1)
		disk.expect(t, "not yet", 0)
		pass(1)
		disk.expect(t, "by time again", 1)
	})
}

// While the memory of a View, or a reader, may still bring stores, there is a flush at
// every interval.
func TestEveryWhileLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := watchDisk(t)
		f := openTimed(t, mmapio.Every(time.Second))
		defer f.Close()
		if mmapio.SupportsMapping {
			v, err := f.View(0, 100)
			if err != nil {
				t.Fatal(err)
			}
			pass(time.Hour)
			disk.expect(t, "a View", 0)
			v.Bytes()[0] = 1
			pass(10*time.Second + 1)
			disk.expect(t, "its bytes", 10)
			v.Release()
			if n := f.Pending(); n != 100 {
				t.Errorf("%d bytes pending", n)
			}
			pass(time.Hour)
			disk.expect(t, "released", 1)
			expectScheduled(t, "released", 0)
		}
		r := make(chanReader)
		done := make(chan error)
		go func() {
			_, err := f.ReadFrom(r)
			done <- err
		}()
		r <- []byte("hello")
		pass(5*time.Second + 1)
		disk.expect(t, "ReadFrom", 5)
		close(r)
		if err := <-done; err != nil {
			t.Error(err)
		}
		pass(time.Hour)
		disk.expect(t, "ReadFrom has ended", 1)
		expectScheduled(t, "ReadFrom has ended", 0)
	})
}

// chanReader reads what is sent.
type chanReader chan []byte

func (r chanReader) Read(b []byte) (int, error) {
	text, ok := <-r
	if !ok {
		return 0, io.EOF
	}
	return copy(b, text), nil
}

// A disk that does not answer holds up its own file only.
func TestEveryWithSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := watchDisk(t)
		slow, quick := openTimed(t, mmapio.Every(time.Second)), openTimed(t, mmapio.Every(2*time.Second))
		answer := make(chan struct{})
		var held atomic.Bool
		hold := func() {
			if held.CompareAndSwap(false, true) {
				<-answer
			}
		}
		disk.hold.Store(&hold)
		mustWriteAt(t, slow, "a")
		mustWriteAt(t, quick, "b")
		pass(10 * time.Second)
		disk.expect(t, "both", 2)
		if slow.Pending() != 1 || quick.Pending() != 0 {
			t.Errorf("pending: %d and %d bytes", slow.Pending(), quick.Pending())
		}
		mustWriteAt(t, slow, "c") // does not wait
		mustWriteAt(t, quick, "d")
		pass(10 * time.Second)
		disk.expect(t, "the quick one", 1)
		close(answer)
		pass(0)
		if slow.Pending() != 0 {
			t.Errorf("pending: %d bytes", slow.Pending())
		}
		disk.expect(t, "the slow one again", 1)
		for _, f := range []*mmapio.File{slow, quick} {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		disk.expect(t, "closed", 0)
		synctest.Wait()
		expectScheduled(t, "closed", 0)
	})
}

// More files than may be flushed at once take turns.
func TestEveryOfVeryManyFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = mmapio.MostWorkers + 50
		disk := watchDisk(t)
		name := newFilled(t, 100, 1)
		var atOnce, most atomic.Int64
		hold := func() {
			n := atOnce.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(time.Millisecond)
			atOnce.Add(-1)
		}
		disk.hold.Store(&hold)
		var files []*mmapio.File
		for range count {
			f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithFlushPolicy(mmapio.Every(time.Second)), mmapio.WithMapping(mmapio.MapNever))
			if err != nil {
				t.Fatal(err)
			}
			mustWriteAt(t, f, "x")
			files = append(files, f)
		}
		pass(2 * time.Second)
		disk.expect(t, "all", count)
		if most.Load() != mmapio.MostWorkers {
			t.Errorf("%d at once", most.Load())
		}
		expectScheduled(t, "all", 0)
		for _, f := range files {
			if f.Pending() != 0 {
				t.Error("bytes pending")
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// An error of the background is told by each kind of call that comes next, and ends the
// schedule of the file.
func TestEveryFails(t *testing.T) {
	for name, call := range map[string]func(f *mmapio.File) error{
		"Write":      func(f *mmapio.File) error { return none(f.Write([]byte("x"))) },
		"WriteAt":    func(f *mmapio.File) error { return none(f.WriteAt([]byte("x"), 5)) },
		"Flush":      (*mmapio.File).Flush,
		"FlushRange": func(f *mmapio.File) error { return f.FlushRange(0, 1) },
		"Sync":       (*mmapio.File).Sync,
		"Close":      (*mmapio.File).Close,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := watchDisk(t)
				f := openTimed(t, mmapio.Every(time.Second))
				disk.breakDown(errDisk)
				mustWriteAt(t, f, "a")
				pass(time.Minute)
				disk.mend()
				disk.expect(t, "in the background", 1)
				expectScheduled(t, "failed", 0)
				if err := call(f); !isPathError(err, "flush", errDisk) {
					t.Errorf("the next call: %v", err)
				}
				if name != "Close" {
					if err := f.Close(); !isPathError(err, "flush", errDisk) {
						t.Errorf("Close: %v", err)
					}
				}
				disk.expect(t, "afterwards", 0)
			})
		})
	}
}
