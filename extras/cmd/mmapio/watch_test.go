package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// await reads changes until there is one with these fields.
func (b *background) await(fields map[string]any) {
	b.t.Helper()
	for {
		object := b.object()
		same := true
		for name, value := range fields {
			if n, ok := value.(int); ok {
				value = float64(n)
			}
			same = same && object[name] == value
		}
		if same {
			return
		}
		b.t.Logf("before: %v", object)
	}
}

func TestWatchTellsExtents(t *testing.T) {
	folder, names := makeTree(t)
	large := filepath.Join(folder, "large")
	write(t, large, make([]byte, 1<<20))
	b := inBackground(t, "watch", "-json", "-interval", "50ms", folder)
	wantFields(t, b.object(), map[string]any{"kind": "watching", "files": len(names) + 1})

	file, err := os.OpenFile(large, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("text"), 3*4096-2); err != nil { // in two blocks
		t.Fatal(err)
	}
	b.await(map[string]any{"kind": "modified", "name": large, "offset_bytes": 2 * 4096, "length_bytes": 2 * 4096, "size_bytes": 1 << 20})
	if _, err := file.WriteAt([]byte("more"), 1<<20); err != nil {
		t.Fatal(err)
	}
	b.await(map[string]any{"kind": "resized", "name": large, "offset_bytes": 1 << 20, "length_bytes": 4, "size_bytes": 1<<20 + 4})

	fresh := filepath.Join(folder, "sub", "new")
	write(t, fresh, []byte("text"))
	b.await(map[string]any{"kind": "created", "name": fresh})
	file, err = os.OpenFile(fresh, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	b.await(map[string]any{"kind": "resized", "name": fresh, "size_bytes": 8})
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	b.await(map[string]any{"kind": "removed", "name": names[0]})
	if _, stderr := b.end(0); stderr != "" {
		t.Errorf("standard error %q", stderr)
	}
}

// TestWatchText has the changes as text, without comparing.
func TestWatchText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("text"))
	missing := filepath.Join(filepath.Dir(path), "missing")
	b := inBackground(t, "watch", "--no-content", path, missing)
	if line := b.line(); line != "watching 1 file until interrupted" {
		t.Fatalf("begins with %q", line)
	}
	write(t, path, []byte("longer text"))
	for {
		line := b.line()
		if !strings.HasSuffix(line, "  "+path) {
			t.Fatalf("prints %q", line)
		}
		if strings.Contains(line, "resized") && strings.Contains(line, " 4+7 ") && strings.Contains(line, "size           11") {
			break
		}
	}
	_, stderr := b.end(exitError) // because of the missing one
	wantLine(t, stderr, missing)
}

func TestWatchFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, nil)
	for _, test := range []struct{ args, words []string }{
		{[]string{"-interval", "0s", path}, []string{"interval"}},
		{[]string{"-block", "63", path}, []string{"block", "63"}},
		{[]string{"-block", "1048577", path}, []string{"block", "1048577"}},
		{[]string{path + "-missing"}, []string{path + "-missing"}},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			wantFailure(t, tool(t, append([]string{"watch"}, test.args...)...), exitError, test.words...)
		})
	}
}
