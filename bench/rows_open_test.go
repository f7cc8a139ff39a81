package main

import (
	"io"
	"testing"
)

// wasteful holds memory and a goroutine until it is closed.
type wasteful struct {
	io.ReaderAt
	memory []byte
	done   chan struct{}
}

func (w *wasteful) Close() error {
	close(w.done)
	w.memory = nil
	return nil
}

// What a file holds while it is open is counted, and what it holds no longer is not.
func TestHoldFiles(t *testing.T) {
	const each = 64 * kiB
	open := func(string) (holder, error) {
		w := &wasteful{memory: make([]byte, each), done: make(chan struct{})}
		go func() { <-w.done }()
		return w, nil
	}
	w := tiny(t)
	figures, err := holdFiles(w, open, 0)
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range figures {
		values[f.name] = f.value
	}
	if heap := values[heapEach]; heap < each || heap > each*5/4 {
		t.Errorf("%v bytes a file, want a little more than %d", heap, each)
	}
	if n := values[goroutines]; n != float64(w.files) {
		t.Errorf("%v goroutines, want %d", n, w.files)
	}
}
