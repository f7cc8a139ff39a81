package watch_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/watch"
)

// exampleFile makes a file for an example, and returns a function that removes it.
func exampleFile() (f *mmapio.File, remove func()) {
	dir, err := os.MkdirTemp("", "mmapio-example-")
	if err != nil {
		log.Fatal(err)
	}
	f, err = mmapio.Create(filepath.Join(dir, "file"), mmapio.WithSize(1<<20))
	if err != nil {
		log.Fatal(err)
	}
	return f, func() {
		if err := f.Close(); err != nil {
			log.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	}
}

// Events come on a channel.
func ExampleFile() {
	f, remove := exampleFile()
	defer remove()
	w, err := watch.File(context.Background(), f)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()

	if err := os.Truncate(f.Name(), 100); err != nil {
		log.Fatal(err)
	}
	for event := range w.Events {
		if event.Kind == watch.Resized {
			fmt.Println(event.Kind, event.Size)
			break
		}
	}
	// Output: resized 100
}

// A function is called for each event.
func ExampleFileFunc() {
	f, remove := exampleFile()
	defer remove()
	done := make(chan struct{})
	w, err := watch.FileFunc(context.Background(), f, func(event watch.Event) {
		if event.Kind == watch.Resized {
			fmt.Println(event.Kind, event.Size)
			close(done)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()

	if err := os.Truncate(f.Name(), 100); err != nil {
		log.Fatal(err)
	}
	<-done
	// Output: resized 100
}

// Stores into mapped memory are found by comparing the content.
func ExampleWithContent() {
	f, remove := exampleFile()
	defer remove()
	w, err := watch.File(context.Background(), f, watch.WithContent(4096, 0))
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()

	view, err := f.View(500_000, 8)
	if err != nil {
		log.Fatal(err)
	}
	defer view.Release()
	copy(view.Bytes(), "changed!")

	for event := range w.Events {
		if event.Kind == watch.Modified {
			fmt.Println(event.Offset, event.Len)
			break
		}
	}
	// Output: 499712 4096
}
