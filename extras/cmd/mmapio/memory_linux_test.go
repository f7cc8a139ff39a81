package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// residentPages asks mincore how many pages of a file are in memory.
func residentPages(t *testing.T, path string) int64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() == 0 {
		return 0
	}
	data, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	states := make([]byte, (len(data)-1)/os.Getpagesize()+1)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&states[0]))); errno != 0 {
		t.Fatal(errno)
	}
	var pages int64
	for _, state := range states {
		pages += int64(state & 1)
	}
	return pages
}

// evictRange takes a part of a file out of memory by the kernel's own means.
func evictRange(t *testing.T, path string, off, n int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(file.Fd()), off, n, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// needResidency skips where nobody knows what is in memory, or it cannot be let go.
func needResidency(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "probe")
	write(t, path, make([]byte, 1<<20))
	defer os.Remove(path)
	file, err := mmapio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Resident(0, 1); err != nil {
		t.Skip(err)
	}
	evictRange(t, path, 0, 0)
	if n := residentPages(t, path); n != 0 {
		t.Skipf("%d pages of a file stay in memory here", n)
	}
}

// memoryFiles makes files of many kinds and returns their names.
func memoryFiles(t *testing.T) []string {
	t.Helper()
	folder := t.TempDir()
	needResidency(t, folder)
	var names []string
	file := func(name string, size int) string {
		path := filepath.Join(folder, name)
		write(t, path, random(size))
		names = append(names, path)
		return path
	}
	file("empty", 0)
	file("byte", 1)
	file("odd", 5000)
	file("page", os.Getpagesize())
	file("warm", 9<<20)
	evictRange(t, file("cold", 3<<20+11), 0, 0)
	evictRange(t, file("half", 16<<20+77), 8<<20, 0)
	evictRange(t, file("holes", 700_000), 100_000, 400_000)
	sparse := file("sparse", 100)
	if err := os.Truncate(sparse, 4<<30); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(sparse, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(random(100_000), 3<<30); err != nil {
		t.Fatal(err)
	}
	return names
}

// output runs another program, or skips if it is not installed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// steadily returns what ours returns, and what theirs returns before and after it. Memory can
// become short at any time, so it tries again until theirs has not changed.
func steadily[T any](t *testing.T, theirs func() string, ours func() T) (string, T) {
	t.Helper()
	for range 20 {
		before := theirs()
		result := ours()
		if theirs() == before {
			return before, result
		}
	}
	t.Skip("what is in memory changes all the time here")
	panic("not reached")
}

// TestStatAgainstFincore compares with fincore of util-linux.
func TestStatAgainstFincore(t *testing.T) {
	names := memoryFiles(t)
	theirs, ours := steadily(t,
		func() string {
			return output(t, "fincore", append([]string{"-b", "-n", "-r", "-o", "RES,PAGES,SIZE,FILE"}, names...)...)
		},
		func() []map[string]any {
			return parseLines(t, succeed(t, append([]string{"stat", "-json"}, names...)...))
		})
	lines := strings.Split(strings.TrimSpace(theirs), "\n")
	if len(lines) != len(names) || len(ours) != len(names) {
		t.Fatalf("%d lines of fincore and %d of ours for %d files", len(lines), len(ours), len(names))
	}
	known := 0
	for i, line := range lines {
		fields := strings.Fields(line)
		var numbers [3]int
		for j := range numbers {
			n, err := strconv.Atoi(fields[j])
			if err != nil {
				t.Fatalf("fincore prints %q", line)
			}
			numbers[j] = n
		}
		wantFields(t, ours[i], map[string]any{"name": fields[3], "resident_pages": numbers[1], "size_bytes": numbers[2]})
		pageSize := ours[i]["page_size_bytes"].(float64)
		resident := ours[i]["resident_bytes"].(float64)
		if over := float64(numbers[0]) - resident; over < 0 || over >= pageSize {
			t.Errorf("%s: %v bytes in memory, fincore says %d", fields[3], resident, numbers[0])
		}
		known += numbers[1]
	}
	if known == 0 {
		t.Error("fincore finds nothing in memory")
	}
}

// TestStatAgainstVmtouch compares the pictures, and the pages, with those of vmtouch.
func TestStatAgainstVmtouch(t *testing.T) {
	for _, name := range memoryFiles(t) {
		if filepath.Base(name) == "empty" {
			continue // vmtouch shows nothing
		}
		theirs, ours := steadily(t,
			func() string {
				text, _, _ := strings.Cut(output(t, "vmtouch", "-v", name), "Files:") // then come times
				return text
			},
			func() []map[string]any { return parseLines(t, succeed(t, "stat", "-json", name)) })
		_, after, _ := strings.Cut(theirs[strings.LastIndex(theirs, "[")-1:], "[") // it draws over its own lines
		picture, after, ok := strings.Cut(after, "] ")
		counts, _, _ := strings.Cut(after, "\n")
		in, all, _ := strings.Cut(strings.TrimSpace(counts), "/")
		pages, err := strconv.Atoi(all)
		resident, err2 := strconv.Atoi(in)
		if !ok || err != nil || err2 != nil {
			t.Fatalf("vmtouch prints %q", theirs)
		}
		wantFields(t, ours[0], map[string]any{"picture": picture, "pages": pages, "resident_pages": resident})
	}
}

// TestStatOfHugeFile looks at a file with more pages than could be asked about one by one.
func TestStatOfHugeFile(t *testing.T) {
	const folder = "/dev/shm"
	var stat unix.Statfs_t
	if err := unix.Statfs(folder, &stat); err != nil || stat.Type != unix.TMPFS_MAGIC {
		t.Skipf("no tmpfs on %s: %v", folder, err)
	}
	temp, err := os.MkdirTemp(folder, "mmapio-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(temp)
	path := filepath.Join(temp, "file")
	const size, at = int64(1) << 55, int64(1) << 54
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Skip(err)
	}
	if _, err := file.WriteAt([]byte("text"), at); err != nil {
		t.Fatal(err)
	}
	f, err := mmapio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, ok := cached(f, 0, 1); !ok {
		t.Skip("this kernel does not count pages (cachestat, Linux 6.5)")
	}
	page := os.Getpagesize()
	got := parseLines(t, succeed(t, "stat", "-json", path))[0]
	wantFields(t, got, map[string]any{"size_bytes": size, "resident_pages": 1, "resident_bytes": page, "allocated_bytes": page})
	got = parseLines(t, succeed(t, "warm", "-json", path))[0]
	wantFields(t, got, map[string]any{"resident_before_bytes": page, "resident_after_bytes": page})
	got = parseLines(t, succeed(t, "evict", "-json", path))[0]
	wantFields(t, got, map[string]any{"resident_after_bytes": page, "stays": "stays: the file has no other place than memory"})
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := allocated(info); n != int64(page) {
		t.Errorf("%d bytes were allocated by looking", n)
	}
	b := inBackground(t, "lock", "-json", path)
	wantFields(t, b.object(), map[string]any{"size_bytes": size, "locked_bytes": page})
	wantFields(t, b.object(), map[string]any{"state": "held", "locked_bytes": page})
	b.end(0)
}

// TestStatMapped has this process map a part of a file.
func TestStatMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, random(1<<20))
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	wantFields(t, parseLines(t, succeed(t, "stat", "-json", path))[0], map[string]any{"mapped_bytes": 0, "mapping_processes": 0})
	page := os.Getpagesize()
	for _, part := range [][2]int{{0, 8}, {4, 8}, {20, 1}} { // the first two overlap
		data, err := unix.Mmap(int(file.Fd()), int64(part[0]*page), part[1]*page, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(data)
	}
	wantFields(t, parseLines(t, succeed(t, "stat", "-json", path))[0], map[string]any{"mapped_bytes": 13 * page, "mapping_processes": 1})
}

