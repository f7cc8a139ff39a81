package watch

import (
	"errors"
	"fmt"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchesFiles: a file can be watched itself, for writes by other names than the one
// in the folder.
const watchesFiles = true

// withoutEvents are file systems that change without events on this machine. See
// statfs(2) for the numbers.
var withoutEvents = map[uint32]bool{
	unix.NFS_SUPER_MAGIC:   true,
	unix.SMB_SUPER_MAGIC:   true,
	unix.CIFS_SUPER_MAGIC:  true,
	unix.SMB2_SUPER_MAGIC:  true,
	unix.NCP_SUPER_MAGIC:   true,
	unix.V9FS_MAGIC:        true,
	unix.FUSE_SUPER_MAGIC:  true, // virtiofs too
	unix.CEPH_SUPER_MAGIC:  true,
	unix.AFS_SUPER_MAGIC:   true,
	unix.AFS_FS_MAGIC:      true,
	unix.CODA_SUPER_MAGIC:  true,
	unix.OCFS2_SUPER_MAGIC: true,
	0x01161970:             true, // GFS2
	0x0bd00bd0:             true, // Lustre
	0x786f4256:             true, // folders shared by VirtualBox
	0xbacbacbc:             true, // by VMware, vmhgfs
	unix.PROC_SUPER_MAGIC:  true,
	unix.SYSFS_MAGIC:       true,
	unix.DEBUGFS_MAGIC:     true,
	unix.TRACEFS_MAGIC:     true,
}

func isRemote(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && withoutEvents[uint32(s.Type)]
}

// explain says which limit an error of inotify is about.
func explain(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("no inotify watch is left, raise fs.inotify.max_user_watches: %w", err)
	}
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("no inotify instance or descriptor is left, raise fs.inotify.max_user_instances or ulimit -n: %w", err)
	}
	return err
}

func stat(name string) (state, error) {
	return statAt(unix.AT_FDCWD, name, 0)
}

func statFile(file *os.File) (state, error) {
	return statAt(int(file.Fd()), "", unix.AT_EMPTY_PATH)
}

func statAt(folder int, name string, flags int) (state, error) {
	var s unix.Statx_t
	var err error
	for {
		err = unix.Statx(folder, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &s)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ENOSYS || err == unix.EPERM { // an old kernel, or a filter that does not know it
		return oldStatAt(folder, name, flags)
	}
	if err != nil {
		return state{}, err
	}
	result := state{
		regular: s.Mode&unix.S_IFMT == unix.S_IFREG,
		device:  unix.Mkdev(s.Dev_major, s.Dev_minor),
		inode:   s.Ino,
		size:    int64(s.Size),
		written: s.Mtime.Sec*1e9 + int64(s.Mtime.Nsec),
		changed: s.Ctime.Sec*1e9 + int64(s.Ctime.Nsec),
		mode:    uint32(s.Mode), uid: s.Uid, gid: s.Gid,
		links:      uint64(s.Nlink),
		mountPoint: s.Attributes_mask&s.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}
	if s.Mask&unix.STATX_BTIME != 0 {
		result.birth = s.Btime.Sec*1e9 + int64(s.Btime.Nsec)
	}
	return result, nil
}

func oldStatAt(folder int, name string, flags int) (state, error) {
	var s unix.Stat_t
	if err := unix.Fstatat(folder, name, &s, flags); err != nil {
		return state{}, err
	}
	return state{
		regular: s.Mode&unix.S_IFMT == unix.S_IFREG,
		device:  uint64(s.Dev),
		inode:   s.Ino,
		size:    s.Size,
		written: s.Mtim.Nano(),
		changed: s.Ctim.Nano(),
		mode:    s.Mode, uid: s.Uid, gid: s.Gid,
		links: uint64(s.Nlink),
	}, nil
}

// openToRead opens a file. Should it be a pipe by now, that does not wait.
func openToRead(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// reader reads a file without changing which of its pages are in memory.
type reader struct {
	fd         int
	dontCache  bool // the kernel drops what it had to read
	tellsPages bool // mincore can be used
	tellsHoles bool
	data, hole int64 // the last ends of data and of a hole that were found
}

// With these file systems holes are where neither a write nor a store has been,
// whether it is on the disk yet or not.
var tellsHoles = map[uint32]bool{
	unix.EXT4_SUPER_MAGIC:  true,
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
	unix.TMPFS_MAGIC:       true,
}

func newReader(file *os.File) *reader {
	r := &reader{fd: int(file.Fd()), dontCache: !withoutDontCache}
	var s unix.Statfs_t
	if unix.Fstatfs(r.fd, &s) == nil {
		kind := uint32(s.Type)
		r.tellsHoles = tellsHoles[kind]
		r.tellsPages = kind != 0x2fc12fc1 // mincore beside reads has led to wrong data on ZFS
	}
	// The kernel must not read ahead: that would be dropped by nobody.
	_ = unix.Fadvise(r.fd, 0, 0, unix.FADV_RANDOM)
	return r
}

// withoutDontCache is set by tests.
var withoutDontCache bool

func (r *reader) read(b []byte, off int64) (int, error) {
	if r.dontCache {
		n, err := again(func() (int, error) { return unix.Preadv2(r.fd, [][]byte{b}, off, unix.RWF_DONTCACHE) })
		if err != unix.EOPNOTSUPP && err != unix.EINVAL && err != unix.ENOSYS {
			return n, err
		}
		r.dontCache = false
	}
	absent := r.absent(off, int64(len(b)))
	n, err := again(func() (int, error) { return unix.Pread(r.fd, b, off) })
	for _, e := range absent {
		_ = unix.Fadvise(r.fd, e.from, e.to-e.from, unix.FADV_DONTNEED)
	}
	return n, err
}

func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// absent returns the pages among these bytes that are not in memory.
func (r *reader) absent(off, n int64) []extent {
	if !r.tellsPages {
		return nil
	}
	page := int64(os.Getpagesize())
	start := off &^ (page - 1)
	length := (off + n - start + page - 1) &^ (page - 1)
	memory, err := unix.Mmap(r.fd, start, int(length), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	defer unix.Munmap(memory)
	states := make([]byte, length/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&memory[0])), uintptr(length), uintptr(unsafe.Pointer(&states[0])))
	if errno != 0 {
		return nil
	}
	var absent []extent
	for i, s := range states {
		at := start + int64(i)*page
		switch last := len(absent) - 1; {
		case s&1 != 0:
		case last >= 0 && absent[last].to == at:
			absent[last].to += page
		default:
			absent = append(absent, extent{at, at + page})
		}
	}
	return absent
}

// isHole reports whether these bytes are zeros that take up no space.
func (r *reader) isHole(off, n int64) bool {
	if !r.tellsHoles || off+n <= r.data {
		return false
	}
	if off+n <= r.hole {
		return true
	}
	next, err := unix.Seek(r.fd, off, unix.SEEK_DATA)
	if err == unix.ENXIO { // nothing follows
		next, err = math.MaxInt64, nil
	}
	if err == nil && next >= off+n {
		r.hole = next
		return true
	}
	if err != nil {
		r.tellsHoles = false
		return false
	}
	if end, err := unix.Seek(r.fd, next, unix.SEEK_HOLE); err == nil {
		r.data = end
	}
	return false
}
