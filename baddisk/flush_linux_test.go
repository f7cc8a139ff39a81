package baddisk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/baddisk"
)

// lateFaults are what a disk does to bytes that were written before.
func lateFaults() []baddisk.Fault {
	all := []baddisk.Fault{{Op: baddisk.Fsync, Errno: syscall.EIO}, {Op: baddisk.Fsync, Errno: syscall.ESTALE}}
	for _, errno := range errnos {
		all = append(all, baddisk.Fault{Op: baddisk.WriteBack, Errno: errno})
	}
	return all
}

// tells reports whether err is a *fs.PathError of op with what the kernel makes of the
// failure: of write-back some calls tell the errno, and others ENOSPC or else EIO.
func tells(err error, op string, f baddisk.Fault) bool {
	failed, ok := err.(*fs.PathError)
	return ok && failed.Op == op && (failed.Err == f.Errno ||
		f.Op == baddisk.WriteBack && f.Errno != syscall.ENOSPC && failed.Err == syscall.EIO)
}

// A flush that failed is told by all flushes from then on, until the file is opened anew,
// whatever way it was asked for, and also where the disk is good again.
func TestFailedFlushStays(t *testing.T) {
	flushes := map[string]func(f *mmapio.File) error{
		"Flush":      (*mmapio.File).Flush,
		"FlushRange": func(f *mmapio.File) error { return f.FlushRange(badOff, 10) },
		"View.Flush": func(f *mmapio.File) error {
			v, err := f.View(badOff, 100)
			if err != nil {
				return err
			}
			defer v.Release()
			return v.Flush()
		},
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			number := 0 // the kernel tells those who open a file of failures that nobody was told of
			for name, flush := range flushes {
				for _, bad := range lateFaults() {
					number++
					fileName := fmt.Sprint("file", number)
					path := newFile(t, disk, fileName, patterned(size, 1))
					f := openWarm(t, path)
					o, undo := order(t, disk, bad)
					// A View is always stored to, WriteAt may be a system call.
					v, err := f.View(badOff, 100)
					if err != nil {
						t.Fatal(err)
					}
					if err := v.Do(func(b []byte) error { copy(b[10:], "stored"); return nil }); err != nil {
						t.Errorf("%s: Do: %v", label(bad), err)
					}
					v.Release()
					first := flush(f)
					if !tells(first, "flush", bad) {
						t.Errorf("%s, %s: %v", name, label(bad), first)
					}
					if hits(t, o) == 0 {
						t.Errorf("%s, %s was not met", name, label(bad))
					}
					undo()
					for again, flush := range flushes {
						for range 2 {
							if err := flush(f); err != first {
								t.Errorf("%s after %s, %s: %v", again, name, label(bad), err)
							}
						}
					}
					// Reads go on. Past the page cache they find that the bytes are lost.
					b := make([]byte, 6)
					if n, err := f.ReadAt(b, badOff+10); n != 6 || err != nil || string(b) != "stored" && mode != baddisk.Direct {
						t.Errorf("ReadAt: %d, %v, %q", n, err, b)
					}
					if err := f.Close(); err != nil && !tells(err, "close", bad) {
						t.Errorf("Close: %v", err)
					}
					anew := openWarm(t, path)
					if n, err := anew.WriteAt([]byte("stored"), badOff+10); n != 6 || err != nil {
						t.Errorf("WriteAt: %d, %v", n, err)
					}
					if err := flush(anew); err != nil {
						t.Errorf("%s, opened anew: %v", name, err)
					}
					anew.Close()
					if content, err := disk.Content(fileName, true); err != nil || !bytes.Contains(content, []byte("stored")) {
						t.Errorf("%s, opened anew: not on the disk: %v", name, err)
					}
				}
			}
		})
	}
}

