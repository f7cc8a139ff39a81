package aferofs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzRooted calls a rooted file system with any name: nothing beside its folder is seen or
// changed, and no result shows where it is.
func FuzzRooted(f *testing.F) {
	for i, name := range names {
		f.Add(uint8(i), name)
	}
	for i, name := range []string{"../secret", "/../secret", "dir/../../secret", "out", "out/secret", "a\x00b", "//", "..", "../..", "dir/out"} {
		f.Add(uint8(i), name)
	}
	withLinks := canLink(f)
	f.Fuzz(func(t *testing.T, which uint8, name string) {
		call := calls[int(which)%len(calls)]
		if call.name == "RemoveAll" || len(name) > 500 {
			t.Skip("what would be lost if this failed is too much")
		}
		base := memoryDir(t)
		dir := filepath.Join(base, "inside")
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := grow(dir, withLinks); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, "secret"), []byte("nobody may read this"), 0o644); err != nil {
			t.Fatal(err)
		}
		if withLinks {
			if err := os.Symlink("..", filepath.Join(dir, "out")); err != nil {
				t.Fatal(err)
			}
		}
		beside := func() string {
			entries, err := os.ReadDir(base)
			if err != nil {
				t.Fatal(err)
			}
			var all strings.Builder
			for _, entry := range entries {
				all.WriteString(entry.Name() + "\n")
			}
			info, err := os.Stat(filepath.Join(base, "secret"))
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(filepath.Join(base, "secret"))
			if err != nil {
				t.Fatal(err)
			}
			return all.String() + info.Mode().String() + info.ModTime().String() + string(content)
		}
		before := beside()
		result := call.do(rooted(t, dir), name, "")
		if after := beside(); after != before {
			t.Errorf("%s %q changed what is beside the folder:\n%s\nwas\n%s", call.name, name, after, before)
		}
		if strings.Contains(result, "nobody may read this") || strings.Contains(result, base) && !strings.Contains(name, base) {
			t.Errorf("%s %q shows what is not inside: %s", call.name, name, result)
		}
	})
}
