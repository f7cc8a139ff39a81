package mmapio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// mappedFile returns a File of the named file, which has size bytes, that is mapped
// and knows all its pages.
func mappedFile(t testing.TB, name string, flag int) *File {
	t.Helper()
	skipWithoutMappings(t)
	f, err := OpenFile(name, flag, 0, WithMapping(MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	warmFile(t, f)
	return f
}

func warmFile(t testing.TB, f *File) {
	t.Helper()
	endPause() // a test before may have had a mapping refused
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	for range 2 * longestPatience { // the first read maps, the second one learns, if mapping was never refused
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if IsKnown(f, 0, len(b)) {
			return
		}
	}
	t.Fatal("not mapped, or not known")
}

func newNamedFile(t testing.TB, size int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// All Files that have a file open know at once when one of them cuts it.
func TestCutTellsSiblings(t *testing.T) {
	page := int64(pageSize)
	name, other := newNamedFile(t, int(4*page)), newNamedFile(t, int(4*page))
	link := filepath.Join(filepath.Dir(name), "link")
	if err := os.Link(name, link); err != nil {
		link = name // no hard links here
	}
	cutter := mappedFile(t, name, os.O_RDWR)
	sibling := mappedFile(t, name, os.O_RDWR)
	reader := mappedFile(t, link, os.O_RDONLY)
	stranger := mappedFile(t, other, os.O_RDWR)

	if err := cutter.Truncate(4*page - 10); err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]*File{"cutter": cutter, "sibling": sibling, "reader": reader} {
		if f.mapping.Load() != nil {
			t.Errorf("the %s still has its mapping", what)
		}
		if n, err := f.ReadAt(make([]byte, 20), 4*page-20); n != 10 || err == nil {
			t.Errorf("the %s reads %d bytes, %v", what, n, err)
		}
	}
	if stranger.mapping.Load() == nil {
		t.Error("another file lost its mapping")
	}

	warmFile(t, sibling)
	if err := cutter.Truncate(5 * page); err != nil {
		t.Fatal(err)
	}
	if sibling.mapping.Load() == nil && !mustUnmapToResize {
		t.Error("growth took the mapping away")
	}
	warmFile(t, sibling)
	f, err := OpenFile(name, os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if sibling.mapping.Load() != nil {
		t.Error("O_TRUNC left the mapping in place")
	}
}

// A store can never get lost behind the new end: the mappings are gone before the
// file is cut, and none is made until it is.
func TestCutRetiresFirst(t *testing.T) {
	name := newNamedFile(t, 4*pageSize)
	f, sibling := mappedFile(t, name, os.O_RDWR), mappedFile(t, name, os.O_RDWR)
	file, err := f.inner()
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	failure := errors.New("not today")
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	err = cut(10, info, func() error {
		ran = true
		if f.mapping.Load() != nil || sibling.mapping.Load() != nil {
			t.Error("mapped while the file is being cut")
		}
		for range 5 {
			if _, err := sibling.ReadAt(make([]byte, 10), 0); err != nil {
				t.Error(err)
			}
		}
		if sibling.mapping.Load() != nil {
			t.Error("mapped again while the file is being cut")
		}
		return failure
	})
	if !ran || err != failure {
		t.Errorf("ran %v, %v", ran, err)
	}
	warmFile(t, sibling)
}

// What was found out before a cut is not put into use after it.
func TestPublishAfterCut(t *testing.T) {
	m, file := mapped(t, int64(pageSize), false)
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var slot atomic.Pointer[mapping]
	var closed atomic.Bool
	begin := func(info fs.FileInfo) *maker {
		t.Helper()
		by, ok := beginMapping()
		if !ok {
			t.Fatal("no mapping is to be had")
		}
		by.identify(info)
		t.Cleanup(func() { endMapping(by) })
		return by
	}
	other, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	nothing := func() error { return nil }
	for _, info := range []fs.FileInfo{info, nil} {
		by := begin(info)
		if err := cut(10, info, nothing); err != nil {
			t.Fatal(err)
		}
		if publish(m, &slot, by, &closed) || slot.Load() != nil {
			t.Error("published with a size from before a cut")
		}
	}
	var during *maker
	if err := cut(10, info, func() error { during = begin(info); return nil }); err != nil {
		t.Fatal(err)
	}
	if publish(m, &slot, during, &closed) || slot.Load() != nil {
		t.Error("published with a size from during a cut")
	}
	by := begin(info)
	closed.Store(true)
	if publish(m, &slot, by, &closed) || slot.Load() != nil {
		t.Error("published for a closed File")
	}
	closed.Store(false)
	by = begin(info)
	if err := cut(10, other, nothing); err != nil {
		t.Fatal(err)
	}
	inUse, all := Mappings()
	if !publish(m, &slot, by, &closed) || slot.Load() != m {
		t.Error("not published, although only another file was cut")
	}
	if nowInUse, nowAll := Mappings(); nowInUse != inUse+1 || nowAll < 1 || nowAll > all+1 {
		t.Errorf("%d and %d mappings, were %d and %d", nowInUse, nowAll, inUse, all)
	}
	withdraw(&slot, &closed)
	if !closed.Load() || slot.Load() != nil {
		t.Error("not withdrawn")
	}
	if nowInUse, _ := Mappings(); nowInUse != inUse {
		t.Errorf("%d mappings in use, want %d", nowInUse, inUse)
	}
	withdraw(&slot, &closed) // again, as a second Close does
	runtime.KeepAlive(m)
}

// Files beyond the budget work without a mapping; those that were mapped long ago
// make room for new ones, those that were mapped just now do not.
func TestBudget(t *testing.T) {
	skipWithoutMappings(t)
	noMappings(t)
	defer SetBudget(8, 1<<40)() // four in use, eight with those that are not given back
	files := make([]*File, 10)
	for i := range files {
		name := newNamedFile(t, 100+i)
		f, err := Open(name, WithMapping(MapAlways))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	inUse := func() (n int) {
		for i, f := range files {
			b := make([]byte, 200)
			if n, _ := f.ReadAt(b, 0); n != 100+i {
				t.Errorf("file %d: %d bytes", i, n)
			}
			if f.mapping.Load() != nil {
				n++
			}
		}
		return n
	}
	b := make([]byte, 50)
	for range 300 {
		for _, f := range files {
			if n, err := f.ReadAt(b, 0); n != 50 || err != nil {
				t.Fatal(n, err)
			}
		}
		if live, _ := Mappings(); live > 4 {
			t.Fatalf("%d mappings in use, at most 4 may be", live)
		}
	}
	if n := inUse(); n > 4 {
		t.Fatalf("%d Files are mapped, at most 4 may be", n)
	}
	var first []*File
	for _, f := range files {
		if m := f.mapping.Load(); m != nil {
			first = append(first, f)
			registry.mu.Lock()
			m.entry.since = time.Now().Add(-2 * tenure)
			registry.mu.Unlock()
		}
	}
	if len(first) == 0 {
		t.Fatal("no File is mapped")
	}
	until(t, "another File is mapped", func() bool {
		runtime.GC() // gives back addresses
		for _, f := range files {
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			if m := f.mapping.Load(); m != nil && time.Since(m.entry.since) < tenure {
				return true
			}
		}
		return false
	})
	lost := 0
	for _, f := range first {
		if f.mapping.Load() == nil {
			lost++
		}
	}
	if lost == 0 {
		t.Error("nobody made room")
	}
}

// Cutting a file costs the same however many others are mapped.
func TestCutAmongMany(t *testing.T) {
	dir := t.TempDir()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if fileIDOf(info) == (fileID{}) {
		t.Skip("files cannot be told apart here without comparing them")
	}
	noMappings(t)
	defer SetBudget(1<<16, 1<<40)()
	mapOne := func(i int) {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, []byte("something"), 0o666); err != nil {
			t.Fatal(err)
		}
		mappedFile(t, name, os.O_RDONLY)
	}
	shortest := func() (least time.Duration) {
		least = time.Hour
		for range 1000 {
			start := time.Now()
			for range 10 {
				if err := cut(5, info, func() error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			least = min(least, time.Since(start))
		}
		return least
	}
	mapOne(0)
	alone := shortest()
	const many = 400
	for i := range many {
		mapOne(i + 1)
	}
	if live, _ := Mappings(); live < many {
		t.Fatalf("%d mappings in use, want %d", live, many)
	}
	if among := shortest(); among > 5*alone {
		t.Errorf("%v with one mapped file, %v with %d", alone, among, many)
	}
}

// Several mappings of one file, and of others, come and go in any order.
func TestMappingsOfFiles(t *testing.T) {
	noMappings(t)
	names := []string{newNamedFile(t, pageSize), newNamedFile(t, pageSize)}
	files := make([]*File, 12)
	for i := range files {
		files[i] = mappedFile(t, names[i%2], os.O_RDWR)
	}
	check := func() {
		t.Helper()
		registry.mu.Lock()
		defer registry.mu.Unlock()
		n := 0
		for _, e := range registry.files {
			for before := (*entry)(nil); e != nil; before, e = e, e.next {
				if e.previous != before || e.element == nil {
					t.Fatal("the chain of a file is broken")
				}
				n++
			}
		}
		if n != registry.live.Len() {
			t.Fatalf("%d mappings of files, %d in use", n, registry.live.Len())
		}
	}
	check()
	for _, i := range []int{4, 0, 10, 3, 11, 1} { // in the middle, at the ends
		if err := files[i].Close(); err != nil {
			t.Fatal(err)
		}
		check()
	}
	if err := files[2].Truncate(10); err != nil {
		t.Fatal(err)
	}
	check()
	for _, i := range []int{2, 5, 6, 7, 8, 9} {
		if mapped := files[i].mapping.Load() != nil; mapped != (i%2 != 0) {
			t.Errorf("file %d: mapped %v after one of the first file was cut", i, mapped)
		}
		if err := files[i].Close(); err != nil {
			t.Fatal(err)
		}
		check()
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if len(registry.files) != 0 {
		t.Errorf("%d files are left in the registry", len(registry.files))
	}
}

// A mapping that the budget has no room for takes up no addresses, not even until the
// garbage collector comes: there may be none left for the Go heap.
func TestRefusedMappingIsGivenBackAtOnce(t *testing.T) {
	noMappings(t)
	defer SetBudget(2, 1<<40)() // one in use
	mappedFile(t, newNamedFile(t, 100), os.O_RDONLY)
	var mapped, given, sealed atomic.Int32
	defer Intercept(func(name string) error {
		switch name {
		case "mapFile":
			mapped.Add(1)
		case "unmap":
			given.Add(1)
		case "seal":
			sealed.Add(1)
		}
		return nil
	})()
	f, err := Open(newNamedFile(t, 100), WithMapping(MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	if f.mapping.Load() != nil || mapped.Load() != 1 {
		t.Fatalf("mapped %d times, in use %v", mapped.Load(), f.mapping.Load() != nil)
	}
	if given.Load() != 1 || sealed.Load() != 0 {
		t.Errorf("given back %d times, made inaccessible %d times", given.Load(), sealed.Load())
	}
}

// The budget of bytes is kept as well.
func TestBudgetOfBytes(t *testing.T) {
	skipWithoutMappings(t)
	page := int64(pageSize)
	noMappings(t)
	defer SetBudget(1000, 16*page)() // 8 pages in use
	big, err := Open(newNamedFile(t, int(5*page)), WithMapping(MapAlways))
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	for range 100 {
		if _, err := big.ReadAt(make([]byte, 10), 3); err != nil {
			t.Fatal(err)
		}
	}
	if big.mapping.Load() != nil {
		t.Error("a file of 5 pages is mapped where 16 is the most for all")
	}
	for range 8 {
		f, err := Open(newNamedFile(t, int(2*page)), WithMapping(MapAlways))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range 20 {
			if _, err := f.ReadAt(make([]byte, 10), 3); err != nil {
				t.Fatal(err)
			}
		}
		registry.mu.Lock()
		length := registry.length
		registry.mu.Unlock()
		if length > 8*page {
			t.Fatalf("%d bytes mapped, at most %d may be", length, 8*page)
		}
	}
}

// When the kernel refuses a mapping, half of those in use go.
func TestRelieve(t *testing.T) {
	defer KeepBudget()()
	var files []*File
	for range 6 {
		files = append(files, mappedFile(t, newNamedFile(t, 100), os.O_RDONLY))
	}
	before, _ := Mappings()
	relieve()
	after, _ := Mappings()
	if after > before-before/2 || after == 0 {
		t.Errorf("%d mappings in use, were %d", after, before)
	}
	for _, f := range files {
		if n, err := f.ReadAt(make([]byte, 50), 0); n != 50 || err != nil {
			t.Error(n, err)
		}
	}
}

// An address budget from a machine without limits leaves most to the program.
func TestSetBudget(t *testing.T) {
	defer KeepBudget()()
	setBudget()
	mappings, bytes := Budget()
	allowed, addresses := addressLimits()
	if mappings <= 0 || bytes <= 0 || mappings > allowed/4 || bytes > addresses/4 {
		t.Errorf("budget of %d mappings and %d bytes, the system has %d and %d", mappings, bytes, allowed, addresses)
	}
}

// A mapping that the collector finds unreachable leaves the registry.
func TestForgottenFileLeavesRegistry(t *testing.T) {
	skipWithoutMappings(t)
	name := newNamedFile(t, 100)
	runtime.GC()
	before, _ := Mappings()
	func() {
		for range 10 {
			f, err := Open(name, WithMapping(MapAlways))
			if err != nil {
				t.Fatal(err)
			}
			warmFile(t, f)
		}
	}()
	until(t, "the mappings of forgotten Files are gone", func() bool {
		runtime.GC()
		now, _ := Mappings()
		return now <= before
	})
}

// Whoever reads a file just when it is found to be only appended to does not have to be as
// patient as who appends.
func TestVisitWhileAppending(t *testing.T) {
	skipWithoutMappings(t)
	f, err := OpenFile(newNamedFile(t, 100), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.appended(0) {
		t.Fatal("not as if it was only appended to")
	}
	f.visit() // between appended and what remap does then
	f.cache.patience.Store(patienceWithAppends)
	for range 2 * mapAfter {
		if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
			t.Fatal(err)
		}
	}
	if f.mapping.Load() == nil {
		t.Error("not mapped")
	}
}

// Everything that was learned is forgotten once copies have been faulting.
func TestPressure(t *testing.T) {
	f := mappedFile(t, newNamedFile(t, 100), os.O_RDONLY)
	checkPressure() // what has been so far
	checkPressure()
	if !IsKnown(f, 0, 100) {
		warmFile(t, f)
	}
	registry.checking.Lock()
	registry.majorFaults.Add(-tolerableFaults)
	registry.checking.Unlock()
	if !checkPressure() && seesFaults {
		t.Error("faults were not noticed")
	}
	if IsKnown(f, 0, 1) && seesFaults {
		t.Error("still known after faults")
	}
	if n, err := f.ReadAt(make([]byte, 100), 0); n != 100 || err != nil {
		t.Error(n, err)
	}
	if !IsKnown(f, 0, 1) {
		t.Error("not learned again")
	}
}

// Reads of the true path check for faults now and then.
func TestTrueReadsCheckPressure(t *testing.T) {
	if !seesFaults {
		t.Skip("faults are not counted here")
	}
	f := mappedFile(t, newNamedFile(t, 100), os.O_RDONLY)
	calls := 0
	defer Intercept(func(name string) error {
		if name == "majorFaults" {
			calls++ // under registry.checking
		}
		return nil
	})()
	for range 3 * readsPerCheck {
		Forget(f)
		if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
			t.Fatal(err)
		}
	}
	registry.checking.Lock()
	defer registry.checking.Unlock()
	if calls < 2 {
		t.Errorf("asked %d times in %d reads", calls, 3*readsPerCheck)
	}
}

// noMappings waits until the mappings of earlier tests are gone.
func noMappings(t testing.TB) {
	t.Helper()
	until(t, "no mapping is left", func() bool {
		runtime.GC()
		_, all := Mappings()
		return all == 0
	})
}

// until waits for something to become true.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(fmt.Sprint("not within ten seconds: ", what))
		}
	}
}
