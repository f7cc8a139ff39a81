//go:build unix

package mmapio_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mmapio/mmapio"
)

// A process is killed at any moment, and the system goes on: what calls had written when
// they returned is in the file, whether it was flushed or not, because it is in the page
// cache. Power cuts are another matter: see TestPowerCut.

func init() { aloneRuns["work until killed"] = workUntilKilled }

const (
	killedRecord  = 1000
	killedRecords = 4000
	killedPages   = 64
)

// killedWays are how records come into the file.
var killedWays = map[string]struct {
	options []mmapio.Option
	write   func(f *mmapio.File, b []byte, i int) error
	tail    bool // the file may be longer, and zero there
}{
	"in place": {
		[]mmapio.Option{mmapio.WithSize(killedRecords * killedRecord), mmapio.WithMapping(mmapio.MapAlways)},
		writeRecordAt, true,
	},
	"View": {
		[]mmapio.Option{mmapio.WithSize(killedRecords * killedRecord), mmapio.WithMapping(mmapio.MapAlways)},
		func(f *mmapio.File, b []byte, i int) error {
			v, err := f.View(int64(i)*killedRecord, killedRecord)
			if err != nil {
				return err
			}
			defer v.Release()
			return v.Do(func(to []byte) error { copy(to, b); return nil })
		}, true,
	},
	"appending":        {nil, writeRecord, false},
	"appending mapped": {[]mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)}, writeRecord, false},
	"preallocating":    {[]mmapio.Option{mmapio.WithMapping(mmapio.MapAlways), mmapio.WithPreallocate(100_000)}, writeRecord, true},
	"growing": {
		[]mmapio.Option{mmapio.WithMapping(mmapio.MapAlways)},
		func(f *mmapio.File, b []byte, i int) error {
			if i%8 == 0 {
				if err := f.Truncate(int64(i+8) * killedRecord); err != nil {
					return err
				}
			}
			return writeRecordAt(f, b, i)
		}, true,
	},
	"ReadFrom": {
		nil,
		func(f *mmapio.File, b []byte, i int) error {
			_, err := f.ReadFrom(bytes.NewReader(b))
			return err
		}, false,
	},
}

func writeRecord(f *mmapio.File, b []byte, _ int) error { return all(len(b))(f.Write(b)) }

func writeRecordAt(f *mmapio.File, b []byte, i int) error {
	return all(len(b))(f.WriteAt(b, int64(i)*killedRecord))
}

var killedPolicies = []mmapio.FlushPolicy{
	mmapio.Manual(), mmapio.Always(), mmapio.EveryBytes(3000), mmapio.EveryWrites(5), mmapio.Every(time.Millisecond),
}

// newRecord returns the record of that number, of which no byte is zero.
func newRecord(i int) []byte { return patterned(killedRecord, i+1) }

// workUntilKilled does what its arguments say and says how often it has.
func workUntilKilled(arguments []string) error {
	what, name := arguments[0], arguments[1]
	done := func(n int) { os.Stdout.WriteString("done " + strconv.Itoa(n) + "\n") }
	switch what {
	case "write":
		way := killedWays[arguments[2]]
		policy, _ := strconv.Atoi(arguments[3])
		f, err := mmapio.Create(name, append(way.options, mmapio.WithFlushPolicy(killedPolicies[policy]))...)
		if err != nil {
			return err
		}
		for i := range killedRecords {
			if err := way.write(f, newRecord(i), i); err != nil {
				return err
			}
			done(i + 1)
		}
	case "count":
		f, err := mmapio.Create(name, mmapio.WithSize(8))
		if err != nil {
			return err
		}
		v, err := f.View(0, 8)
		if err != nil {
			return err
		}
		word, err := v.Uint64(0)
		if err != nil {
			return err
		}
		for i := range 1_000_000 {
			word.Add(1)
			done(i + 1)
		}
	case "commit":
		f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithCopyOnWrite())
		if err != nil {
			return err
		}
		for i := 1; ; i++ {
			if err := all(killedPages * pageSize)(f.WriteAt(killedVersion(i), 0)); err != nil {
				return err
			}
			if err := f.Commit(); err != nil {
				return err
			}
			done(i)
		}
	case "copy":
		for i := 1; ; i++ {
			if err := mmapio.CopyFile(context.Background(), name, name+strconv.Itoa(i%2), nil); err != nil {
				return err
			}
			done(i)
		}
	}
	_, err := io.ReadAll(os.Stdin) // until the parent kills it
	return err
}

var pageSize = os.Getpagesize()

// killedVersion returns pages that are all of a version.
func killedVersion(version int) []byte {
	b := make([]byte, killedPages*pageSize)
	for at := 0; at < len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], uint64(version))
	}
	return b
}

// killWorker runs a worker and kills it after it has done something at least n times. It
// returns how often it said that it had.
func killWorker(t *testing.T, n int, arguments ...string) (done int) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(executable, "-test.run=^TestChildProcess$")
	command.Env = append(os.Environ(), aloneVariable+"="+strings.Join(append([]string{"work until killed"}, arguments...), "\n"))
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		number, ok := strings.CutPrefix(lines.Text(), "done ")
		if !ok {
			t.Errorf("the child says %q", lines.Text())
			continue
		}
		done, _ = strconv.Atoi(number)
		if done >= n && !killed {
			killed = true
			if err := command.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	_ = command.Wait() // killed
	if !killed {
		t.Fatalf("the child ended early: %v", command.ProcessState)
	}
	return done
}

