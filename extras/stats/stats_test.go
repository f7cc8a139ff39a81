package stats_test

import (
	"encoding/json"
	"expvar"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/stats"
)

// What is published follows what happens.
func TestPublish(t *testing.T) {
	stats.Publish("published")
	read := func() (s mmapio.Stats) {
		t.Helper()
		if err := json.Unmarshal([]byte(expvar.Get("published").String()), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := read()
	f, err := mmapio.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if by := read().CallsUnmapped - before.CallsUnmapped; by != 1 {
		t.Errorf("%d calls were counted, want 1", by)
	}
}

func ExamplePublish() {
	stats.Publish("files") // shown at /debug/vars by a program that serves HTTP
	var counts mmapio.Stats
	err := json.Unmarshal([]byte(expvar.Get("files").String()), &counts)
	fmt.Println(counts.Mappings, err)
	// Output: 0 <nil>
}
