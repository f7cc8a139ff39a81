package mmapio

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	supportsStamp      = true
	syncCoversMappings = true // fsync writes what was stored through a mapping

	unmappableFlags = unix.O_DIRECT | unix.O_PATH
	dataSyncFlag    = unix.O_DSYNC
	noReserveFlag   = unix.MAP_NORESERVE

	addressSpaceLimit = unix.RLIMIT_AS
)

// trustedFileSystems keep mappings and system calls coherent, among all processes,
// because both use the one page cache of this machine. Network and FUSE file systems
// are not among them. See statfs(2) for the numbers.
var trustedFileSystems = map[uint32]trust{
	unix.EXT4_SUPER_MAGIC:      {mappings: true, mincore: true}, // ext2 and ext3 too
	unix.XFS_SUPER_MAGIC:       {mappings: true, mincore: true},
	unix.BTRFS_SUPER_MAGIC:     {mappings: true, mincore: true},
	unix.F2FS_SUPER_MAGIC:      {mappings: true, mincore: true},
	unix.TMPFS_MAGIC:           {mappings: true, mincore: true, sparing: true},
	unix.RAMFS_MAGIC:           {mappings: true, mincore: true},
	unix.MSDOS_SUPER_MAGIC:     {mappings: true, mincore: true},
	unix.EXFAT_SUPER_MAGIC:     {mappings: true, mincore: true},
	unix.REISERFS_SUPER_MAGIC:  {mappings: true, mincore: true},
	unix.NILFS_SUPER_MAGIC:     {mappings: true, mincore: true},
	unix.ISOFS_SUPER_MAGIC:     {mappings: true, mincore: true},
	unix.SQUASHFS_MAGIC:        {mappings: true, mincore: true},
	unix.EROFS_SUPER_MAGIC_V1:  {mappings: true, mincore: true},
	0xca451a4e /* bcachefs */ : {mappings: true, mincore: true},
	unix.HUGETLBFS_MAGIC:       {mappings: true, mincore: true},
	// mincore beside reads has led to wrong data on ZFS, see openzfs/zfs#14548 in 2.1.
	0x2fc12fc1 /* zfs */ : {mappings: true},
	// A file of a lower layer that is open for reading only stays mapped to that
	// layer after somebody writes to it, see the kernel's overlayfs.rst under
	// "Non-standard behavior".
	unix.OVERLAYFS_SUPER_MAGIC: {mappings: true, mincore: true},
}

func trustOf(fd uintptr, info fs.FileInfo, mode Mode) trust {
	var stat unix.Statfs_t
	if unix.Fstatfs(int(fd), &stat) != nil {
		return trust{}
	}
	known := trustedFileSystems[uint32(stat.Type)]
	known.hugePage = hugePageIn(&stat)
	if uint32(stat.Type) == unix.OVERLAYFS_SUPER_MAGIC && mode == ReadOnly {
		return trust{}
	}
	// mincore tells the truth to those who own the file or may write it, see
	// can_do_mincore in mm/mincore.c; to others all pages are in memory.
	if known.mincore && mode != ReadWrite {
		owner, ok := info.Sys().(*syscall.Stat_t)
		known.mincore = ok && int(owner.Uid) == os.Geteuid() || mayWrite(fd)
		known.hidden = !known.mincore
	}
	return known
}

// mayWrite reports whether the process may write the file, however it is opened: root may
// those of others. Before Linux 5.8 nobody knows.
func mayWrite(fd uintptr) bool {
	return unix.Faccessat(int(fd), "", unix.W_OK, unix.AT_EMPTY_PATH|unix.AT_EACCESS) == nil
}

// hugePageSize returns the length of a page of the file, if it is on hugetlbfs, otherwise 0.
func hugePageSize(fd uintptr) int64 {
	var stat unix.Statfs_t
	if unix.Fstatfs(int(fd), &stat) != nil {
		return 0
	}
	return hugePageIn(&stat)
}

