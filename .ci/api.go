// Command api prints what the packages of this module export, a line a name, sorted. It is
// checked in as .ci/api.txt; .ci/run compares. After a change that is meant:
//
//	go run .ci/api.go >.ci/api.txt
//
// What is not there on each of the systems it looks at says where it is.
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

var systems = []string{"linux", "windows", "darwin"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run() error {
	where := make(map[string][]string)
	for _, system := range systems {
		lines, err := exported(system)
		if err != nil {
			return fmt.Errorf("%s: %w", system, err)
		}
		for _, line := range lines {
			where[line] = append(where[line], system)
		}
	}
	for _, line := range slices.SortedFunc(maps.Keys(where), order) {
		if len(where[line]) != len(systems) {
			line += " // " + strings.Join(where[line], ", ")
		}
		fmt.Println(line)
	}
	return nil
}

// order puts the lines of a package together, and those of a type.
func order(a, b string) int {
	key := func(line string) string {
		words := strings.NewReplacer(" (*", " ", " (", " ", ".", " ", "(", " ").Replace(line)
		fields := strings.Fields(words)
		return fields[0] + " " + fields[2]
	}
	return cmp.Or(cmp.Compare(key(a), key(b)), cmp.Compare(a, b))
}

func goList(system string, arguments ...string) ([]string, error) {
	list := exec.Command("go", append([]string{"list"}, arguments...)...)
	list.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	return strings.Split(strings.TrimSpace(string(out)), "\n"), err
}

// exported returns a line for each exported name.
func exported(system string) (lines []string, err error) {
	packages, err := goList(system, "-f", `{{if ne .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	if err != nil {
		return nil, err
	}
	compiled, err := goList(system, "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "./...")
	if err != nil {
		return nil, err
	}
	files := make(map[string]string)
	for _, line := range compiled {
		path, file, _ := strings.Cut(line, " ")
		files[path] = file
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
	for _, path := range packages {
		if path == "" {
			continue
		}
		p, err := from.Import(path)
		if err != nil {
			return nil, err
		}
		for _, name := range p.Scope().Names() {
			if object := p.Scope().Lookup(name); object.Exported() {
				for _, line := range describe(object, p) {
					lines = append(lines, strings.TrimPrefix(path, "github.com/mmapio/")+": "+line)
				}
			}
		}
	}
	return lines, nil
}

func describe(object types.Object, p *types.Package) (lines []string) {
	qualifier := func(other *types.Package) string {
		if other == p {
			return ""
		}
		return other.Name()
	}
	text := func(t types.Type) string { return types.TypeString(t, qualifier) }
	switch o := object.(type) {
	case *types.Const:
		return []string{fmt.Sprintf("const %s %s = %s", o.Name(), text(o.Type()), o.Val().ExactString())}
	case *types.Var:
		return []string{fmt.Sprintf("var %s %s", o.Name(), text(o.Type()))}
	case *types.Func:
		return []string{"func " + o.Name() + strings.TrimPrefix(text(o.Type()), "func")}
	}
	declared := object.(*types.TypeName)
	if declared.IsAlias() {
		return []string{fmt.Sprintf("type %s = %s", declared.Name(), text(types.Unalias(declared.Type())))}
	}
	head := "type " + declared.Name()
	named, ok := declared.Type().(*types.Named)
	if ok && named.TypeParams().Len() > 0 {
		var b bytes.Buffer
		types.WriteType(&b, named, qualifier)
		head = "type " + b.String()
	}
	switch underlying := declared.Type().Underlying().(type) {
	case *types.Struct:
		lines = append(lines, head+" struct")
		for field := range underlying.Fields() {
			if field.Exported() {
				lines = append(lines, fmt.Sprintf("field %s.%s %s", declared.Name(), field.Name(), text(field.Type())))
			}
		}
	case *types.Interface:
		lines = append(lines, head+" interface")
		for method := range underlying.Methods() {
			if method.Exported() {
				lines = append(lines, fmt.Sprintf("abstract %s.%s%s", declared.Name(), method.Name(), strings.TrimPrefix(text(method.Type()), "func")))
			} else {
				lines = append(lines, fmt.Sprintf("abstract %s has methods that are not exported", declared.Name()))
			}
		}
		return lines
	default:
		lines = append(lines, head+" "+text(underlying))
	}
	ofValue := types.NewMethodSet(declared.Type())
	for method := range types.NewMethodSet(types.NewPointer(declared.Type())).Methods() {
		if !method.Obj().Exported() {
			continue
		}
		receiver := "*" + declared.Name()
		if ofValue.Lookup(p, method.Obj().Name()) != nil {
			receiver = declared.Name()
		}
		lines = append(lines, fmt.Sprintf("method (%s) %s%s", receiver, method.Obj().Name(), strings.TrimPrefix(text(method.Type()), "func")))
	}
	return lines
}
