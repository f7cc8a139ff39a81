package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mmapio/mmapio"
)

// makeTree makes a folder with files at several depths, and returns it with their names.
func makeTree(t *testing.T) (folder string, names []string) {
	t.Helper()
	folder = t.TempDir()
	for i, name := range []string{"a", "b", filepath.Join("sub", "c"), filepath.Join("sub", "deeper", "d")} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, random(i*5000))
		names = append(names, path)
	}
	return folder, names
}

func namesOf(objects []map[string]any) []string {
	var names []string
	for _, object := range objects {
		names = append(names, fmt.Sprint(object["name"]))
	}
	return names
}

func TestFolders(t *testing.T) {
	folder, names := makeTree(t)
	_ = os.Symlink(folder, filepath.Join(folder, "sub", "loop")) // where there are links
	got := parseLines(t, succeed(t, "stat", "-json", folder))
	if !slices.Equal(namesOf(got), names) {
		t.Errorf("found %q, want %q", namesOf(got), names)
	}
	for i, object := range got {
		wantFields(t, object, map[string]any{"size_bytes": i * 5000, "page_size_bytes": os.Getpagesize()})
	}
	text := succeed(t, "stat", folder)
	if !strings.HasPrefix(text, "     SIZE") || !strings.Contains(text, "total of 4 files\n") {
		t.Errorf("prints\n%s", text)
	}
	for _, name := range names {
		if !strings.Contains(text, "  "+name+"\n") {
			t.Errorf("no row of %s in\n%s", name, text)
		}
	}
	if out := succeed(t, "stat", t.TempDir()); out != "" {
		t.Errorf("prints %q of an empty folder", out)
	}
}

// TestLinksThatAreNamed follows a link to a folder, and one to a file.
func TestLinksThatAreNamed(t *testing.T) {
	folder, names := makeTree(t)
	links := t.TempDir()
	toFolder, toFile := filepath.Join(links, "folder"), filepath.Join(links, "file")
	if err := errors.Join(symlink(folder, toFolder), symlink(names[3], toFile)); err != nil {
		t.Skipf("no links here: %v", err)
	}
	got := namesOf(parseLines(t, succeed(t, "stat", "-json", toFolder)))
	if len(got) != len(names) || got[0] != filepath.Join(toFolder, "a") {
		t.Errorf("found %q behind a link to a folder", got)
	}
	wantFields(t, parseLines(t, succeed(t, "stat", "-json", toFile))[0], map[string]any{"name": toFile, "size_bytes": 15000})
}

