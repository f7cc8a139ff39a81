package mmapio_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A program links of other modules what the packages that it imports need, and no more. The
// tests of this package need no more than the package.
func TestLinks(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("no go here to ask: %v", err)
	}
	if _, err := os.Stat("go.mod"); err != nil {
		t.Skipf("the source is not here: %v", err)
	}
	systems := []string{"linux", "windows", "darwin"}
	if testing.Short() {
		systems = systems[:1]
	}
	const own = "github.com/mmapio/mmapio"
	for path, allowed := range map[string][]string{
		".":              {own, "golang.org/x/sys"},
		"./extras/async": {own, "golang.org/x/sys"},
		"./extras/stats": {own, "golang.org/x/sys"},
		"./extras/watch": {own, "golang.org/x/sys", "github.com/fsnotify/fsnotify"},
		"./extras":       {own, "golang.org/x/sys", "github.com/spf13/afero", "golang.org/x/text"},
		"./aferofs":      {own, "golang.org/x/sys", "github.com/spf13/afero", "golang.org/x/text"},
	} {
		for _, system := range systems {
			list := exec.Command(tool, "list", "-deps", fmt.Sprintf("-test=%v", path == "."), "-f", "{{with .Module}}{{.Path}}{{end}}", path)
			list.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
			out, err := list.Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", list, err, errorOutput(err))
			}
			modules := strings.Fields(string(out))
			if !slices.Contains(modules, own) {
				t.Fatalf("%v does not name the module itself, but %q", list, modules)
			}
			slices.Sort(modules)
			for _, module := range slices.Compact(modules) {
				if !slices.Contains(allowed, module) {
					t.Errorf("on %s, %s links %s", system, path, module)
				}
			}
		}
	}
}

// errorOutput returns what a command that failed has said.
func errorOutput(err error) string {
	if exit, ok := err.(*exec.ExitError); ok {
		return string(exit.Stderr)
	}
	return ""
}
