package mmapio_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namesOfCrate are the public names of the Rust crate, each of which has a row in
// MIGRATING.md.
var namesOfCrate = strings.Fields(`
	MemoryMappedFile MemoryMappedFile::builder MemoryMappedFileBuilder path mode size flush_policy touch_hint huge_pages create open
	open_or_create MemoryMappedFile::open_or_create
	TouchHint TouchHint::Never TouchHint::Eager TouchHint::Lazy MmapMode MmapMode::ReadOnly MmapMode::ReadWrite MmapMode::CopyOnWrite
	MappedSlice MappedSliceMut MmapReader Segment SegmentMut
	MmapIoError MmapIoError::Io MmapIoError::InvalidMode MmapIoError::OutOfBounds MmapIoError::FlushFailed ResizeFailed
	AdviceFailed LockFailed UnlockFailed MmapIoError::Misaligned WatchFailed
	create_mmap load_mmap write_mmap update_region flush copy_mmap delete_mmap page_size align_up ensure_in_bounds slice_range
	create_rw open_ro open_rw open_cow from_file unmap as_fd as_raw_fd as_handle as_raw_handle
	as_slice as_slice_bytes as_slice_mut as_ptr as_mut_ptr read_into read_bytes reader resize len current_len is_empty
	Segment::new SegmentMut::new Segment::as_slice SegmentMut::as_slice_mut SegmentMut::write Segment::len SegmentMut::len
	Segment::is_empty SegmentMut::is_empty Segment::offset SegmentMut::offset Segment::is_valid SegmentMut::is_valid
	Segment::parent SegmentMut::parent
	flush_range FlushPolicy FlushPolicy::Never FlushPolicy::Manual FlushPolicy::Always FlushPolicy::EveryBytes
	FlushPolicy::EveryWrites FlushPolicy::EveryMillis pending_bytes
	touch_pages touch_pages_range prefetch_range advise MmapAdvice::Normal MmapAdvice::Random MmapAdvice::Sequential
	MmapAdvice MmapAdvice::WillNeed MmapAdvice::DontNeed lock unlock lock_all unlock_all
	chunks chunks_legacy ChunkIterator pages pages_legacy PageIterator chunks_mut for_each_mut for_each_mut_legacy ChunkIteratorMut
	chunks_owned pages_owned
	atomic_u64 atomic_u32 atomic_u64_slice atomic_u32_slice AtomicView AtomicSliceView
	watch WatchHandle is_active ChangeEvent ChangeKind ChangeKind::Modified ChangeKind::Metadata ChangeKind::Removed
	create_mmap_async copy_mmap_async delete_mmap_async update_region_async flush_async flush_range_async
`)

// migratingRow is a row of MIGRATING.md.
type migratingRow struct{ names, line string }

func migratingRows(t testing.TB) (rows []migratingRow) {
	t.Helper()
	page, err := os.ReadFile("MIGRATING.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("^\\| (.*?) \\| `([^`]*)` \\|")
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| mmap-io |") {
			continue
		}
		parts := row.FindStringSubmatch(line)
		if parts == nil {
			t.Errorf("no line of Go in %q", line)
			continue
		}
		rows = append(rows, migratingRow{parts[1], strings.ReplaceAll(parts[2], `\|`, `|`)})
	}
	return rows
}

func TestMigratingNamesEverything(t *testing.T) {
	named := make(map[string]bool)
	for _, row := range migratingRows(t) {
		for i, name := range strings.Split(row.names, "`") {
			if i%2 == 1 {
				named[name] = true
			}
		}
	}
	for _, name := range namesOfCrate {
		if !named[name] {
			t.Errorf("MIGRATING.md has no row for %s", name)
		}
	}
}

// declared returns the names that a line of Go declares.
func declared(line string) (names []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+line+"\n}\n", 0)
	if err != nil {
		return nil, err
	}
	for _, statement := range file.Decls[0].(*ast.FuncDecl).Body.List {
		switch s := statement.(type) {
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				continue
			}
			for _, left := range s.Lhs {
				if name := left.(*ast.Ident).Name; name != "_" {
					names = append(names, name)
				}
			}
		case *ast.DeclStmt:
			for _, spec := range s.Decl.(*ast.GenDecl).Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names, nil
}

// The lines of MIGRATING.md compile, and do what they say without an error.
func TestMigrating(t *testing.T) {
	needStores(t)
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("no compiler here: %v", err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var program strings.Builder
	program.WriteString(migratingProgram)
	for i, row := range migratingRows(t) {
		names, err := declared(row.line)
		if err != nil {
			t.Errorf("%s: %v", row.line, err)
			continue
		}
		fmt.Fprintf(&program, "func init() {\n\trows = append(rows, row{%q, func(dir string) (failure error) {\n", row.line)
		program.WriteString(strings.ReplaceAll(migratingRowStart, "ROW", fmt.Sprint(i)))
		fmt.Fprintf(&program, "\t\t{\n\t\t\t%s\n", row.line)
		for _, name := range names {
			fmt.Fprintf(&program, "\t\t\t_ = %s\n", name)
			switch name {
			case "err":
				program.WriteString("\t\t\tfailure = err\n")
			case "f", "file":
				fmt.Fprintf(&program, "\t\t\tdefer %s.Close()\n", name)
			case "v":
				program.WriteString("\t\t\tdefer v.Release()\n")
			case "w":
				program.WriteString("\t\t\tdefer w.Close()\n")
			}
		}
		program.WriteString("\t\t}\n\t\treturn failure\n\t}})\n}\n")
	}
	dir := t.TempDir()
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	// The requirements are those of this module.
	goMod := strings.Replace(string(module), "module github.com/mmapio/mmapio", "module migrating", 1) +
		"\nrequire github.com/mmapio/mmapio v0.0.0\n\nreplace github.com/mmapio/mmapio => " + filepath.ToSlash(here) + "\n"
	for name, content := range map[string]string{"go.mod": goMod, "go.sum": string(sums), "main.go": program.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("go", "run", ".", t.TempDir())
	command.Dir = dir
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
}

const migratingProgram = `package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/extras/async"
	"github.com/mmapio/mmapio/extras/watch"
)

var (
	_ = bytes.Clone
	_ = io.EOF
	_ = time.Now
	_ unsafe.Pointer
	_ = fs.ErrExist
)

type row struct {
	line string
	run  func(dir string) error
}

var rows []row

func main() {
	failed := 0
	for _, r := range rows {
		err := r.run(os.Args[1])
		switch {
		case err == nil:
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
			fmt.Println("not to be had here:", r.line, err)
		default:
			fmt.Println("failed:", r.line, err)
			failed++
		}
	}
	fmt.Println(len(rows), "lines,", failed, "failed")
	if failed > 0 {
		os.Exit(1)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
`

const migratingRowStart = `		ctx, name, dst := context.Background(), filepath.Join(dir, "ROW"), filepath.Join(dir, "ROW copy")
		if err := os.WriteFile(name, make([]byte, 1<<16), 0o666); err != nil {
			return err
		}
		off, n, b := int64(4096), int64(8192), make([]byte, 100)
		f := must(mmapio.OpenFile(name, os.O_RDWR, 0))
		defer f.Close()
		file := must(os.OpenFile(name, os.O_RDWR, 0))
		defer file.Close()
		v := must(f.View(0, 4096))
		defer v.Release()
		_, err := os.Stat(dst)
		g := async.NewGroup(ctx)
		defer g.Close()
		_, _, _, _, _, _, _, _, _ = ctx, name, dst, off, n, b, f, file, v
		_, _ = err, g
`