// Under a policy a failed flush is told by every call that has an effect, and Close.
func TestPoliciesOnBadDisk(t *testing.T) {
	policies := []mmapio.FlushPolicy{
		mmapio.Always(), mmapio.EveryBytes(100), mmapio.EveryWrites(3), mmapio.Every(time.Millisecond),
		mmapio.EveryWrites(5).Or(mmapio.Every(time.Millisecond)),
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			number := 0
			for _, policy := range policies {
				for _, bad := range lateFaults() {
					number++
					label := fmt.Sprint(policy, ", ", label(bad))
					path := newFile(t, disk, fmt.Sprint("file", number), patterned(size, 1))
					f := openWarm(t, path, mmapio.WithFlushPolicy(policy))
					o, undo := order(t, disk, bad)
					var first error
					acknowledged := 0
					for deadline := time.Now().Add(20 * time.Second); first == nil && time.Now().Before(deadline); acknowledged++ {
						var n int
						if n, first = f.WriteAt([]byte("0123456789"), badOff+int64(acknowledged%100)*10); n != 10 && n != 0 {
							t.Fatalf("%s: %d bytes written, %v", label, n, first)
						}
						if bad.Op == baddisk.WriteBack && policy == mmapio.Always() && mode != baddisk.CachedWrites {
							break // writes are system calls then, and on the disk at once
						}
					}
					if mode == baddisk.Direct && bad.Op == baddisk.WriteBack && tells(first, "write", bad) {
						// A write that was a system call, because memory was short, had the kernel write
						// out first what had been stored before. Who flushes is told too.
						if err := f.Flush(); !tells(err, "flush", bad) {
							t.Errorf("%s: a write was told, and Flush: %v", label, err)
						}
						undo()
						f.Close()
						continue
					}
					if first != nil || hits(t, o) > 0 {
						if !tells(first, "flush", bad) {
							t.Errorf("%s: %v", label, first)
						}
						undo()
						for what, call := range map[string]func() error{
							"Write":    func() error { _, err := f.Write([]byte("x")); return err },
							"WriteAt":  func() error { _, err := f.WriteAt([]byte("x"), 0); return err },
							"ReadFrom": func() error { _, err := f.ReadFrom(strings.NewReader("x")); return err },
							"Flush":    f.Flush,
							"Sync":     f.Sync,
							"Close":    f.Close,
						} {
							want := first
							if err := call(); err != want && what != "Close" && !errors.Is(err, fs.ErrClosed) {
								t.Errorf("%s: %s afterwards: %v", label, what, err)
							} else if what == "Close" && err != want {
								t.Errorf("%s: Close: %v", label, err)
							}
						}
					} else if bad.Op != baddisk.WriteBack {
						t.Errorf("%s: nothing failed in %d writes", label, acknowledged)
					}
					undo()
					f.Close()
				}
			}
		})
	}
}

