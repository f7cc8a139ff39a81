package mmapio_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// TestSoak works for a while in little memory: on one file that is several times as large,
// and on more files than may be mapped at once. Every byte is right, what is mapped stays
// within its bounds, and the counts explain what happened.
func TestSoak(t *testing.T) {
	if testing.Short() || raceEnabled || strconv.IntSize == 32 {
		t.Skip("takes several seconds, and memory")
	}
	group := memoryGroup(t, 160<<20)
	runChild(t, "soak", t.TempDir(), group, (10 * raceTime(t)).String())
}

// soakFile is a file of slots. A slot has its number and how often it was written.
type soakFile struct {
	*mmapio.File
	written []uint16 // of each slot, by those who own it
}

const soakSlot = 512

func (f *soakFile) put(slot int, b []byte) {
	for i := 0; i < len(b); i += 16 {
		binary.LittleEndian.PutUint64(b[i:], uint64(slot))
		binary.LittleEndian.PutUint64(b[i+8:], uint64(f.written[slot]))
	}
}

func (f *soakFile) write(slot int, b []byte) error {
	f.written[slot]++
	f.put(slot, b)
	_, err := f.WriteAt(b, int64(slot)*soakSlot)
	return err
}

func (f *soakFile) check(slot int, b, want []byte) error {
	if _, err := f.ReadAt(b, int64(slot)*soakSlot); err != nil {
		return err
	}
	f.put(slot, want)
	if string(b) != string(want) {
		return fmt.Errorf("%s: slot %d, written %d times, is %x", f.Name(), slot, f.written[slot], b[:32])
	}
	return nil
}

func newSoakFile(name string, size int) (*soakFile, error) {
	file, err := mmapio.Create(name)
	if err != nil {
		return nil, err
	}
	f := &soakFile{file, make([]uint16, size/soakSlot)}
	b := make([]byte, soakSlot)
	for slot := range f.written {
		f.put(slot, b)
		if _, err := f.Write(b); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func init() {
	aloneRuns["soak"] = func(arguments []string) error {
		dir, group := arguments[0], arguments[1]
		howLong, err := time.ParseDuration(arguments[2])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return errSkip(fmt.Sprint("cannot enter the cgroup: ", err))
		}
		const mappings, bytes = 64, 1 << 30
		mmapio.SetBudget(mappings, bytes)
		var files []*soakFile
		for i := range 201 {
			size := 128 << 10
			if i == 0 {
				size = 256 << 20
			}
			f, err := newSoakFile(filepath.Join(dir, strconv.Itoa(i)), size)
			if err != nil {
				return errSkip(fmt.Sprint("no room for the files: ", err))
			}
			defer f.Close()
			files = append(files, f)
		}
		begin := mmapio.ReadStats()
		work := func(seed uint64, until time.Time) error {
			const workers = 8
			errs := make([]error, workers)
			var group sync.WaitGroup
			for w := range workers {
				group.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(w)))
					b, want := make([]byte, soakSlot), make([]byte, soakSlot)
					for time.Now().Before(until) && errs[w] == nil {
						f := files[0]
						if random.IntN(3) == 0 {
							f = files[1+random.IntN(len(files)-1)]
						}
						slot := random.IntN(len(f.written)/workers)*workers + w // nobody else's
						switch random.IntN(64) {
						case 0:
							errs[w] = f.FlushRange(int64(slot)*soakSlot, soakSlot)
						case 1, 2, 3, 4, 5, 6, 7, 8:
							errs[w] = f.write(slot, b)
						default:
							errs[w] = f.check(slot, b, want)
						}
					}
				})
			}
			group.Wait()
			return errors.Join(errs...)
		}
		var half mmapio.Stats
		for part := range uint64(2) {
			if err := work(part, time.Now().Add(howLong/2)); err != nil {
				return err
			}
			runtime.GC()
			if s := mmapio.ReadStats(); part == 0 {
				half = s
			} else if s.RetainedBytes > max(2*half.RetainedBytes, bytes) {
				return fmt.Errorf("%d bytes are retained, %d before", s.RetainedBytes, half.RetainedBytes)
			}
		}
		end := mmapio.ReadStats()
		switch {
		case end.Mappings > mappings || end.MappedBytes > bytes:
			return fmt.Errorf("beyond the budget: %+v", end)
		case end.MappingsMade == begin.MappingsMade || end.CallsCold == begin.CallsCold || end.CallsUnmapped == begin.CallsUnmapped:
			return fmt.Errorf("in little memory and address space, nothing was mapped, cold or not mapped: %+v, then %+v", begin, end)
		case end.Flushes == begin.Flushes || end.FlushFailures != begin.FlushFailures:
			return fmt.Errorf("flushes: %+v, then %+v", begin, end)
		case end.Faults-begin.Faults > (end.CallsCold-begin.CallsCold)/10:
			// A few are no error: the kernel may have no page left when a copy needs one.
			return fmt.Errorf("faults: %+v, then %+v", begin, end)
		}
		// What is on the disk is what was written.
		for _, f := range files {
			if err := f.Flush(); err != nil {
				return err
			}
			theirs, err := os.Open(f.Name())
			if err != nil {
				return err
			}
			defer theirs.Close()
			b, want := make([]byte, soakSlot), make([]byte, soakSlot)
			for slot := 0; slot < len(f.written); slot += 1 + len(f.written)/1000 {
				if _, err := theirs.ReadAt(b, int64(slot)*soakSlot); err != nil {
					return err
				}
				if f.put(slot, want); string(b) != string(want) {
					return fmt.Errorf("%s: slot %d, written %d times, is %x on the disk", f.Name(), slot, f.written[slot], b[:32])
				}
			}
		}
		return nil
	}
}
