package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The Rust sides are processes of a program of their own, built by cargo from the folder
// rust. They do the workloads that Go sides do, on the same files, and tell how long they
// took, so that they take turns with the Go sides like any other.

//go:embed rust/Cargo.toml rust/Cargo.lock rust/src/*.rs
var rustSource embed.FS

// rustPrograms are the two builds of the program: the crate mmap-io notes every view when
// it is built with atomic words, which makes all of them slower, so that only the sides
// that need those have them.
var rustPrograms = [2]rustBuild{{}, {features: "atomic"}}

// rustProgram returns the path of the program, after building it if it is the first time.
// The error is the reason why there are no Rust sides.
func rustProgram(ctx context.Context, atomic bool) (string, error) {
	if atomic {
		return rustPrograms[1].get(ctx)
	}
	return rustPrograms[0].get(ctx)
}

// A rustBuild is a build of the program, made when it is asked for first.
type rustBuild struct {
	features string

	mu      sync.Mutex
	done    bool
	program string
	err     error
}

func (b *rustBuild) get(ctx context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done {
		b.program, b.err = buildRust(ctx, b.features)
		b.done = ctx.Err() == nil // one that was stopped says nothing
	}
	return b.program, b.err
}

// rustBuildTime is how long a build may take: it fetches the crates the first time.
const rustBuildTime = 10 * time.Minute

// buildRust builds the program with those features of its package.
func buildRust(ctx context.Context, features string) (program string, err error) {
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return "", errors.New("needs cargo, which builds Rust programs, in the PATH")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to build in: %w", err)
	}
	dir, err := unpackRust(filepath.Join(cache, "mmapio-bench"))
	if err != nil {
		return "", err
	}
	target := filepath.Join(dir, "target")
	if features != "" {
		target += "-" + features
	}
	ctx, cancel := context.WithTimeout(ctx, rustBuildTime)
	defer cancel()
	cmd := command(ctx, cargo, "build", "--release", "--locked", "--quiet", "--features", features, "--target-dir", target)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the Rust sides: %w: %s", err, firstOf(said))
	}
	program = filepath.Join(target, "release", "sides")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("building the Rust sides: %w", err)
	}
	return program, nil
}

// firstOf is the line that what a program said begins with.
func firstOf(said []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	return line
}

// unpackRust writes the source into a folder inside parent that is named after it, so that
// one that is there already is complete and the same, and returns that folder.
func unpackRust(parent string) (string, error) {
	source, err := fs.Sub(rustSource, "rust")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	if err := fs.WalkDir(source, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(source, path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(content), content)
		return err
	}); err != nil {
		return "", err
	}
	dir := filepath.Join(parent, "rust-"+hex.EncodeToString(hash.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(parent, "new-")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(fresh, source); err != nil {
		return "", errors.Join(err, os.RemoveAll(fresh))
	}
	if err := os.Rename(fresh, dir); err != nil {
		err = errors.Join(err, os.RemoveAll(fresh))
		if _, there := os.Stat(dir); there != nil {
			return "", err
		} // else somebody else was faster
	}
	return dir, nil
}

// rustCrate returns what tells the version of a crate, where there is cargo to build it.
func rustCrate(crate string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		_, err := exec.LookPath("cargo")
		return "the Rust crate, " + lockedVersion(crate), err
	}
}

// lockedVersion returns the version of a crate that the Rust sides are built with, or
// nothing for one that they are built without.
func lockedVersion(crate string) string {
	lock, err := rustSource.ReadFile("rust/Cargo.lock")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(lock), fmt.Sprintf("name = %q\nversion = \"", crate))
	version, _, _ := strings.Cut(rest, "\"")
	return version
}

// A rustWork is a workload of the Rust sides: see rust/src/workloads.rs.
type rustWork struct {
	name       string
	parameters map[string]any
	atomic     bool // it needs atomic words
	// between is done before every run, while the side has the file at path closed. It is nil
	// for the workloads that have it open all the time.
	between func(path string) error
}

