package baddisk_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/mmapio/mmapio/baddisk"
)

var modes = []baddisk.Mode{baddisk.CachedReads, baddisk.CachedWrites, baddisk.Direct}

// faults are all kinds of trouble with some bytes, or with all of a file.
func faults() []baddisk.Fault {
	var all []baddisk.Fault
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.ESTALE} {
		for _, op := range []baddisk.Op{baddisk.Read, baddisk.Write, baddisk.WriteBack} {
			all = append(all, baddisk.Fault{Op: op, Off: badOff, Len: badLen, Errno: errno})
		}
		for _, op := range []baddisk.Op{baddisk.Fsync, baddisk.Allocate, baddisk.Resize, baddisk.Stat, baddisk.Flush} {
			all = append(all, baddisk.Fault{Op: op, Errno: errno})
		}
		// Once, and then never again.
		for _, op := range []baddisk.Op{baddisk.Read, baddisk.Write, baddisk.WriteBack} {
			all = append(all, baddisk.Fault{Op: op, Off: badOff, Len: badLen, Errno: errno, Times: 1})
		}
	}
	return append(all,
		baddisk.Fault{Op: baddisk.Read, Off: badOff + 100, Len: badLen, Short: true},
		baddisk.Fault{Op: baddisk.Read, Off: badOff, Len: badLen, Short: true, Times: 2})
}

func label(f baddisk.Fault) string {
	what := f.Errno.Error()
	if f.Short {
		what = "short"
	}
	if f.Times > 0 {
		what += fmt.Sprint(" ", f.Times, " times")
	}
	return fmt.Sprint(f.Op, ": ", strings.ReplaceAll(what, "/", ""))
}

// difference says why the results of a fault need not be those of os.File, or is empty.
func difference(mode baddisk.Mode, s side, f baddisk.Fault, warm bool) string {
	mapped := s.name == "mapped" || s.name == "preallocating"
	switch {
	case s.name == "preallocating" && f.Op == baddisk.Resize:
		return "the tail cannot be cut off, and Stat says so"
	case !mapped:
		return ""
	case mode != baddisk.CachedWrites && (f.Op == baddisk.Write || f.Op == baddisk.WriteBack):
		return "a store meets the disk later than a write, when it is written back"
	case f.Op == baddisk.Stat && warm:
		return "a store does not ask for the attributes before, and does not have them asked for again"
	case f.Op == baddisk.Read && f.Times > 0 && warm:
		return "a page fault meets the failures, and the call that is made then does not"
	case f.Short:
		return "the file seems cut, and the rest of its last page is zeros in a mapping: see TestShortReads"
	}
	return ""
}

// Every operation has the result and the error it has with os.File, whatever the disk does.
func TestOperations(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			number, met, compared, told := 0, 0, 0, 0
			for _, warm := range []bool{false, true} {
				for _, f := range faults() {
					if testing.Short() && f.Errno != syscall.EIO && !f.Short {
						continue
					}
					number++
					name := fmt.Sprint("file", number)
					want, hit := use(t, osSide, disk, name, warm, f)
					met += hit
					for _, s := range mmapioSides {
						got, hit := use(t, s, disk, name, warm, f)
						met += hit
						label := fmt.Sprintf("%s, warm %v, %s", label(f), warm, s.name)
						if difference(mode, s, f, warm) != "" {
							told += checkErrors(t, label, want, got, f, hit)
							continue
						}
						compared++
						if difference := firstDifference(want, got); difference != "" {
							t.Errorf("%s: %s", label, difference)
						}
					}
				}
			}
			t.Logf("%d requests met with a fault; %d runs compared; %d errors told where os.File need not tell them", met, compared, told)
			if met == 0 || compared == 0 || told == 0 {
				t.Error("nothing was tested")
			}
		})
	}
}

// checkErrors checks what holds where the results cannot be those of os.File: there is no
// other error than the true one, it is told when bytes did not reach the disk, and a disk
// that is good again works. It returns how many errors there were.
func checkErrors(t *testing.T, label string, want, notes []string, f baddisk.Fault, hits int) (told int) {
	t.Helper()
	good := false
	for i, note := range notes {
		good = good || note == goodAgain
		if f.Short && strings.HasPrefix(note, onTheDisk) && note != want[len(want)-1] {
			t.Errorf("%s: got %swant %s", label, note, want[len(want)-1])
		}
		if !strings.Contains(note, "Error") {
			continue
		}
		told++
		ofKernel := f.Op == baddisk.WriteBack && strings.Contains(note, describe(syscall.EIO)) // all but ENOSPC is EIO
		if !strings.Contains(note, describe(f.Errno)) && !ofKernel {
			t.Errorf("%s: note %d: %s", label, i, note)
		}
		if good && !strings.HasPrefix(note, "Sync") { // which tells of write-back before
			t.Errorf("%s: note %d, with a good disk: %s", label, i, note)
		}
	}
	if told == 0 && hits > 0 && f.Op == baddisk.WriteBack {
		t.Errorf("%s: write-back failed %d times, and nobody was told", label, hits)
	}
	return told
}
