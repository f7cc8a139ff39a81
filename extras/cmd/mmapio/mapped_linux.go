package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"github.com/mmapio/mmapio"
)

// mappedFiles tells which files the processes of this machine have mapped.
type mappedFiles struct {
	files   map[mappedFile][]mappedRange
	devices map[uint64]string // by the device of stat, as the kernel writes them in maps
	partial bool              // there are processes of others that could not be looked at
}

// mappedFile is a file as the kernel writes it in maps: on Btrfs and overlayfs, stat has another
// device.
type mappedFile struct {
	device string
	inode  uint64
}

type mappedRange struct {
	from, to int64 // in the file
	process  int
}

// readMappedFiles looks at all other processes.
func readMappedFiles() (*mappedFiles, error) {
	m := &mappedFiles{files: make(map[mappedFile][]mappedRange), devices: make(map[uint64]string)}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		process, err := strconv.Atoi(entry.Name())
		if err != nil || process == os.Getpid() {
			continue
		}
		err = readMaps(entry.Name(), func(line mapsLine) {
			if line.inode != 0 {
				from := int64(min(line.offset, math.MaxInt64))
				to := from + int64(min(line.end-line.start, uint64(math.MaxInt64-from)))
				m.files[line.mappedFile] = append(m.files[line.mappedFile], mappedRange{from, to, process})
			}
		})
		if errors.Is(err, fs.ErrPermission) {
			m.partial = true
		}
	}
	return m, nil
}

// mapsLine is a line of /proc/PID/maps.
type mapsLine struct {
	start, end uint64
	offset     uint64
	mappedFile
}

// readMaps calls do with every line of the maps of a process.
func readMaps(process string, do func(mapsLine)) error {
	file, err := os.Open("/proc/" + process + "/maps")
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 16<<10), 1<<20)
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 5 {
			return fmt.Errorf("%s: a line of another form: %q", file.Name(), lines.Text())
		}
		start, end, _ := bytes.Cut(fields[0], []byte("-"))
		var line mapsLine
		var errs [4]error
		line.start, errs[0] = strconv.ParseUint(string(start), 16, 64)
		line.end, errs[1] = strconv.ParseUint(string(end), 16, 64)
		line.offset, errs[2] = strconv.ParseUint(string(fields[2]), 16, 64)
		line.inode, errs[3] = strconv.ParseUint(string(fields[4]), 10, 64)
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		line.device = string(fields[3])
		do(line)
	}
	return lines.Err() // ESRCH if the process has ended
}

// of returns how many bytes of the file are mapped, and by how many processes.
func (m *mappedFiles) of(file *mmapio.File, info fs.FileInfo) (mapped int64, processes int, err error) {
	size := info.Size()
	id, _, ok := identityOf(info)
	if size == 0 || !ok || len(m.files) == 0 {
		return 0, 0, nil
	}
	key := mappedFile{m.devices[id.device], id.inode}
	if key.device == "" {
		if key, err = m.learn(file, id); err != nil {
			return 0, 0, err
		}
	}
	ranges := m.files[key]
	slices.SortFunc(ranges, func(a, b mappedRange) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	known := make(map[int]bool)
	end := int64(0)
	for _, r := range ranges {
		known[r.process] = true
		if to := min(r.to, size); to > end {
			mapped += to - max(min(r.from, to), end)
			end = to
		}
	}
	return mapped, len(known), nil
}

// learn finds out what a file is called in maps, by mapping a byte of it.
func (m *mappedFiles) learn(file *mmapio.File, id identity) (key mappedFile, err error) {
	view, err := file.View(0, 1)
	if err != nil {
		return key, err
	}
	defer view.Release()
	address := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(view.Bytes()))))
	err = readMaps("self", func(line mapsLine) {
		if line.start <= address && address < line.end {
			key = line.mappedFile
		}
	})
	if err == nil && key.device == "" {
		err = errors.New("the kernel does not list what is mapped")
	}
	if key.inode == id.inode {
		m.devices[id.device] = key.device
	}
	return key, err
}