// What a flush has acknowledged is on the disk, whenever the disk breaks down: records are
// written and flushed, and sooner or later there is a failure.
func TestAcknowledgedIsThere(t *testing.T) {
	const record = 100
	ways := map[string][]mmapio.Option{
		"mapped":        {mmapio.WithMapping(mmapio.MapAlways)},
		"auto":          nil,
		"preallocating": {mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(20_000)},
		"always":        {mmapio.WithMapping(mmapio.MapAlways), mmapio.WithFlushPolicy(mmapio.Always())},
		"every 3":       {mmapio.WithMapping(mmapio.MapAlways), mmapio.WithFlushPolicy(mmapio.EveryWrites(3))},
	}
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			promised, failures := 0, 0
			for name, options := range ways {
				for round := range rounds {
					fileName := fmt.Sprint(name, round)
					path := filepath.Join(disk.Dir, fileName)
					f, err := mmapio.Create(path, options...)
					if err != nil {
						t.Fatal(err)
					}
					op := []baddisk.Op{baddisk.Write, baddisk.WriteBack, baddisk.Fsync, baddisk.Allocate}[rand.IntN(4)]
					bad := baddisk.Fault{Op: op, Errno: errnos[rand.IntN(3)], Skip: rand.IntN(30), Times: 1 + rand.IntN(3)}
					o, undo := order(t, disk, bad)
					acknowledged, broken := 0, false
					for i := range 120 {
						n, err := f.WriteAt(patterned(record, i), int64(i)*record)
						if err != nil {
							broken = true
							failures++
							break // n of them may be there
						}
						if n != record {
							t.Fatalf("%s: %d bytes written without an error", name, n)
						}
						switch {
						case name == "always":
							acknowledged = i + 1
						case name == "every 3" && f.Pending() == 0:
							acknowledged = i + 1
						case i%7 == 6:
							if err := f.Flush(); err != nil {
								broken = true
								failures++
								for range 2 {
									if again := f.Flush(); again != err {
										t.Errorf("%s: Flush, again: %v", name, again)
									}
								}
							} else {
								acknowledged = i + 1
							}
						}
						if broken {
							break
						}
					}
					content, err := disk.Content(fileName, true)
					if err != nil {
						t.Fatal(err)
					}
					for i := range acknowledged {
						if at := i * record; at+record > len(content) || !bytes.Equal(content[at:][:record], patterned(record, i)) {
							t.Errorf("%s, round %d, %s after %d: record %d of %d that were acknowledged is not on the disk", name, round, label(bad), bad.Skip, i, acknowledged)
							break
						}
					}
					promised += acknowledged
					_ = hits(t, o)
					undo()
					_ = f.Close() // may tell of the failure
					if err := os.Remove(path); err != nil {
						t.Error(err)
					}
				}
			}
			t.Logf("%d records acknowledged, %d failures", promised, failures)
			if promised == 0 {
				t.Error("nothing was acknowledged")
			}
		})
	}
}