// side returns the side of a crate that does the work on the file at the path, and with
// the size, that file returns. The result is in that file if the work writes.
func (r rustWork) side(crate string, writes bool, file func(w *workspace) (path string, size int64, err error)) side {
	return side{name: crate, optional: true, open: func(w *workspace) (*session, error) {
		program, err := rustProgram(w.ctx, r.atomic)
		if err != nil {
			return nil, err
		}
		path, size, err := file(w)
		if err != nil {
			return nil, err
		}
		parameters := maps.Clone(r.parameters)
		if parameters == nil {
			parameters = make(map[string]any)
		}
		parameters["size"] = size
		for _, length := range []string{"n", "unit"} { // as start does
			if n, ok := parameters[length].(int); ok {
				parameters[length] = min(n, int(size))
			}
		}
		p, err := startRust(w.ctx, program, crate, r.name, path, parameters)
		if err != nil {
			return nil, err
		}
		s := &session{run: p.run, took: func(int) time.Duration { return p.took }, close: p.close}
		if writes {
			s.file = path
		}
		if r.between != nil {
			s.prepare = func() error {
				if err := p.tell("shut"); err != nil {
					return err
				}
				if err := r.between(path); err != nil {
					return err
				}
				return p.tell("open")
			}
		}
		return s, nil
	}}
}

// rustPatience is how long a process may take to end when it has been told to.
const rustPatience = 10 * time.Second

// A rustProcess is a Rust side at work.
type rustProcess struct {
	cmd    *exec.Cmd
	to     io.WriteCloser
	from   *bufio.Reader
	stderr bytes.Buffer
	took   time.Duration // of the last run
}

// startRust starts a process that does a workload, and waits until it is ready.
func startRust(ctx context.Context, program, crate, workload, path string, parameters map[string]any) (*rustProcess, error) {
	args := []string{crate, workload, path}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		args = append(args, fmt.Sprintf("%s=%v", name, parameters[name]))
	}
	p := &rustProcess{cmd: command(ctx, program, args...)}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.to, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	from, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.from = bufio.NewReader(from)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.expect("ready"); err != nil {
		p.close() // its failure to start is what it has said
		return nil, err
	}
	return p, nil
}

// expect takes an answer of the process, and fails if it is another one.
func (p *rustProcess) expect(want string) error {
	line, err := p.answer()
	if err == nil && line != want {
		err = fmt.Errorf("the Rust side said %q, want %q", line, want)
	}
	return err
}

// answer returns the next line of the process, and an error if that says one.
func (p *rustProcess) answer() (string, error) {
	line, err := p.from.ReadString('\n')
	if err != nil {
		if ended := p.end(); ended != nil {
			err = ended
		}
		return "", fmt.Errorf("the Rust side has ended: %w: %s", err, firstOf(p.stderr.Bytes()))
	}
	line = strings.TrimSuffix(line, "\n")
	if reason, failed := strings.CutPrefix(line, "error "); failed {
		return "", errors.New(reason)
	}
	return line, nil
}

// order sends a command to the process.
func (p *rustProcess) order(command string) error {
	if _, err := fmt.Fprintln(p.to, command); err != nil {
		_, ended := p.answer() // it says why it does not listen
		return errors.Join(ended, err)
	}
	return nil
}

// tell has the process do something whose time does not matter.
func (p *rustProcess) tell(command string) error {
	if err := p.order(command); err != nil {
		return err
	}
	return p.expect("done")
}

func (p *rustProcess) run(n int) (uint64, error) {
	if err := p.order(fmt.Sprint("run ", n)); err != nil {
		return 0, err
	}
	line, err := p.answer()
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "ok" {
		return 0, fmt.Errorf("the Rust side said %q after a run", line)
	}
	took, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the time of the Rust side: %w", err)
	}
	p.took = time.Duration(took)
	sum, err := strconv.ParseUint(fields[2], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the checksum of the Rust side: %w", err)
	}
	return sum, nil
}

// end ends the input of the process and waits until it has ended.
func (p *rustProcess) end() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	err := p.to.Close()
	kill := time.AfterFunc(rustPatience, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	return errors.Join(err, p.cmd.Wait())
}

func (p *rustProcess) close() error {
	if err := p.end(); err != nil {
		return fmt.Errorf("%w: %s", err, firstOf(p.stderr.Bytes()))
	}
	return nil
}
