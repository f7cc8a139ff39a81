package mmapio_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// Power cuts: a child writes to a file system of its own, whose disk is a file in memory,
// and is killed at a random moment. The disk is copied then, without what the page
// cache of that file system has not written to it, and the copy is mounted: what is in
// the file there is what a power cut would have left.

func init() { aloneRuns["write until killed"] = writeUntilKilled }

// crashDisk is the file system; it has a journal, as file systems have.
type crashDisk struct {
	image, dir string
}

func newCrashDisk(t testing.TB) crashDisk {
	t.Helper()
	memory := smallTmpfs(t, 256<<20)
	d := crashDisk{filepath.Join(memory, "image"), t.TempDir()}
	if err := os.WriteFile(d.image, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", d.image).CombinedOutput(); err != nil {
		t.Skipf("cannot make an ext4: %v %s", err, output)
	}
	// The journal is not to be written for other reasons than a flush.
	if output, err := exec.Command("mount", "-o", "loop,commit=300", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount an ext4: %v %s", err, output)
	}
	t.Cleanup(func() { unmount(t, d.dir) })
	return d
}

// afterPowerCut returns what would be in the file if the power had been cut now.
func (d crashDisk) afterPowerCut(t testing.TB, name string) []byte {
	t.Helper()
	copied := d.image + ".copy"
	defer os.Remove(copied)
	if output, err := exec.Command("cp", "--sparse=always", d.image, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, output)
	}
	dir := t.TempDir()
	if output, err := exec.Command("mount", "-o", "loop", copied, dir).CombinedOutput(); err != nil {
		t.Fatalf("the disk cannot be mounted after a power cut: %v %s", err, output)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// crashRecord is how much the child writes at once: its number, over and over.
const crashRecord = 512

// crashRecords is how many records fit into the file, where it does not grow.
const crashRecords = 1 << 20 / crashRecord

var crashPolicies = map[string]struct {
	policy mmapio.FlushPolicy
	owed   int // so many acknowledged records may be lost at most, or -1: any number
	flush  int // the child calls Flush after so many, and acknowledges them then
	wait   int // the child waits after so many until the background has flushed them
}{
	"manual":                   {mmapio.Manual(), -1, 0, 0},
	"manual, flushed":          {mmapio.Manual(), -1, 5, 0},
	"always":                   {mmapio.Always(), 0, 0, 0},
	"every 5 writes":           {mmapio.EveryWrites(5), 4, 0, 0},
	"every 3000 bytes":         {mmapio.EveryBytes(3000), 5, 0, 0}, // six are more than 3000
	"every 1ms":                {mmapio.Every(time.Millisecond), -1, 0, 40},
	"every 7 writes or 1 hour": {mmapio.EveryWrites(7).Or(mmapio.Every(time.Hour)), 6, 0, 0},
}

var crashWays = map[string][]mmapio.Option{
	"in place":      {mmapio.WithSize(crashRecords * crashRecord), mmapio.WithMapping(mmapio.MapAlways)},
	"through Views": {mmapio.WithSize(crashRecords * crashRecord)},
	"appending":     nil,
	"preallocating": {mmapio.WithPreallocate(256 << 10), mmapio.WithMapping(mmapio.MapAlways)},
}

// writeUntilKilled writes records and says how many: "wrote N" when the call for the last
// of N has returned, "durable N" when the File says that all of N are.
func writeUntilKilled(arguments []string) error {
	name, row := arguments[0], crashPolicies[arguments[1]]
	f, err := mmapio.Create(name, append(crashWays[arguments[2]], mmapio.WithFlushPolicy(row.policy))...)
	if err != nil {
		return err
	}
	// The name of the file must be there after a power cut, which is not what this is about.
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if arguments[2] == "in place" {
		b := make([]byte, crashRecords*crashRecord)
		for range 2 {
			if _, err := f.ReadAt(b, 0); err != nil {
				return err
			}
		}
		if !mmapio.IsKnown(f, 0, len(b)) {
			return errSkip("not served from memory")
		}
	}
	write := func(b []byte, _ int64) (int, error) { return f.Write(b) }
	flush := func(_, _ int64) error { return f.Flush() }
	if arguments[2] == "through Views" {
		v, err := f.View(0, crashRecords*crashRecord)
		if err != nil {
			return err
		}
		write, flush = v.WriteAt, v.FlushRange
	}
	fmt.Println("ready")
	b := make([]byte, crashRecord)
	for i := 1; i <= crashRecords; i++ {
		for at := 0; at < len(b); at += 8 {
			binary.LittleEndian.PutUint64(b[at:], uint64(i))
		}
		if err := all(len(b))(write(b, int64(i-1)*crashRecord)); err != nil {
			return err
		}
		os.Stdout.WriteString("wrote " + strconv.Itoa(i) + "\n")
		if row.wait > 0 && i%row.wait == 0 {
			for deadline := time.Now().Add(10 * time.Second); f.Pending() > 0; runtime.Gosched() {
				if time.Now().After(deadline) {
					return fmt.Errorf("%d bytes pending for too long", f.Pending())
				}
			}
		}
		switch {
		case row.flush > 0 && i%row.flush == 0:
			if err := flush(int64(i-row.flush)*crashRecord, int64(row.flush)*crashRecord); err != nil {
				return err
			}
			os.Stdout.WriteString("durable " + strconv.Itoa(i) + "\n")
		case row.policy != mmapio.Manual() && f.Pending() == 0:
			os.Stdout.WriteString("durable " + strconv.Itoa(i) + "\n")
		}
	}
	_, err = io.ReadAll(os.Stdin) // until the parent kills it
	return err
}

// TestPowerCut shows that what a policy has promised is on the disk, and that without a
// flush it is not: else the test would show nothing.
func TestPowerCut(t *testing.T) {
	disk := newCrashDisk(t)
	rounds := 1
	if os.Getenv("MMAPIO_LONG") != "" {
		rounds = 20
	}
	lost := 0
	for policy, row := range crashPolicies {
		for way := range crashWays {
			t.Run(policy+", "+way, func(t *testing.T) {
				for range rounds {
					wrote, durable, found := crash(t, disk, policy, way)
					promised := durable
					if row.owed >= 0 {
						promised = max(promised, wrote-row.owed)
					}
					t.Logf("%d records written, %d promised, %d on the disk", wrote, promised, found)
					if found < promised {
						t.Errorf("%d records promised, and only %d on the disk", promised, found)
					}
					if policy == "manual" {
						lost += max(wrote-found, 0)
					} else if wrote > 100 && promised == 0 {
						t.Error("nothing was ever promised")
					}
				}
			})
		}
	}
	if lost == 0 {
		t.Error("without a flush nothing was lost: the power cut is none")
	}
}

// crash runs a child until it is killed. It returns how many records the child said it
// had written, and were durable, and how many are in the file after a power cut.
func crash(t *testing.T, disk crashDisk, policy, way string) (wrote, durable, found int) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(disk.dir, "file")
	command := exec.Command(executable, "-test.run=^TestChildProcess$")
	command.Env = append(os.Environ(), aloneVariable+"="+strings.Join([]string{"write until killed", name, policy, way}, "\n"))
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
	killAt := 120 + rand.IntN(300)
	ready, killed := false, false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		what, number, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.Atoi(number)
		switch what {
		case "ready":
			ready = true
		case "wrote":
			wrote = n
		case "durable":
			durable = n
		default:
			t.Errorf("the child says %q", lines.Text())
		}
		if wrote >= killAt && !killed {
			killed = true
			if err := command.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	after := disk.afterPowerCut(t, "file")
	_ = command.Wait() // killed
	if !ready || !killed {
		t.Fatalf("the child ended early: %v", command.ProcessState)
	}
	if err := os.Remove(name); err != nil {
		t.Error(err)
	}
	for found < len(after)/crashRecord && intact(after[found*crashRecord:][:crashRecord], uint64(found+1)) {
		found++
	}
	return wrote, durable, found
}

func intact(record []byte, number uint64) bool {
	for at := 0; at < len(record); at += 8 {
		if binary.LittleEndian.Uint64(record[at:]) != number {
			return false
		}
	}
	return true
}

// A disk that takes no more: writing back fails, and every policy says so from then on.
func TestFailingDisk(t *testing.T) {
	const room = 24 << 20
	for _, policy := range []mmapio.FlushPolicy{mmapio.Manual(), mmapio.Always(), mmapio.Every(time.Millisecond)} {
		t.Run(policy.String(), func(t *testing.T) {
			// The disk says that it has 256 MiB, and has less: writing to it fails when that is used up.
			memory := smallTmpfs(t, room)
			image, dir := filepath.Join(memory, "image"), t.TempDir()
			if err := os.WriteFile(image, nil, 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(image, 256<<20); err != nil {
				t.Fatal(err)
			}
			if output, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", image).CombinedOutput(); err != nil {
				t.Skipf("cannot make an ext4: %v %s", err, output)
			}
			if output, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
				t.Skipf("cannot mount an ext4: %v %s", err, output)
			}
			t.Cleanup(func() { unmount(t, dir) })
			f, err := mmapio.Create(filepath.Join(dir, "file"), mmapio.WithFlushPolicy(policy))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b := make([]byte, 1<<20)
			var failure error
			for i := range 64 {
				for at := range b {
					b[at] = byte(at*i + at>>8 | 1) // no holes
				}
				if _, failure = f.Write(b); failure != nil {
					break
				}
				if policy == mmapio.Manual() {
					if failure = f.Flush(); failure != nil {
						break
					}
				}
			}
			if policy.String() == "every 1ms" && failure == nil {
				eventually(t, "the background meets the disk", func() error {
					if _, failure = f.Write([]byte("x")); failure == nil {
						return fmt.Errorf("no error yet")
					}
					return nil
				})
			}
			full, broken := isPathError(failure, "flush", unix.ENOSPC), isPathError(failure, "flush", unix.EIO)
			if !full && !broken {
				t.Fatalf("the disk took everything: %v", failure)
			}
			for range 2 {
				if err := f.Flush(); err != failure {
					t.Errorf("Flush: %v", err)
				}
			}
			if policy == mmapio.Manual() {
				return
			}
			if err := none(f.Write(b)); err != failure {
				t.Errorf("Write: %v", err)
			}
			if err := f.Sync(); err != failure {
				t.Errorf("Sync: %v", err)
			}
			if err := f.Close(); err != failure {
				t.Errorf("Close: %v", err)
			}
		})
	}
}