// A disk that answers late stops those who wait for it and nobody else: more goroutines
// wait for cold bytes, in ReadAt, Read, WriteTo and Flush, than there are processors, and
// what is in memory is read and written meanwhile.
func TestSlowDisk(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			coldPath := newFile(t, disk, "cold", patterned(size, 1))
			dirtyPath := newFile(t, disk, "dirty", patterned(size, 2))
			warmPath := newFile(t, disk, "warm", patterned(size, 3))
			dirty, warm := openWarm(t, dirtyPath), openWarm(t, warmPath)
			const readers = 12
			o, release := order(t, disk, baddisk.Fault{Op: baddisk.Read, Name: "cold", Hold: true})
			flushes, releaseFlush := order(t, disk, baddisk.Fault{Op: baddisk.Fsync, Name: "dirty", Hold: true})
			if n, err := dirty.WriteAt([]byte("stored"), badOff); n != 6 || err != nil {
				t.Fatal(n, err)
			}
			results := make(chan error, readers+1)
			for i := range readers {
				go func() {
					f, err := mmapio.OpenFile(coldPath, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
					if err != nil {
						results <- err
						return
					}
					defer f.Close()
					off := int64(i * 8 * page)
					b := make([]byte, 64)
					switch i % 3 {
					case 0:
						_, err = f.ReadAt(b, off)
					case 1:
						if _, err = f.Seek(off, io.SeekStart); err == nil {
							_, err = io.ReadFull(f, b)
						}
					case 2:
						var all bytes.Buffer
						if _, err = f.Seek(off, io.SeekStart); err == nil {
							_, err = f.WriteTo(&all)
						}
						copy(b, all.Bytes())
					}
					if err == nil && !bytes.Equal(b, patterned(size, 1)[off:][:64]) {
						err = errors.New("other bytes")
					}
					results <- err
				}()
			}
			go func() { results <- dirty.Flush() }()
			if err := errors.Join(o.Await(readers), flushes.Await(1)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 64)
			for i := range 20_000 {
				off := int64(i*64) % (size - 64)
				if n, err := warm.ReadAt(b, off); n != 64 || err != nil {
					t.Fatal(n, err)
				}
				if n, err := warm.WriteAt(b, off); n != 64 || err != nil {
					t.Fatal(n, err)
				}
				// Also the file that is being flushed, and memory the collector needs.
				if n, err := dirty.ReadAt(b, off); n != 64 || err != nil {
					t.Fatal(n, err)
				}
				b = append([]byte(nil), b...)
			}
			if len(results) > 0 {
				t.Errorf("somebody did not wait for the disk: %v", <-results)
			}
			release()
			releaseFlush()
			for range readers + 1 {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A disk that takes a second for its answer: the answer is the right one, also where a page
// fault waits for it.
func TestLateAnswers(t *testing.T) {
	disk := newDisk(t, baddisk.CachedReads)
	path := newFile(t, disk, "file", patterned(size, 1))
	for _, warm := range []bool{false, true} {
		for _, errno := range []syscall.Errno{0, syscall.EIO} {
			if warm && errno != 0 {
				continue // see TestLateFailure
			}
			evict(t, disk, "file", 0, 0)
			f, err := mmapio.OpenFile(path, os.O_RDWR, 0, mmapio.WithMapping(mmapio.MapAlways))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if warm {
				warmUp(t, f)
				evict(t, disk, "file", badOff, badLen)
			}
			o, undo := order(t, disk, baddisk.Fault{Op: baddisk.Read, Off: badOff, Len: badLen, Delay: time.Second, Errno: errno})
			start := time.Now()
			b := make([]byte, 64)
			n, err := f.ReadAt(b, badOff)
			if errno == 0 && (n != 64 || err != nil || !bytes.Equal(b, patterned(size, 1)[badOff:][:64])) || errno != 0 && (n != 0 || !errors.Is(err, errno)) {
				t.Errorf("warm %v: ReadAt: %d, %v", warm, n, err)
			}
			if hits(t, o) == 0 || time.Since(start) < time.Second {
				t.Errorf("warm %v: %d requests, %v", warm, hits(t, o), time.Since(start))
			}
			undo()
		}
	}
}

// A page that was in memory has left it, and the disk takes a while to say that it cannot
// read it. Linux tells a page fault of an error only if no signal has come meanwhile, else it
// tries again, and Go sends signals to a goroutine that runs for 10 ms. So the copy waits
// until the disk fails faster, or the File is closed: that ends it. Where Go does not send
// them the error is told at once.
func TestLateFailure(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would wait for the copy
	disk := newDisk(t, baddisk.CachedReads)
	path := newFile(t, disk, "file", patterned(size, 1))
	f := openWarm(t, path)
	evict(t, disk, "file", badOff, badLen)
	o, undo := order(t, disk, baddisk.Fault{Op: baddisk.Read, Off: badOff, Len: badLen, Delay: 100 * time.Millisecond, Errno: syscall.EIO})
	defer undo()
	result := make(chan error)
	go func() {
		_, err := f.ReadAt(make([]byte, 64), badOff)
		result <- err
	}()
	if os.Getenv("GODEBUG") == withoutSignals {
		select {
		case err := <-result:
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("ReadAt: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("ReadAt does not return")
		}
		return
	}
	if err := o.Await(2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.EIO) {
		t.Errorf("ReadAt: %v", err)
	}
}

// withoutSignals has Go not send signals to goroutines.
const withoutSignals = "asyncpreemptoff=1"

func TestLateFailureWithoutSignals(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(executable, "-test.run=^TestLateFailure$", "-test.v")
	command.Env = append(os.Environ(), "GODEBUG="+withoutSignals)
	output, err := command.CombinedOutput()
	if bytes.Contains(output, []byte("--- SKIP")) {
		t.Skipf("%s", output)
	}
	if err != nil || !bytes.Contains(output, []byte("--- PASS: TestLateFailure")) {
		t.Errorf("%v\n%s", err, output)
	}
}
