package aferofs_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mmapio/mmapio"
	"github.com/spf13/afero"

	"github.com/mmapio/mmapio/aferofs"
)

// A program that works on an afero.Fs gets mapped files by being given another one. What
// only a mmapio.File can do is there for who asks the file for it.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	var system afero.Fs = aferofs.New(mmapio.ForWriting(mmapio.WithSize(1 << 16)))
	f, err := system.Create(filepath.Join(dir, "index"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("in place"), 4096); err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 8)
	if _, err := f.ReadAt(b, 4096); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", b)

	if mapped, ok := f.(*mmapio.File); ok {
		size, err := mapped.Size()
		fmt.Println(size, mapped.Mode(), err)
	}
	// Output:
	// in place
	// 65536 read-write <nil>
}

// A folder that names do not lead out of, for names that come from somebody else.
func ExampleNewRooted() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	uploads, err := aferofs.NewRooted(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer uploads.Close()
	if err := afero.WriteFile(uploads, "/cat.txt", []byte("meow"), 0o644); err != nil {
		log.Fatal(err)
	}
	content, err := afero.ReadFile(uploads, "/cat.txt")
	fmt.Printf("%s %v\n", content, err)

	_, err = afero.ReadFile(uploads, "/../../etc/passwd")
	fmt.Println(err)
	// Output:
	// meow <nil>
	// open /../../etc/passwd: path escapes from parent
}
