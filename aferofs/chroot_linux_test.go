package aferofs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/afero"
)

const chrootVariable = "MMAPIO_TEST_CHROOT"

// chrootNames are names that mean the same in a folder that is the root of a process.
func chrootNames() []string {
	var absolute []string
	for _, name := range names {
		if name != "" {
			absolute = append(absolute, "/"+name)
		}
	}
	return append(absolute, "/", "//", "//file", "//dir", "//dirlink", "//empty")
}

// Every method of NewRooted with every kind of absolute name does what OsFs does in a
// process that has the folder for its root.
func TestRootedEqualsOsFsUnderChroot(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := memoryDir(t)
	mark := filepath.Join(dir, ".mark-of-the-test")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, ".mark-results")
	command := exec.Command(executable, "-test.run=^TestChrootProcess$", "-test.count=1")
	command.Env = append(os.Environ(), chrootVariable+"="+dir)
	output, err := command.CombinedOutput()
	text, readErr := os.ReadFile(out)
	if err != nil || readErr != nil {
		if strings.Contains(string(output), "cannot change the root") {
			t.Skipf("%s", output)
		}
		t.Fatalf("%v, %v\n%s", err, readErr, output)
	}
	var want map[string]string
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	dir = memoryDir(t)
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(mark)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := results(rooted(t, dir), dir, "", true, chrootNames())
	if err != nil {
		t.Fatal(err)
	}
	compare(t, want, got, func(call, want, got string) bool { return documented(call, want, got) || ofTheFolder(call, want, got) })
}

// ofTheFolder reports whether a call is about the folder itself, where results may differ.
func ofTheFolder(call, want, got string) bool {
	method, name := call[:strings.Index(call, " \"")], call[strings.Index(call, " \"")+2:len(call)-1]
	if strings.Trim(name, "/.") != "" {
		return false
	}
	switch {
	case method == "Stat" || method == "Lstat":
		return strings.Replace(want, "/ ", ". ", 1) == got
	case strings.HasPrefix(method, "Open"):
		return strings.ReplaceAll(want, ", / d", ", . d") == got
	case strings.HasPrefix(method, "Rename"):
		return strings.HasPrefix(want, "*LinkError{rename ") && strings.HasPrefix(got, "*LinkError{rename ")
	case method == "Remove":
		return strings.HasPrefix(want, "*PathError{remove ") && strings.HasPrefix(got, "*PathError{remove ")
	}
	return false
}

// TestChrootProcess is the process that has the folder for its root. It does nothing in a
// normal run.
func TestChrootProcess(t *testing.T) {
	dir := os.Getenv(chrootVariable)
	if dir == "" {
		t.Skip("this is the body of a helper process")
	}
	if err := syscall.Chroot(dir); err != nil {
		t.Fatalf("cannot change the root: %v", err)
	}
	if err := os.Chdir("/"); err != nil {
		t.Fatal(err)
	}
	// What follows removes files from the root.
	if _, err := os.Stat("/.mark-of-the-test"); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir("/"); err != nil || len(entries) != 1 {
		t.Fatalf("this is not the folder of the test: %v, %v", entries, err)
	}
	all, err := results(afero.NewOsFs(), "/", "", true, chrootNames())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/.mark-results", text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The links of /proc do not lead where they say: they jump. None is followed.
func TestRootedMagicLinks(t *testing.T) {
	if _, err := os.Lstat("/proc/self/root"); err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	outside, err := os.CreateTemp(t.TempDir(), "outside")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if _, err := outside.WriteString("secret"); err != nil {
		t.Fatal(err)
	}
	s := rooted(t, "/proc")
	if content, err := afero.ReadFile(s, "self/comm"); err != nil || len(content) == 0 {
		t.Fatalf("self/comm: %q, %v", content, err)
	}
	descriptor := fmt.Sprintf("self/fd/%d", outside.Fd())
	const root = "self/root"
	for _, name := range []string{
		root + outside.Name(), "self/cwd/..", root, root + "/", root + "/.", "self/cwd", "self/cwd/", "self/exe", descriptor, descriptor + "/", "thread-" + root + "/etc", "1/root",
	} {
		for _, flag := range []int{os.O_RDONLY, os.O_RDWR, os.O_RDONLY | syscall.O_DIRECTORY, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_TRUNC} {
			if f, err := s.OpenFile(name, flag, 0o600); err == nil {
				t.Errorf("%s opens with flag %#x as %s", name, flag, f.Name())
				f.Close()
			}
		}
		if info, err := s.Stat(name); err == nil {
			t.Errorf("Stat(%s): %v", name, info)
		}
		if err := s.Chmod(name, 0o777); err == nil {
			t.Errorf("Chmod(%s) succeeds", name)
		}
	}
	if content, err := os.ReadFile(outside.Name()); string(content) != "secret" || err != nil {
		t.Errorf("outside: %q, %v", content, err)
	}
}
