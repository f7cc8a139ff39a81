package mmapio_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math"
	"os"
	"path/filepath"

	"github.com/mmapio/mmapio"
)

// temporaryFolder makes a folder for an example, and returns a function that
// removes it.
func temporaryFolder() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "mmapio-example-")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() {
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	}
}

// A File is used as an os.File is: the same calls, the same results.
func Example() {
	dir, remove := temporaryFolder()
	defer remove()

	f, err := mmapio.Create(filepath.Join(dir, "counters"), mmapio.WithSize(1<<20))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("in place"), 4096); err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 8)
	if _, err := f.ReadAt(b, 4096); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", b)

	n, err := f.ReadAt(b, 1<<20-3)
	fmt.Println(n, err)

	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// in place
	// 3 EOF
}

func ExampleOpen() {
	dir, remove := temporaryFolder()
	defer remove()
	name := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(name, []byte("first line\nsecond line\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	f, err := mmapio.Open(name)
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// first line
	// second line
}

// Errors are those of package os.
func ExampleOpen_error() {
	dir, remove := temporaryFolder()
	defer remove()

	_, err := mmapio.Open(filepath.Join(dir, "missing"))
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		fmt.Println(pathError.Op, filepath.Base(pathError.Path))
	}
	// Output:
	// true
	// open missing
}

// A file of fixed-size slots starts out as long as it will be.
func ExampleCreate() {
	dir, remove := temporaryFolder()
	defer remove()

	const slot = 64
	f, err := mmapio.Create(filepath.Join(dir, "slots"), mmapio.WithSize(1000*slot))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("slot 999"), 999*slot); err != nil {
		log.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(size, f.Mode())
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: 64000 read-write
}

func ExampleOpenFile_append() {
	dir, remove := temporaryFolder()
	defer remove()
	name := filepath.Join(dir, "access.log")

	for _, line := range []string{"one request\n", "another request\n"} {
		f, err := mmapio.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := f.WriteString(line); err != nil {
			f.Close() // ignore the error; the one of the write is of interest
			log.Fatal(err)
		}
		if err := f.Close(); err != nil {
			log.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// one request
	// another request
}

// The Reader, Seeker and Writer of a File share one position; io.SectionReader
// gives each reader its own.
func ExampleFile_ReadAt() {
	dir, remove := temporaryFolder()
	defer remove()

	f, err := mmapio.Create(filepath.Join(dir, "records"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteString("alphabravocharlie"); err != nil {
		log.Fatal(err)
	}
	for _, section := range []*io.SectionReader{
		io.NewSectionReader(f, 10, 7),
		io.NewSectionReader(f, 0, 5),
	} {
		text, err := io.ReadAll(section)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(text))
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// charlie
	// alpha
}

// A hash is handed the bytes of the file as they lie in memory.
func ExampleFile_WriteTo() {
	dir, remove := temporaryFolder()
	defer remove()
	name := filepath.Join(dir, "data")
	if err := os.WriteFile(name, bytes.Repeat([]byte("mmapio\n"), 100_000), 0o600); err != nil {
		log.Fatal(err)
	}

	f, err := mmapio.Open(name)
	if err != nil {
		log.Fatal(err)
	}
	h := sha256.New()
	n, err := io.Copy(h, f) // calls f.WriteTo(h)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes\n%x\n", n, h.Sum(nil))
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 700000 bytes
	// d5e5fc30f86d1e7a1159b004d5d192db7ac5b4221f8a09f80a3e84564fec14f8
}

// A log that grows in steps of a MiB. Its size is what was written.
func ExampleWithPreallocate() {
	dir, remove := temporaryFolder()
	defer remove()
	name := filepath.Join(dir, "journal")

	f, err := mmapio.Create(name, mmapio.WithPreallocate(1<<20))
	if err != nil {
		log.Fatal(err)
	}
	for i := range 1000 {
		if _, err := fmt.Fprintf(f, "entry %3d\n", i); err != nil {
			log.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Size())
	// Output: 10000
}

// A program that has an os.File can have it mapped for a while.
func ExampleFromFile() {
	dir, remove := temporaryFolder()
	defer remove()
	file, err := os.Create(filepath.Join(dir, "data"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := file.WriteString("written by os"); err != nil {
		log.Fatal(err)
	}

	f, err := mmapio.FromFile(file)
	if err != nil {
		log.Fatal(err)
	}
	// Do not use file now: it belongs to f.
	if _, err := f.WriteString(", then by mmapio"); err != nil {
		log.Fatal(err)
	}
	file, err = f.Detach()
	if err != nil {
		log.Fatal(err)
	}

	// And it goes on where f was.
	if _, err := file.WriteString(", then by os again"); err != nil {
		log.Fatal(err)
	}
	if err := file.Close(); err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "data"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
	// Output: written by os, then by mmapio, then by os again
}

// A File that was detached is closed; the os.File is not.
func ExampleFile_Detach() {
	dir, remove := temporaryFolder()
	defer remove()
	f, err := mmapio.Create(filepath.Join(dir, "data"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteString("0123456789"); err != nil {
		log.Fatal(err)
	}
	if _, err := f.Seek(4, io.SeekStart); err != nil {
		log.Fatal(err)
	}

	file, err := f.Detach()
	if err != nil {
		log.Fatal(err)
	}
	_, err = f.Read(make([]byte, 1))
	fmt.Println(errors.Is(err, fs.ErrClosed))
	rest, err := io.ReadAll(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(rest))
	if err := file.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// true
	// 456789
}

// Some functions want an os.File and nothing else.
func ExampleFile_OSFile() {
	dir, remove := temporaryFolder()
	defer remove()
	f, err := mmapio.Create(filepath.Join(dir, "report"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteString("head\n"); err != nil {
		log.Fatal(err)
	}

	stdout := os.Stdout
	os.Stdout = f.OSFile() // so also cmd.Stdout of an exec.Cmd
	fmt.Println("body")
	os.Stdout = stdout

	// What was written through it has moved the position of f as well.
	if _, err := f.WriteString("foot\n"); err != nil {
		log.Fatal(err)
	}
	text := make([]byte, 15)
	if _, err := f.ReadAt(text, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// head
	// body
	// foot
}

// Memory without a name that is used as a file.
func ExampleAnonymous() {
	f, err := mmapio.Anonymous(1 << 20)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("scratch"), 1<<19); err != nil {
		log.Fatal(err)
	}
	v, err := f.View(1<<19, 7)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", v.Bytes())
	v.Release()
	if err := f.Truncate(1 << 24); err != nil {
		log.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(size)
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// scratch
	// 16777216
}

// Changes that stay in memory until they are wanted in the file.
func ExampleWithCopyOnWrite() {
	dir, remove := temporaryFolder()
	defer remove()
	name := filepath.Join(dir, "settings")
	if err := os.WriteFile(name, []byte("color=red  size=10"), 0o600); err != nil {
		log.Fatal(err)
	}
	f, err := mmapio.OpenFile(name, os.O_RDWR, 0, mmapio.WithCopyOnWrite())
	if err != nil {
		log.Fatal(err)
	}
	show := func(when string) {
		text := make([]byte, 18)
		if _, err := f.ReadAt(text, 0); err != nil {
			log.Fatal(err)
		}
		onDisk, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s, on the disk: %s\n", when, text, onDisk)
	}
	if _, err := f.WriteAt([]byte("blue "), 6); err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("99"), 16); err != nil {
		log.Fatal(err)
	}
	show("changed")
	if err := f.Discard(16, 2); err != nil {
		log.Fatal(err)
	}
	show("in part discarded")
	if err := f.Commit(); err != nil {
		log.Fatal(err)
	}
	show("committed")
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// changed: color=blue size=99, on the disk: color=red  size=10
	// in part discarded: color=blue size=10, on the disk: color=red  size=10
	// committed: color=blue size=10, on the disk: color=blue size=10
}

// A file is copied, and whoever waits is told how far that is.
func ExampleCopyFile() {
	dir, remove := temporaryFolder()
	defer remove()
	src, dst := filepath.Join(dir, "original"), filepath.Join(dir, "copy")
	if err := os.WriteFile(src, make([]byte, 1<<20), 0o600); err != nil {
		log.Fatal(err)
	}

	var last string
	err := mmapio.CopyFile(context.Background(), dst, src, func(done, total int64) {
		last = fmt.Sprintf("%d of %d bytes", done, total)
	})
	fmt.Println(last, err)

	// A context that ends stops a copy; then dst is what it was before.
	ctx, cancel := context.WithCancel(context.Background())
	err = mmapio.CopyFile(ctx, dst, src, func(done, total int64) { cancel() })
	fmt.Println(err == nil || errors.Is(err, context.Canceled))

	// Output:
	// 1048576 of 1048576 bytes <nil>
	// true
}

func ExampleFile_Advise() {
	dir, remove := temporaryFolder()
	defer remove()
	f, err := mmapio.Create(filepath.Join(dir, "index"), mmapio.WithSize(1<<20))
	if err != nil {
		log.Fatal(err)
	}
	// Lookups all over the file: reading ahead does not pay.
	err = f.Advise(0, math.MaxInt64, mmapio.AdviceRandom)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		log.Fatal(err)
	}
	fmt.Println("advised:", mmapio.AdviceRandom)
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// advised: random
}

func ExampleFile_Lock() {
	dir, remove := temporaryFolder()
	defer remove()
	f, err := mmapio.Create(filepath.Join(dir, "hot"), mmapio.WithSize(1<<20))
	if err != nil {
		log.Fatal(err)
	}
	switch err := f.Lock(0, 4096); {
	case errors.Is(err, errors.ErrUnsupported):
		// It is only slower without.
	case err != nil:
		log.Fatal(err) // says which limit to raise
	}
	if err := f.UnlockAll(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Close())
	// Output:
	// <nil>
}

func ExampleFile_Prefault() {
	dir, remove := temporaryFolder()
	defer remove()
	f, err := mmapio.Create(filepath.Join(dir, "table"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		log.Fatal(err)
	}
	if err := f.Prefault(0, math.MaxInt64); err != nil {
		log.Fatal(err)
	}
	switch in, err := f.Resident(0, math.MaxInt64); {
	case errors.Is(err, errors.ErrUnsupported):
		// Not every system tells.
	case err != nil:
		log.Fatal(err)
	case in.Bytes() < 1<<20:
		fmt.Println("only", in.Bytes(), "bytes are in memory")
	}
	fmt.Println(f.Close())
	// Output:
	// <nil>
}
