package mmapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"path/filepath"

	"github.com/mmapio/mmapio"
)

// exampleFile returns a new File with that content.
func exampleFile(content string) (f *mmapio.File, remove func()) {
	dir, removeFolder := temporaryFolder()
	f, err := mmapio.Create(filepath.Join(dir, "file"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		log.Fatal(err)
	}
	return f, func() {
		if err := f.Close(); err != nil {
			log.Fatal(err)
		}
		removeFolder()
	}
}

// A View is the bytes of the file themselves.
func ExampleFile_View() {
	f, remove := exampleFile("the quick brown fox")
	defer remove()

	v, err := f.View(4, 11)
	if err != nil {
		log.Fatal(err)
	}
	defer v.Release()
	fmt.Printf("%s at %d\n", v.Bytes(), v.Offset())

	// What is stored to it is in the file at once, and on the disk after Flush.
	copy(v.Bytes(), "small")
	b := make([]byte, 9)
	if _, err := f.ReadAt(b, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", b)
	if err := v.Flush(); err != nil {
		log.Fatal(err)
	}

	// Do turns a fault into an error, should somebody cut the file meanwhile.
	err = v.Do(func(b []byte) error {
		fmt.Println(bytes.IndexByte(b, 'w'))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// quick brown at 4
	// the small
	// 9
}

func ExampleFile_Chunks() {
	f, remove := exampleFile("one two three four five")
	defer remove()

	chunks := f.Chunks(10)
	for off, chunk := range chunks.All() {
		fmt.Printf("%2d %q\n", off, chunk)
	}
	if err := chunks.Err(); err != nil {
		log.Fatal(err)
	}
	// Output:
	//  0 "one two th"
	// 10 "ree four f"
	// 20 "ive"
}

func ExampleFile_UpdateChunks() {
	f, remove := exampleFile("shout it from the roofs")
	defer remove()

	err := f.UpdateChunks(4096, func(off int64, chunk []byte) error {
		copy(chunk, bytes.ToUpper(chunk))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	text := make([]byte, 23)
	if _, err := f.ReadAt(text, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", text)
	// Output:
	// SHOUT IT FROM THE ROOFS
}

// Several processes can count in one file, and no increment gets lost.
func ExampleView_Uint64() {
	f, remove := exampleFile("")
	defer remove()
	if err := f.Truncate(4096); err != nil {
		log.Fatal(err)
	}

	v, err := f.View(0, 4096)
	if err != nil {
		log.Fatal(err)
	}
	defer v.Release()
	counter, err := v.Uint64(64)
	if err != nil {
		log.Fatal(err)
	}
	counter.Add(2)
	counter.Add(3)
	fmt.Println(counter.Load())

	_, err = v.Uint64(65)
	fmt.Println(errors.Is(err, mmapio.ErrMisaligned))
	// Output:
	// 5
	// true
}

// Guard is for code that works on several Views.
func ExampleGuard() {
	from, removeFrom := exampleFile("copied")
	defer removeFrom()
	to, removeTo := exampleFile("not yet")
	defer removeTo()

	source, err := from.View(0, 6)
	if err != nil {
		log.Fatal(err)
	}
	defer source.Release()
	target, err := to.View(0, 6)
	if err != nil {
		log.Fatal(err)
	}
	defer target.Release()

	err = mmapio.Guard(func() error {
		copy(target.Bytes(), source.Bytes())
		return nil
	})
	if fault, ok := errors.AsType[*mmapio.FaultError](err); ok {
		fmt.Println("cut at or before", fault.Offset)
	}
	fmt.Printf("%s\n", target.Bytes())
	// Output:
	// copied
}
