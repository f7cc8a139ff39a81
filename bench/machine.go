package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
)

// A machine is where a run took place, and with which packages.
type machine struct {
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryGiB  float64           `json:"memory_gib"`
	System     string            `json:"system"`
	Kernel     string            `json:"kernel"`
	FileSystem string            `json:"file_system"`
	PageSize   int               `json:"page_size"`
	Go         string            `json:"go"`
	Load       []float64         `json:"load,omitempty"` // of the last 1, 5 and 15 minutes, before the run
	Packages   map[string]string `json:"packages"`
	Programs   map[string]string `json:"programs,omitempty"` // other ones that are compared, those that are there
}

// compared are the packages whose versions matter, in the order of the sides.
var compared = []struct{ side, module string }{
	{sideMmapio, "github.com/mmapio/mmapio"},
	{sideExp, "golang.org/x/exp"},
	{sideMmapGo, "github.com/edsrzf/mmap-go"},
	{"afero", "github.com/spf13/afero"},
}

// programs are those that are compared where they are installed, and what tells their version.
var programs = []struct {
	name    string
	version func(ctx context.Context) (string, error)
}{
	{"fio", func(ctx context.Context) (string, error) {
		return firstLine(exec.CommandContext(ctx, "fio", "--version"))
	}},
	{sideCrate, rustCrate(sideCrate)},
	{sideMemmap2, rustCrate(sideMemmap2)},
}

func firstLine(command *exec.Cmd) (string, error) {
	text, err := command.Output()
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line), err
}

// describeMachine tells what it can find out; dir is the folder of the test files.
func describeMachine(ctx context.Context, dir string) machine {
	const unknown = "unknown"
	m := machine{
		CPU: unknown, Cores: runtime.GOMAXPROCS(0), System: runtime.GOOS + "/" + runtime.GOARCH,
		Kernel: unknown, FileSystem: unknown, PageSize: os.Getpagesize(), Go: runtime.Version(),
		Packages: make(map[string]string), Programs: make(map[string]string),
	}
	if infos, err := cpu.InfoWithContext(ctx); err == nil && len(infos) > 0 {
		m.CPU = infos[0].ModelName
	}
	if memory, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		m.MemoryGiB = float64(memory.Total) / (1 << 30)
	}
	if kernel, err := host.KernelVersionWithContext(ctx); err == nil {
		m.Kernel = kernel
	}
	if average, err := load.AvgWithContext(ctx); err == nil {
		m.Load = []float64{average.Load1, average.Load5, average.Load15}
	}
	if name := fileSystem(ctx, dir); name != "" {
		m.FileSystem = name
	}
	for _, c := range compared {
		m.Packages[c.module] = unknown
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range build.Deps {
			if _, ok := m.Packages[dep.Path]; ok {
				m.Packages[dep.Path] = dep.Version
			}
		}
	}
	for _, p := range programs {
		if version, err := p.version(ctx); err == nil {
			m.Programs[p.name] = version
		}
	}
	return m
}

// fileSystem returns the type of the file system that dir is on, or nothing. The
// list of mounts knows ext4 from ext2, which the file system's own number does not.
func fileSystem(ctx context.Context, dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	mounts, err := disk.PartitionsWithContext(ctx, true)
	if err != nil {
		return ""
	}
	var found disk.PartitionStat
	for _, m := range mounts {
		inside, err := filepath.Rel(m.Mountpoint, dir)
		if err == nil && filepath.IsLocal(inside) && len(m.Mountpoint) >= len(found.Mountpoint) {
			found = m
		}
	}
	return found.Fstype
}

// String is the header of the table.
func (m machine) String() string {
	var b strings.Builder
	for _, line := range m.lines() {
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// lines are those of the header.
func (m machine) lines() []string {
	first := fmt.Sprintf("%s, %d cores, %.0f GiB; %s, kernel %s; %s; %s", m.CPU, m.Cores, m.MemoryGiB, m.System, m.Kernel, m.FileSystem, m.Go)
	if len(m.Load) > 0 {
		first += fmt.Sprintf("; load %.2f", m.Load[0])
	}
	all := []string{first}
	for _, c := range compared {
		all = append(all, fmt.Sprintf("%s is %s %s", c.side, c.module, m.Packages[c.module]))
	}
	for _, p := range programs {
		if version, ok := m.Programs[p.name]; ok {
			all = append(all, fmt.Sprintf("%s is %s", p.name, version))
		}
	}
	return all
}