func killedRounds() int {
	if os.Getenv("MMAPIO_LONG") != "" {
		return 50
	}
	return 2
}

// What a write has acknowledged is there, in every way and under every policy; of the next
// record any bytes may be there, and zeros in place of others. A tail is zeros, and found when the file is opened.
func TestKilledWriting(t *testing.T) {
	dir := memoryDir(t)
	for name, way := range killedWays {
		for policy := range killedPolicies {
			t.Run(fmt.Sprint(name, ", ", killedPolicies[policy]), func(t *testing.T) {
				if name == "View" && !mmapio.SupportsMapping {
					t.Skip("no mappings here")
				}
				for range killedRounds() {
					path := filepath.Join(dir, "file")
					n := killWorker(t, 1+rand.IntN(400), "write", path, name, strconv.Itoa(policy))
					b, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						if at := i * killedRecord; at+killedRecord > len(b) || !bytes.Equal(b[at:][:killedRecord], newRecord(i)) {
							t.Fatalf("record %d of %d is not there", i, n)
						}
					}
					end := n * killedRecord
					next := newRecord(n)
					for i, written := range b[end:min(end+killedRecord, len(b))] {
						if written == next[i] {
							end = n*killedRecord + i + 1
						} else if written != 0 {
							t.Fatalf("byte %d of the record after %d is foreign", i, n)
						}
					}
					// The write of the record after the next one cannot have begun.
					if !way.tail && end != len(b) || bytes.ContainsFunc(b[end:], func(r rune) bool { return r != 0 }) {
						t.Errorf("%d bytes after %d records", len(b), n)
					}
					f, err := mmapio.OpenFile(path, os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					zeros, err := f.TrailingZeros()
					if err != nil || int64(len(b))-zeros != int64(end) {
						t.Errorf("%d zeros in %d bytes, of which %d were written, %v", zeros, len(b), end, err)
					}
					if err := f.Truncate(int64(len(b)) - zeros); err != nil {
						t.Error(err)
					}
					if size, err := f.Size(); size != int64(end) || err != nil {
						t.Errorf("trimmed to %d, %v, want %d", size, err, end)
					}
					if err := f.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// An atomic word has every addition that was made.
func TestKilledCounting(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings here")
	}
	for range killedRounds() {
		path := filepath.Join(memoryDir(t), "file")
		n := killWorker(t, 1+rand.IntN(2000), "count", path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var word uint64
		if len(b) == 8 {
			word = binary.NativeEndian.Uint64(b)
		}
		if word != uint64(n) && word != uint64(n)+1 {
			t.Errorf("the word is %d after %d additions", word, n)
		}
	}
}

// Of a Commit that was cut short, some pages are new and others old; of those that
// returned, all are.
func TestKilledCommitting(t *testing.T) {
	if !mmapio.SupportsMapping {
		t.Skip("no mappings here")
	}
	mixed := 0
	for range 5 * killedRounds() {
		path := filepath.Join(memoryDir(t), "file")
		if err := os.WriteFile(path, killedVersion(0), 0o666); err != nil {
			t.Fatal(err)
		}
		n := killWorker(t, 1+rand.IntN(30), "commit", path)
		b, err := os.ReadFile(path)
		if err != nil || len(b) != killedPages*pageSize {
			t.Fatal(len(b), err)
		}
		versions := make(map[uint64]int)
		for at := 0; at < len(b); at += pageSize {
			version := binary.LittleEndian.Uint64(b[at:])
			versions[version]++
			if version != uint64(n) && version != uint64(n)+1 || !bytes.Equal(b[at:][:pageSize], killedVersion(int(version))[:pageSize]) {
				t.Errorf("page %d after %d Commits: version %d, or torn", at/pageSize, n, version)
			}
		}
		if len(versions) > 1 {
			mixed++
		}
	}
	t.Logf("%d Commits were cut short between pages", mixed)
}

// A target of CopyFile is one source or the other, whole, and what is left beside it is
// named as documented.
func TestKilledCopying(t *testing.T) {
	left := 0
	for range 5 * killedRounds() {
		dir := memoryDir(t)
		path := filepath.Join(dir, "file")
		sources := [2][]byte{patterned(3<<20, 1), patterned(2<<20+77, 2)}
		for i, source := range sources {
			if err := os.WriteFile(path+strconv.Itoa(i), source, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		n := killWorker(t, 1+rand.IntN(30), "copy", path)
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(b, sources[n%2]) && !bytes.Equal(b, sources[(n+1)%2]) {
			t.Errorf("after %d copies: %s, %v", n, bytesOf(b), err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), "file") {
				continue
			}
			left++
			if ok, _ := filepath.Match(".mmapio-*.tmp", entry.Name()); !ok {
				t.Errorf("%s is left", entry.Name())
			}
		}
	}
	t.Logf("%d temporary files were left", left)
}
