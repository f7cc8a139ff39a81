package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
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
	Packages   map[string]string `json:"packages"`
}

// compared are the packages whose versions matter, in the order of the sides.
var compared = []struct{ side, module string }{
	{sideMmapio, "github.com/mmapio/mmapio"},
	{sideExp, "golang.org/x/exp"},
	{sideMmapGo, "github.com/edsrzf/mmap-go"},
}

// describeMachine tells what it can find out; dir is the folder of the test files.
func describeMachine(ctx context.Context, dir string) machine {
	const unknown = "unknown"
	m := machine{
		CPU: unknown, Cores: runtime.GOMAXPROCS(0), System: runtime.GOOS + "/" + runtime.GOARCH,
		Kernel: unknown, FileSystem: unknown, PageSize: os.Getpagesize(), Go: runtime.Version(),
		Packages: make(map[string]string),
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
	fmt.Fprintf(&b, "%s, %d cores, %.0f GiB; %s, kernel %s; %s; %s\n", m.CPU, m.Cores, m.MemoryGiB, m.System, m.Kernel, m.FileSystem, m.Go)
	for _, c := range compared {
		fmt.Fprintf(&b, "%s is %s %s\n", c.side, c.module, m.Packages[c.module])
	}
	return b.String()
}