func TestFilesGoOn(t *testing.T) {
	_, names := makeTree(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for _, command := range []string{"stat", "warm"} {
		r := tool(t, command, "-json", names[1], missing, names[2])
		wantFailure(t, r, exitError, missing)
		if got := namesOf(parseLines(t, r.stdout)); !slices.Equal(got, names[1:3]) {
			t.Errorf("%s does %q, want %q", command, got, names[1:3])
		}
	}
}

// TestInterruptedBatch stops in the middle of a file, and between two files.
func TestInterruptedBatch(t *testing.T) {
	folder := t.TempDir()
	large, small := filepath.Join(folder, "a"), filepath.Join(folder, "b")
	write(t, large, make([]byte, 2*workStep))
	write(t, small, []byte("text"))
	for _, stopAt := range []string{large, small} {
		ctx, cancel := context.WithCancel(t.Context())
		b := newBatch(ctx, "test")
		files, err := b.find([]string{folder})
		if err != nil || len(files) != 2 {
			t.Fatalf("found %v, %v", files, err)
		}
		var steps []string
		err = b.each(files, func(file *mmapio.File, entry found) error {
			return inSteps(b, file, entry.size, func(off, n int64) error {
				steps = append(steps, filepath.Base(entry.name))
				if entry.name == stopAt {
					cancel()
				}
				return nil
			})
		})
		want := map[string][]string{large: {"a"}, small: {"a", "a", "b"}}[stopAt]
		if err != errInterrupted || b.failed || !slices.Equal(steps, want) {
			t.Errorf("stopped in %s: %v, failed %v, steps %q, want %q", stopAt, err, b.failed, steps, want)
		}
		if _, err := b.find([]string{folder}); err != errInterrupted {
			t.Errorf("find goes on after a signal: %v", err)
		}
		cancel()
	}
}

// TestPicture compares with what vmtouch would draw.
func TestPicture(t *testing.T) {
	for _, test := range []struct {
		pages int64
		in    func(page int64) bool
		want  string
	}{
		{0, nil, ""},
		{3, func(page int64) bool { return page == 1 }, " O "},
		{60, func(page int64) bool { return page < 2 }, "OO" + strings.Repeat(" ", 58)},
		{61, func(page int64) bool { return page == 0 || page == 60 }, "o" + strings.Repeat(" ", 29) + "O"},
		{150, func(page int64) bool { return page >= 3 }, " " + strings.Repeat("O", 49)},
	} {
		r := &residency{pages: test.pages, perChar: 1}
		if test.pages > pictureWidth {
			r.perChar = test.pages/pictureWidth + 1
		}
		r.chars = make([]int64, (r.pages+r.perChar-1)/r.perChar)
		for page := range test.pages {
			if test.in(page) {
				r.chars[page/r.perChar]++
			}
		}
		if got := r.picture(); got != test.want {
			t.Errorf("%d pages: %q, want %q", test.pages, got, test.want)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		n, size int64
		want    string
	}{{0, 0, "-"}, {0, 7, "0%"}, {1, 1000, "<1%"}, {999, 1000, "99%"}, {1000, 1000, "100%"}} {
		if got := percent(&test.n, test.size); got != test.want {
			t.Errorf("%d of %d: %s, want %s", test.n, test.size, got, test.want)
		}
	}
	if got := percent(nil, 1); got != "-" {
		t.Errorf("unknown: %s", got)
	}
}

func TestOneDash(t *testing.T) {
	got := withTwoDashes([]string{"stat", "-json", "-h", "--json", "-", "--", "-json"})
	if want := []string{"stat", "--json", "-h", "--json", "-", "--", "-json"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestJSON has the other commands print JSON.
func TestJSON(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	content := random(100_000)
	write(t, src, content)
	for range 2 { // it is new, then there
		copies := parseLines(t, succeed(t, "cp", "-json", src, dst))
		if len(copies) != 1 {
			t.Fatalf("cp prints %v", copies)
		}
		wantFields(t, copies[0], map[string]any{"source": src, "size_bytes": len(content)})
		if name, _ := copies[0]["destination"].(string); filepath.Base(name) != "dst" {
			t.Errorf("the destination is %q", name)
		}
	}
	wantContent(t, dst, content)

	sums := parseLines(t, succeed(t, "sum", "-json", src, dst))
	if len(sums) != 2 {
		t.Fatalf("sum prints %v", sums)
	}
	for i, name := range []string{src, dst} {
		fields := strings.Fields(sumLine(name, content))
		wantFields(t, sums[i], map[string]any{"name": name, "size_bytes": len(content), "sha256": fields[0], "crc32c": fields[1]})
	}

	tours := parseLines(t, succeed(t, "tour", "-json", src))
	if len(tours) != 1 {
		t.Fatalf("tour prints %v", tours)
	}
	wantFields(t, tours[0], map[string]any{"file": src, "size_bytes": len(content), "compared_bytes": len(content), "sha256": sums[0]["sha256"]})
	rows, _ := tours[0]["rows"].([]any)
	if len(rows) != 6 {
		t.Errorf("the tour has rows %v", rows)
	}
	var sum float64
	for _, row := range rows {
		row, _ := row.(map[string]any)
		for _, name := range []string{"os_seconds", "mmapio_seconds", "faster_ratio"} {
			n, ok := row[name].(float64)
			if !ok || n < 0 { // nothing at all where the clock has stood still
				t.Errorf("%s is %v in %v", name, row[name], row)
			}
			sum += n
		}
	}
	if sum == 0 {
		t.Errorf("nothing took time: %v", rows)
	}
}

// TestUnsupported has the tool say what a system does not tell, or cannot do.
func TestUnsupported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, bytes.Repeat([]byte("x"), 10_000))
	file, err := mmapio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Resident(0, 1); errors.Is(err, errors.ErrUnsupported) {
		object := parseLines(t, succeed(t, "stat", "-json", path))[0]
		wantFields(t, object, map[string]any{"size_bytes": 10_000, "resident_bytes": nil, "huge_bytes": nil, "mapped_bytes": nil})
		if text := fmt.Sprint(object["unknown"]); !strings.Contains(text, errors.ErrUnsupported.Error()) {
			t.Errorf("the reason is %q", text)
		}
	}
	if err := file.Advise(0, 10_000, mmapio.AdviceDontNeed); errors.Is(err, errors.ErrUnsupported) {
		wantFailure(t, tool(t, "evict", path), exitError, path, errors.ErrUnsupported.Error())
	}
}