// asNobody has cmd run as a user who owns nothing. What it runs is copied to where that user
// can get at it.
func asNobody(t *testing.T, cmd *exec.Cmd, folder string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	for dir := folder; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			t.Skipf("others cannot get at %s", dir)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	binary, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(folder, "tool")
	if err := os.WriteFile(tool, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Dir = tool, folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
}

// openFolder returns a folder that others can get at.
func openFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, dir := range []string{folder, filepath.Dir(folder)} { // this test's own
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// TestStatHidden looks at a file of somebody else, of which the kernel says that all is in memory.
func TestStatHidden(t *testing.T) {
	folder := openFolder(t)
	path := filepath.Join(folder, "file")
	write(t, path, random(1<<20))
	evictRange(t, path, 0, 0)
	for _, asJSON := range []bool{true, false} {
		cmd := toolCommand(t, folder, "stat", path)
		if asJSON {
			cmd = toolCommand(t, folder, "stat", "-json", path)
		}
		asNobody(t, cmd, folder)
		r := finish(t, cmd)
		if r.status != 0 || r.stderr != "" {
			t.Fatalf("status %d, standard error %q", r.status, r.stderr)
		}
		if !asJSON {
			if !strings.Contains(r.stdout, "\n- : what of a file is in memory is told to its owner") || strings.Contains(r.stdout, "100%") {
				t.Errorf("prints\n%s", r.stdout)
			}
			continue
		}
		object := parseObject(t, r.stdout)
		wantFields(t, object, map[string]any{"size_bytes": 1 << 20, "resident_bytes": nil, "resident_pages": nil, "huge_bytes": nil})
		if text := fmt.Sprint(object["unknown"]); !strings.Contains(text, "owner") {
			t.Errorf("the reason is %q", text)
		}
	}
}

// TestStatHugePages looks at a file of huge pages on tmpfs.
func TestStatHugePages(t *testing.T) {
	size := hugePageSize()
	if size == 0 {
		t.Skip("no huge pages here")
	}
	folder := t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "huge=always,size=64m"); err != nil {
		t.Skipf("no tmpfs with huge pages: %v", err)
	}
	defer func() {
		if err := unix.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	}()
	path := filepath.Join(folder, "file")
	write(t, path, random(int(3*size+size/2)))
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	// The kernel's own word: what a mapping at a multiple of the huge page has.
	reserved, err := unix.Mmap(-1, 0, int(5*size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(reserved)
	start := uintptr(unsafe.Pointer(&reserved[0]))
	at := unsafe.Pointer(&reserved[(uintptr(size)-start%uintptr(size))%uintptr(size)])
	if _, err := unix.MmapPtr(int(file.Fd()), 0, at, uintptr(3*size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_POPULATE); err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, entry, _ := strings.Cut(string(smaps), fmt.Sprintf("\n%x-", uintptr(at)))
	_, entry, found := strings.Cut(entry, "ShmemPmdMapped:")
	if !found {
		t.Skip("the kernel does not tell what is huge")
	}
	kib, err := strconv.ParseInt(strings.Fields(entry)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if kib == 0 {
		t.Skip("no huge page could be had")
	}
	wantFields(t, parseLines(t, succeed(t, "stat", "-json", path))[0],
		map[string]any{"huge_bytes": kib << 10, "resident_bytes": 3*size + size/2, "mapped_bytes": 3 * size})
}

// TestWarmAndEvict looks with mincore whether files are in memory then.
func TestWarmAndEvict(t *testing.T) {
	names := memoryFiles(t)
	write(t, filepath.Join(filepath.Dir(names[0]), "dirty"), random(1<<20)) // not on the disk yet
	names = append(names, filepath.Join(filepath.Dir(names[0]), "dirty"))
	for range 2 {
		for _, object := range parseLines(t, succeed(t, append([]string{"evict", "-json"}, names...)...)) {
			name := object["name"].(string)
			wantFields(t, object, map[string]any{"resident_after_bytes": 0})
			if n := residentPages(t, name); n != 0 {
				t.Errorf("%s has %d pages in memory", name, n)
			}
		}
		objects := parseLines(t, succeed(t, append([]string{"warm", "-json"}, names...)...))
		if !slices.Equal(namesOf(objects), names) {
			t.Errorf("warms %q, want %q", namesOf(objects), names)
		}
		for _, object := range objects {
			name := object["name"].(string)
			size := int64(object["size_bytes"].(float64))
			wantFields(t, object, map[string]any{"resident_before_bytes": 0})
			pages := residentPages(t, name)
			if filepath.Base(name) == "sparse" { // the holes stay out
				if pages < 100_000/int64(os.Getpagesize()) || pages > (16<<20)/int64(os.Getpagesize()) {
					t.Errorf("%s has %d pages in memory", name, pages)
				}
				continue
			}
			wantFields(t, object, map[string]any{"resident_after_bytes": size})
			if want := (size + int64(os.Getpagesize()) - 1) / int64(os.Getpagesize()); pages != want {
				t.Errorf("%s has %d pages in memory, want %d", name, pages, want)
			}
		}
	}
}

// TestEvictTellsWhatStays evicts a file that this process has mapped.
func TestEvictTellsWhatStays(t *testing.T) {
	folder := t.TempDir()
	needResidency(t, folder)
	path := filepath.Join(folder, "file")
	write(t, path, random(1<<20))
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := unix.Mmap(int(file.Fd()), 0, 1<<19, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	object := parseLines(t, succeed(t, "evict", "-json", path))[0]
	stay := residentPages(t, path) * int64(os.Getpagesize()) // more than what is mapped, if pages are large
	wantFields(t, object, map[string]any{"resident_before_bytes": 1 << 20, "resident_after_bytes": stay, "stays": "stays: mapped, locked or in use by others"})
	if stay < 1<<19 {
		t.Errorf("%d bytes stay, but %d are mapped", stay, 1<<19)
	}
	if text := succeed(t, "evict", path); !strings.Contains(text, "  "+path+"\n          stays: mapped") {
		t.Errorf("prints\n%s", text)
	}
}

// lockedBytes returns what the kernel says a process has locked.
func lockedBytes(t *testing.T, process int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmLck:")
	kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func TestLockHolds(t *testing.T) {
	folder := t.TempDir()
	needResidency(t, folder)
	large, small := filepath.Join(folder, "large"), filepath.Join(folder, "small")
	missing := filepath.Join(folder, "missing")
	const size = 1 << 20
	write(t, large, random(size))
	write(t, small, random(10))
	evictRange(t, large, 0, 0)
	b := inBackground(t, "lock", "-json", missing, large, small)
	wantFields(t, b.object(), map[string]any{"name": large, "size_bytes": size, "locked_bytes": size})
	wantFields(t, b.object(), map[string]any{"name": small, "size_bytes": 10, "locked_bytes": 10})
	wantFields(t, b.object(), map[string]any{"state": "held", "files": 2, "locked_bytes": size + 10})
	page := int64(os.Getpagesize())
	if got := lockedBytes(t, b.cmd.Process.Pid); got != size+page {
		t.Errorf("the kernel says that %d bytes are locked, want %d", got, size+page)
	}
	evictRange(t, large, 0, 0)
	if got := residentPages(t, large); got != size/page {
		t.Errorf("%d pages of a locked file are in memory, want %d", got, size/page)
	}
	rest, stderr := b.end(exitError) // because of the missing one
	if rest != "" {
		t.Errorf("prints %q", rest)
	}
	wantLine(t, stderr, missing)
	evictRange(t, large, 0, 0)
	if got := residentPages(t, large); got != 0 {
		t.Errorf("%d pages stay when the tool has ended", got)
	}

	b = inBackground(t, "lock", large)
	if header, row, held := b.line(), b.line(), b.line(); header != "     SIZE    LOCKED  NAME" || row != "    1 MiB     1 MiB  "+large || held != "1 MiB of 1 file held in memory until interrupted" {
		t.Errorf("prints\n%s\n%s\n%s", header, row, held)
	}
	b.end(0)
}

// TestLockBeyondLimit has more to lock than the process may. Root may lock anything.
func TestLockBeyondLimit(t *testing.T) {
	folder := openFolder(t)
	path, small := filepath.Join(folder, "file"), filepath.Join(folder, "small")
	write(t, path, random(1<<20))
	write(t, small, random(10))
	cmd := toolCommand(t, folder, "lock", path, small)
	asNobody(t, cmd, folder)
	underLimit(t, cmd, "ulimit -l 64")
	b := startBackground(t, cmd)
	for range 2 {
		b.line()
	}
	if held := b.line(); held != "10 B of 1 file held in memory until interrupted" {
		t.Errorf("prints %q", held)
	}
	_, stderr := b.end(exitError)
	wantLine(t, stderr, path, "RLIMIT_MEMLOCK", "64 KiB", "1 MiB are needed", "ulimit -l 1024")
}

// TestLockMoreThanMemory is refused before the machine has no memory left.
func TestLockMoreThanMemory(t *testing.T) {
	memory, ok := totalMemory()
	if !ok {
		t.Fatal("nobody knows how much memory there is")
	}
	path := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f, err := mmapio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := file.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	_, views, err := lockFile(newBatch(t.Context(), "lock"), f, path, memory-1000)
	release(views)
	if err == nil || !strings.Contains(err.Error(), "more than the memory of the machine") {
		t.Errorf("got %v", err)
	}
}

// underLimit has a shell set a limit before it becomes cmd.
func underLimit(t *testing.T, cmd *exec.Cmd, limit string) {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	cmd.Args = slices.Concat([]string{shell, "-c", limit + ` && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:])
	cmd.Path = shell
}

// TestManyFiles goes through more files than there are descriptors.
func TestManyFiles(t *testing.T) {
	folder := t.TempDir()
	const files = 1500
	for i := range files {
		dir := filepath.Join(folder, strconv.Itoa(i%7))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, strconv.Itoa(i)), []byte("text"))
	}
	for _, command := range []string{"stat", "warm", "evict"} {
		cmd := toolCommand(t, t.TempDir(), command, "-json", folder)
		underLimit(t, cmd, "ulimit -n 40")
		r := finish(t, cmd)
		if objects := parseLines(t, r.stdout); r.status != 0 || r.stderr != "" || len(objects) != files {
			t.Errorf("%s: status %d, %d files, standard error %.200q", command, r.status, len(objects), r.stderr)
		}
	}
	cmd := toolCommand(t, t.TempDir(), "lock", "-json", folder)
	underLimit(t, cmd, "ulimit -n 40")
	b := startBackground(t, cmd)
	for range files {
		wantFields(t, b.object(), map[string]any{"size_bytes": 4, "locked_bytes": 4})
	}
	wantFields(t, b.object(), map[string]any{"state": "held", "files": files})
	b.end(0)
}

// TestSpecialFiles skips what is no file in a folder, and refuses it when it is named.
func TestSpecialFiles(t *testing.T) {
	folder, names := makeTree(t)
	pipe := filepath.Join(folder, "sub", "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	for _, command := range []string{"stat", "warm", "evict"} {
		r := tool(t, command, "-json", folder)
		wantFailure(t, r, 0, "skip", pipe, "is a named pipe")
		if got := namesOf(parseLines(t, r.stdout)); !slices.Equal(got, names) {
			t.Errorf("%s does %q, want %q", command, got, names)
		}
		wantFailure(t, tool(t, command, pipe), exitError, pipe, "is a named pipe")
		wantFailure(t, tool(t, command, os.DevNull), exitError, os.DevNull, "is a device")
	}
	wantFailure(t, tool(t, "lock", pipe), exitError, pipe, "is a named pipe")
	wantFailure(t, tool(t, "watch", pipe), exitError, pipe, "is a named pipe")

	b, url := serve(t, folder)
	if status, _ := get(t, url+"sub/pipe", ""); status != 403 {
		t.Errorf("asking for a pipe gets status %d", status)
	}
	b.end(0)
}

// TestHardLinks counts a file with two names once in a folder.
func TestHardLinks(t *testing.T) {
	folder, names := makeTree(t)
	other := filepath.Join(folder, "z")
	if err := os.Link(names[1], other); err != nil {
		t.Skip(err)
	}
	if got := namesOf(parseLines(t, succeed(t, "stat", "-json", folder))); !slices.Equal(got, names) {
		t.Errorf("found %q, want %q", got, names)
	}
	want := []string{other, names[0], names[2], names[3]}
	if got := namesOf(parseLines(t, succeed(t, "stat", "-json", other, folder, names[0], folder))); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestWatchSeesMappedStores has this process store into a mapping.
func TestWatchSeesMappedStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, make([]byte, 1<<20))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := unix.Mmap(int(file.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	b := inBackground(t, "watch", "-json", "-block", "512", "-interval", "50ms", path)
	wantFields(t, b.object(), map[string]any{"kind": "watching"})
	data[512*1001] = 'x'
	b.await(map[string]any{"kind": "modified", "offset_bytes": 512 * 1001, "length_bytes": 512})
	b.end(0)
}

// TestResultsCannotBePrinted ends at the first line that cannot be printed.
func TestResultsCannotBePrinted(t *testing.T) {
	folder, _ := makeTree(t)
	cmd := toolCommand(t, t.TempDir(), "stat", folder)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) {
		t.Fatalf("%v", err)
	}
	wantFailure(t, result{"", stderr.String(), exit.ExitCode()}, exitError, "cannot print the results", unix.ENOSPC.Error())
}

func TestMemoryProgressOnTerminal(t *testing.T) {
	folder, names := makeTree(t) // one file alone is done before there is a bar
	for _, command := range []string{"stat", "warm", "evict"} {
		seen, stdout := onTerminal(t, command, folder)
		if !strings.Contains(seen, "%") || !strings.HasSuffix(seen, clearLine) {
			t.Errorf("%s shows %q, want a bar that is taken away", command, seen)
		}
		if !strings.Contains(stdout, names[3]) {
			t.Errorf("%s prints %q", command, stdout)
		}
	}
}
