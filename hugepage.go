package mmapio

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// WithHugePages asks the system to keep the file in huge pages, 2 MiB each on most
// machines, and to map it with them. It is best effort: where there are none, nothing is
// different. [File.HugePages] tells what came of it.
//
// On Linux, every mapping of the file is advised to be huge, and huge pages are made
// of what [File.Prefault] brings in. When the file is mapped they are made of what is wholly in
// memory of its first 64 MiB, unless the kernel refuses the first of them; copying those
// takes some tens of milliseconds. What can be had depends on the file system:
//
//   - tmpfs: with the mount option huge=advise, huge=within_size or huge=always, and mostly
//     without it for what is in memory already.
//   - ext4, XFS, Btrfs and others with large folios, if Linux is configured with transparent
//     huge pages: what Prefault reads in from the disk, but not what was in memory before.
//     Kernels with CONFIG_READ_ONLY_THP_FOR_FS can turn that huge as well if nobody has the
//     file open for writing.
//   - hugetlbfs: all pages are huge, with or without the option. Such a file has no write
//     system call: writes, Views, chunks and Commit use a mapping, and the error where no
//     huge page is free is ENOMEM. It does not become longer by writing. Sizes are multiples of the
//     huge page: for others, Truncate and [WithSize] return EINVAL.
//
// /sys/kernel/mm/transparent_hugepage/enabled must not be never. Other systems decide for
// themselves.
func WithHugePages() Option {
	return func(c *config) error {
		c.huge = true
		return nil
	}
}

var (
	errNoHuge        = fmt.Errorf("the system does not tell what is in huge pages: %w", errors.ErrUnsupported)
	errHugeEnd       = errors.New("a file on hugetlbfs does not become longer by writing: use Truncate, in multiples of the huge page")
	errHugeAppend    = errors.New("a file on hugetlbfs cannot be appended to: open it without O_APPEND and use Truncate and WriteAt")
	errHugeAllocated = fmt.Errorf("WithPreallocate is not for files on hugetlbfs: %w", errors.ErrUnsupported)
)

// HugePages returns how many bytes of the file are mapped in huge pages now, by this File.
// That is 0 for a file that is not mapped. The error is a [*fs.PathError] with
// [errors.ErrUnsupported] on systems other than Linux, and otherwise what reading
// /proc/self/pagemap or /proc/self/smaps returned.
func (f *File) HugePages() (int64, error) {
	file, err := f.inner()
	if err != nil {
		return 0, err
	}
	if err := control(file, func(uintptr) {}); err != nil {
		return 0, f.fail("huge pages", innerError(err))
	}
	if !tellsHuge {
		return 0, f.fail("huge pages", errNoHuge)
	}
	m := f.mapping.Load()
	if m == nil || !m.pin() {
		return 0, nil
	}
	defer m.unpin()
	n, err := sys.hugeBytes(m.address(), uintptr(m.reach.Load()))
	if err != nil {
		return 0, f.fail("huge pages", innerError(err))
	}
	return n, nil
}

// HugePages returns how many bytes of the View are mapped in huge pages now. Kernels before
// Linux 6.7 tell that for whole areas of memory: a View of a part of the file may then
// count what is huge beside it. Errors are those of [File.HugePages].
func (v *View) HugePages() (int64, error) {
	if err := v.live("huge pages"); err != nil {
		return 0, err
	}
	if !tellsHuge {
		return 0, v.file.fail("huge pages", errNoHuge)
	}
	if v.m == nil {
		return 0, nil
	}
	from := v.at() &^ int64(pageSize-1)
	n, err := sys.hugeBytes(v.m.address()+uintptr(from), uintptr(v.at()+int64(len(v.data))-from))
	runtime.KeepAlive(v)
	if err != nil {
		return 0, v.file.fail("huge pages", innerError(err))
	}
	return n, nil
}

func (f *File) wantsHuge() bool {
	c := f.cache.controls.Load()
	return c != nil && c.huge
}

// collapse makes huge pages of what is in s, as far as that reaches over whole ones. It
// reports false where the kernel does not.
func (m *mapping) collapse(s span) bool {
	s = m.existing(s)
	s = span{alignUp(s.from, hugeAlign), s.to &^ (hugeAlign - 1)}
	return s.empty() || m.advise(s, AdviceCollapse) == nil
}

// collapseAtOnce is how much of a file is looked at when it is mapped.
const collapseAtOnce = 64 << 20

// collapseResident makes huge pages of what is wholly in memory at the start of the file.
func (m *mapping) collapseResident() {
	if _, ok := madviseNumber(AdviceCollapse); !ok || m.onlyOwn {
		return
	}
	var states [neighbourhood >> granuleShift]byte
	for at := int64(0); at+hugeAlign <= min(m.extent.Load(), collapseAtOnce); at += hugeAlign {
		if sys.pageStates(m.address()+uintptr(at), hugeAlign, states[:]) != nil {
			return
		}
		whole := true
		for _, state := range states[:hugeAlign/pageSize] {
			whole = whole && state&1 != 0
		}
		if whole && !m.collapse(span{at, at + hugeAlign}) {
			return
		}
	}
}

// writeHuge writes b at off for a File whose file system has no write: hugetlbfs. It
// reports false for every other one.
func (f *File) writeHuge(file *os.File, op string, b []byte, off int64) (n int, err error, done bool) {
	if f.hugePage(file) == 0 {
		return 0, nil, false
	}
	if f.flag&os.O_APPEND != 0 {
		return 0, f.fail(op, errHugeAppend), true
	}
	v := new(View)
	if _, err = v.open(f, off, int64(len(b))); err == nil {
		defer v.Release()
		n, err = v.store(b, 0) // the caller counts it for the flush policy
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrOutOfRange):
		err = f.fail(op, errHugeEnd)
	default:
		err = f.fail(op, innerError(err))
	}
	return n, err, true
}

// hugePage returns the length of a page of the file if it is on hugetlbfs, otherwise 0.
func (f *File) hugePage(file *os.File) int64 {
	length := f.cache.page.Load()
	if length == 0 {
		_ = control(file, func(fd uintptr) { length = max(hugePageSize(fd), int64(pageSize)) })
		f.cache.page.Store(length)
	}
	if length <= int64(pageSize) {
		return 0
	}
	return length
}

// pageSizeOf returns the length of the pages of the file.
func (f *File) pageSizeOf(file *os.File) int64 { return max(f.hugePage(file), int64(pageSize)) }

// relyOn tells the mapping what its file system is like.
func (m *mapping) relyOn(t trust) {
	m.onlyOwn, m.hidden, m.sparing = !t.mincore, t.hidden, t.sparing
	m.coherent = t.mappings
	if t.hugePage > 0 {
		m.known.pageSize = uint64(t.hugePage)
	}
}

// onHugetlbfs reports whether the file can be written to through a mapping only.
func (f *File) onHugetlbfs(file *os.File) bool {
	return f.mode == ReadWrite && f.hugePage(file) > 0
}