func hugePageIn(stat *unix.Statfs_t) int64 {
	if uint32(stat.Type) != unix.HUGETLBFS_MAGIC {
		return 0
	}
	return int64(stat.Bsize)
}

// residentPages calls found for every run of pages that are in memory.
func residentPages(address, length uintptr, found func(at, n uintptr)) {
	var states [neighbourhood >> granuleShift]byte
	pages := alignUpPage(length) / uintptr(pageSize)
	if pages > uintptr(len(states)) {
		return
	}
	if pageStates(address, length, states[:]) != nil {
		return
	}
	size := uintptr(pageSize)
	for page := uintptr(0); page < pages; page++ {
		start := page
		for page < pages && states[page]&1 != 0 {
			page++
		}
		if page > start {
			found(start*size, (page-start)*size)
		}
	}
}

// stamp sets the modification time of the file to now.
func stamp(fd uintptr) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}
	if err := futimens(fd, &times); err != unix.EPERM {
		return err
	}
	// Who may write the file but does not own it can only set both times to now.
	return futimens(fd, nil)
}

func futimens(fd uintptr, times *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, fd, 0, uintptr(unsafe.Pointer(times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// writeBack makes what was stored durable, with what is needed to read it back: msync
// does what fdatasync does, see vfs_fsync_range in fs/sync.c and its caller in
// mm/msync.c.
//
// Begin to write is all that it could do without waiting, and msync does not even do
// that: startFlush does.
func writeBack(address, length uintptr, _ bool) error {
	return ignoringEINTR(func() error { return unix.Msync(bytesAt(address, length), unix.MS_SYNC) })
}

// datasync makes the bytes of the file durable, with what is needed to read them back:
// see fdatasync(2).
func datasync(file *os.File) (err error) {
	controlErr := control(file, func(fd uintptr) {
		err = ignoringEINTR(func() error { return unix.Fdatasync(int(fd)) })
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// startFlush has the kernel begin to write out the file: see sync_file_range(2).
func startFlush(file *os.File) (err error) {
	controlErr := control(file, func(fd uintptr) {
		err = ignoringEINTR(func() error { return unix.SyncFileRange(int(fd), 0, 0, unix.SYNC_FILE_RANGE_WRITE) })
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// addressesInUse returns how many bytes of address space the process has.
func addressesInUse() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _, _ := strings.Cut(string(text), " ")
	n, err := strconv.ParseInt(pages, 10, 64)
	if err != nil {
		return 0
	}
	return n * int64(pageSize)
}

// mappingLimit returns how many mappings more the kernel allows the process.
func mappingLimit() int {
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return defaultMappings
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || limit <= 0 {
		return defaultMappings
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return defaultMappings
	}
	return max(0, min(limit, defaultMappings)-bytes.Count(maps, []byte{'\n'}))
}

// populates: bytes can be mapped and read in by a system call.
const populates = true

// allocate makes the file longer by length bytes from off, which take up space on
// the disk.
func allocate(file *os.File, off, length int64) (err error) {
	controlErr := control(file, func(fd uintptr) {
		for {
			if err = unix.Fallocate(int(fd), 0, off, length); err != unix.EINTR {
				return
			}
		}
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// errPopulateFault is the error of populateRead where a read would fault.
const errPopulateFault = unix.EFAULT

func populateRead(address, length uintptr) error {
	return unix.Madvise(bytesAt(address, length), unix.MADV_POPULATE_READ)
}

// hasHoles reports whether some of the file takes up no space.
func hasHoles(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(stat.Blocks) < (info.Size()+511)/512
}

// mapWindow maps a piece of the file for reading.
func mapWindow(fd uintptr, off int64, length uintptr) (unsafe.Pointer, error) {
	return unix.MmapPtr(int(fd), off, nil, length, unix.PROT_READ, unix.MAP_SHARED)
}

// readAhead makes the kernel begin to read.
func readAhead(fd uintptr, off, length int64) {
	_ = unix.Fadvise(int(fd), off, length, unix.FADV_WILLNEED)
}

// adviseRandom keeps a fault from reading in its neighbours: what is cold is read
// through the descriptor, which reads ahead as it should.
func adviseRandom(address unsafe.Pointer, length uintptr) {
	_ = unix.Madvise(unsafe.Slice((*byte)(address), length), unix.MADV_RANDOM)
}

// openAnonymous opens memory without a name. A kernel that forbids memory which might be
// executed wants to be told that this is none; one before 6.3 knows no such flag. See
// memfd_create(2).
func openAnonymous(name string) (*os.File, error) {
	const noExecSeal = 0x8 // MFD_NOEXEC_SEAL
	fd, err := unix.MemfdCreate("mmapio", unix.MFD_CLOEXEC|noExecSeal)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("mmapio", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// populateWrite gives a private mapping pages of its own, and a shared one pages that can
// be stored to.
func populateWrite(address, length uintptr) error {
	return unix.Madvise(bytesAt(address, length), unix.MADV_POPULATE_WRITE)
}

// discard makes pages of a private mapping those of the file again: see MADV_DONTNEED in
// madvise(2). Locked ones stay.
func discard(fd uintptr, off int64, address, length uintptr) error {
	return unix.Madvise(bytesAt(address, length), unix.MADV_DONTNEED)
}

// privatePages calls found for runs of pages of a private mapping that may be its own: in
// memory and not of a file, or in swap. Bits 61 to 63 of an entry say so, to everybody: see
// Documentation/admin-guide/mm/pagemap.rst.
func privatePages(address, length uintptr, found func(at, n uintptr)) {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		found(0, length)
		return
	}
	defer pagemap.Close()
	entries := make([]byte, 8*min(length/uintptr(pageSize)+1, 4096))
	if !isOurs(pagemap, entries) {
		found(0, length)
		return
	}
	size, pages := uintptr(pageSize), (length+uintptr(pageSize)-1)/uintptr(pageSize)
	start := pages // of a run, or none
	for page := uintptr(0); page < pages; {
		n := min(pages-page, uintptr(len(entries)/8))
		if _, err := pagemap.ReadAt(entries[:8*n], int64((address/size+page)*8)); err != nil {
			page = min(page, start)
			found(page*size, length-page*size)
			return
		}
		for i := range n {
			entry := binary.NativeEndian.Uint64(entries[8*i:])
			own := entry&pageSwapped != 0 || entry&pagePresent != 0 && entry&pageOfFile == 0
			switch {
			case own && start == pages:
				start = page + i
			case !own && start != pages:
				found(start*size, (page+i-start)*size)
				start = pages
			}
		}
		page += n
	}
	if start != pages {
		found(start*size, length-start*size)
	}
}

// Bits of an entry of /proc/self/pagemap.
const pageOfFile, pageSwapped, pagePresent = 1 << 61, 1 << 62, 1 << 63

// isOurs reports whether the table of pages says of memory of the heap, which has just been
// stored to, what is true of it. An emulator may show its own table: there other addresses
// count, or the bytes of an entry are the other way round.
func isOurs(pagemap *os.File, memory []byte) bool {
	memory[0] = 1
	var b [8]byte
	if _, err := pagemap.ReadAt(b[:], int64(uintptr(unsafe.Pointer(&memory[0]))/uintptr(pageSize)*8)); err != nil {
		return false
	}
	// The number of a page has 55 bits, of which those from 40 on are not used, and neither
	// are the flags from 58 to 60.
	plausible := func(entry uint64) bool {
		const unused = 1<<55 - 1<<40 | 7<<58
		return entry&(pageSwapped|pagePresent) != 0 && entry&(pageOfFile|unused) == 0
	}
	entry := binary.NativeEndian.Uint64(b[:])
	return plausible(entry) && !plausible(bits.ReverseBytes64(entry))
}

// cloneFile makes to share all blocks of from.
func cloneFile(to, from *os.File) error {
	return withBoth(to, from, func(to, from int) error { return unix.IoctlFileClone(to, from) })
}

// copyRange has the kernel copy up to n bytes at off to the same place.
func copyRange(to, from *os.File, off int64, n int) (done int, err error) {
	err = withBoth(to, from, func(to, from int) (err error) {
		at, there := off, off
		done, err = unix.CopyFileRange(from, &at, to, &there, n, 0)
		return err
	})
	return done, err
}

// withBoth calls do with the descriptors of two files, again when a signal ends the call.
func withBoth(to, from *os.File, do func(to, from int) error) (err error) {
	var innerErr error
	outerErr := control(to, func(to uintptr) {
		innerErr = control(from, func(from uintptr) {
			for {
				if err = do(int(to), int(from)); err != unix.EINTR {
					return
				}
			}
		})
	})
	return cmp.Or(outerErr, innerErr, err)
}

// nextData returns where the file has data at or behind off. If there is none any more
// the error is io.EOF, and another one where the file system does not tell.
func nextData(file *os.File, off int64) (from, to int64, err error) {
	controlErr := control(file, func(fd uintptr) {
		if from, err = unix.Seek(int(fd), off, unix.SEEK_DATA); err == nil {
			to, err = unix.Seek(int(fd), from, unix.SEEK_HOLE)
		}
	})
	if err == unix.ENXIO { // also if it was cut between the two
		err = io.EOF
	}
	return from, to, cmp.Or(controlErr, err)
}

const (
	advisesFiles   = true
	locksOnFault   = true
	tellsResidency = true
	tellsHuge      = true
)

var madviseNumbers = [adviceCount]int{
	AdviceNormal:        unix.MADV_RANDOM, // see adviseRandom
	AdviceRandom:        unix.MADV_RANDOM,
	AdviceSequential:    unix.MADV_SEQUENTIAL,
	AdviceWillNeed:      unix.MADV_WILLNEED,
	AdviceDontNeed:      unix.MADV_DONTNEED,
	AdvicePopulateRead:  unix.MADV_POPULATE_READ,
	AdvicePopulateWrite: unix.MADV_POPULATE_WRITE,
	AdviceCold:          unix.MADV_COLD,
	AdvicePageOut:       unix.MADV_PAGEOUT,
	AdviceCollapse:      unix.MADV_COLLAPSE,
	AdviceHugePage:      unix.MADV_HUGEPAGE,
	AdviceNoHugePage:    unix.MADV_NOHUGEPAGE,
	AdviceDontDump:      unix.MADV_DONTDUMP,
	AdviceDoDump:        unix.MADV_DODUMP,
	AdviceDontFork:      unix.MADV_DONTFORK,
	AdviceDoFork:        unix.MADV_DOFORK,
}

func madviseNumber(a Advice) (number int, ok bool) {
	if a >= adviceCount {
		return 0, false
	}
	return madviseNumbers[a], true
}

// fadvise knows these numbers; two of them differ from system to system.
var fadviseNumbers = [...]int{
	AdviceNormal:     unix.FADV_NORMAL,
	AdviceRandom:     unix.FADV_RANDOM,
	AdviceSequential: unix.FADV_SEQUENTIAL,
	AdviceWillNeed:   unix.FADV_WILLNEED,
	AdviceDontNeed:   unix.FADV_DONTNEED,
}

func adviseFile(fd uintptr, off, length int64, advice Advice) error {
	return unix.Fadvise(int(fd), off, length, fadviseNumbers[advice])
}

func lock(address, length uintptr, onFault bool) error {
	if !onFault {
		return unix.Mlock(bytesAt(address, length))
	}
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, address, length, unix.MLOCK_ONFAULT); errno != 0 {
		return errno
	}
	return nil
}

// pageStates sets a byte for every page of the memory; it is odd if the page is in memory.
func pageStates(address, length uintptr, states []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, address, length, uintptr(unsafe.Pointer(&states[0]))); errno != 0 {
		return errno
	}
	return nil
}

// hugeBytes returns how many bytes of the memory are mapped in huge pages.
func hugeBytes(address, length uintptr) (int64, error) {
	n, err := scanHuge(address, length)
	if err != nil { // before 6.7
		return sumHuge(address, length)
	}
	return n, nil
}

// See Documentation/admin-guide/mm/pagemap.rst for PAGEMAP_SCAN.
const (
	pagemapScan = 3<<30 | unsafe.Sizeof(scanArgument{})<<16 | 'f'<<8 | 16
	pageIsHuge  = 1 << 6
)

type scanArgument struct {
	size, flags, start, end, walkEnd, regions, regionsLength, maxPages uint64
	inverted, mask, anyOf, returned                                    uint64
}

type scanRegion struct{ start, end, categories uint64 }

func scanHuge(address, length uintptr) (sum int64, err error) {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer pagemap.Close()
	regions := make([]scanRegion, 512)
	var pinner runtime.Pinner // the kernel is told a number
	pinner.Pin(&regions[0])
	defer pinner.Unpin()
	argument := scanArgument{
		size:  uint64(unsafe.Sizeof(scanArgument{})),
		start: uint64(address), end: uint64(address) + uint64(alignUpPage(length)),
		regions: uint64(uintptr(unsafe.Pointer(&regions[0]))), regionsLength: uint64(len(regions)),
		mask: pageIsHuge, returned: pageIsHuge,
	}
	for argument.start < argument.end {
		found, _, errno := unix.Syscall(unix.SYS_IOCTL, pagemap.Fd(), pagemapScan, uintptr(unsafe.Pointer(&argument)))
		if errno != 0 {
			return 0, errno
		}
		for _, region := range regions[:found] {
			sum += int64(region.end - region.start)
		}
		if argument.walkEnd <= argument.start {
			break
		}
		argument.start = argument.walkEnd
	}
	return sum, nil
}

// sumHuge adds up what smaps says of the areas that the memory is in.
func sumHuge(address, length uintptr) (sum int64, err error) {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return 0, err
	}
	inside := false
	for line := range bytes.Lines(smaps) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		if from, to, isArea := bytes.Cut(name, []byte("-")); !ok || isArea {
			to, _, _ = bytes.Cut(to, []byte(" "))
			start, _ := strconv.ParseUint(string(from), 16, 64)
			end, _ := strconv.ParseUint(string(to), 16, 64)
			inside = start < uint64(address+length) && uint64(address) < end
			continue
		}
		switch string(name) {
		case "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb":
			if inside {
				n, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n << 10
			}
		}
	}
	return min(sum, int64(length)), nil
}

// statxRefused: the process cannot call statx.
var statxRefused atomic.Bool

// sizeOf returns the size of the file, and whether it is a regular one. Unlike fstat it does not
// ask for times: after somebody has, the next write makes the inode dirty once more, which the
// flush after it then waits for. See Documentation/filesystems/multigrain-ts.rst.
func sizeOf(file *os.File) (size int64, regular bool, err error) {
	if runtime.GOOS == "android" || statxRefused.Load() { // old Android ends who tries
		return statSize(file)
	}
	controlErr := control(file, func(fd uintptr) {
		var stat unix.Statx_t
		err = ignoringEINTR(func() error {
			return unix.Statx(int(fd), "", unix.AT_EMPTY_PATH, unix.STATX_SIZE|unix.STATX_TYPE, &stat)
		})
		size, regular = int64(stat.Size), stat.Mode&unix.S_IFMT == unix.S_IFREG
	})
	if controlErr != nil {
		return 0, false, controlErr
	}
	if err != nil { // before Linux 4.11, and where the process may not ask in this way
		refused := err == unix.ENOSYS || err == unix.EPERM
		size, regular, err = statSize(file)
		if refused && err == nil {
			statxRefused.Store(true)
		}
		return size, regular, err
	}
	return size, regular, nil
}
