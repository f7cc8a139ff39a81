package mmapio

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Compile-time list of what a File can stand in for.
var (
	_ io.Reader          = (*File)(nil)
	_ io.Writer          = (*File)(nil)
	_ io.ReaderAt        = (*File)(nil)
	_ io.WriterAt        = (*File)(nil)
	_ io.Seeker          = (*File)(nil)
	_ io.Closer          = (*File)(nil)
	_ io.ReaderFrom      = (*File)(nil)
	_ io.WriterTo        = (*File)(nil)
	_ io.StringWriter    = (*File)(nil)
	_ io.ReadWriteSeeker = (*File)(nil)
	_ fs.File            = (*File)(nil)
	_ fs.ReadDirFile     = (*File)(nil)
	_ syscall.Conn       = (*File)(nil)
)

// File is an [os.File] with a mapped fast path.
//
// Every method of [os.File] is here, with the same signature, the same results and
// the same errors. What lies in memory is copied from and to a mapping of the
// file; everything else is done by the os.File inside. The mapping is a cache of
// the file: it is made when it starts to pay, dropped when memory or address
// space is short, and no result depends on it.
//
// A File must be made by one of the constructors of this package. Methods of a
// nil File and of a zero File return [os.ErrInvalid]. All methods may be called
// by several goroutines at once, Close included.
type File struct {
	mapping  atomic.Pointer[mapping]
	offset   atomic.Int64 // see position
	file     atomic.Pointer[os.File]
	position position
	config   *config // not to be changed
	mode     Mode
	flag     int // what the file was opened with, as far as it matters here: see unmappableFlags
	cache    cache
	tail     *tail        // preallocated space behind the end, or nil
	private  *copyOnWrite // of a File that is a private copy, or nil
	flushing flushing
	flusher  *flusher // carries out the flush policy, or nil
}

// Mode tells what a [File] was opened for.
type Mode uint8

// The modes of a File.
const (
	ReadOnly    Mode = iota // reads only
	WriteOnly               // writes only; such a file is never mapped
	ReadWrite               // reads and writes
	CopyOnWrite             // reads and writes that change this File only: see WithCopyOnWrite
)

// String returns "read-only", "write-only", "read-write" or "copy-on-write".
func (m Mode) String() string {
	switch m {
	case ReadOnly:
		return "read-only"
	case WriteOnly:
		return "write-only"
	case ReadWrite:
		return "read-write"
	case CopyOnWrite:
		return "copy-on-write"
	}
	return "unknown mode"
}

func modeOf(flag int) Mode {
	switch flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR) {
	case os.O_RDWR:
		return ReadWrite
	case os.O_WRONLY:
		return WriteOnly
	}
	return ReadOnly
}

// Open opens the named file for reading, as [os.Open] does.
func Open(name string, options ...Option) (*File, error) {
	return OpenFile(name, os.O_RDONLY, 0, options...)
}

// Create creates or truncates the named file and opens it for reading and
// writing, as [os.Create] does.
func Create(name string, options ...Option) (*File, error) {
	return OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666, options...)
}

// OpenFile opens the named file with the given flags, as [os.OpenFile] does:
// same flags, same permissions, same errors of type [*fs.PathError].
//
// An option that cannot be honoured is an error of type [*fs.PathError] too; it
// is returned before the file is opened or created. Only that a file system refuses the
// size of [WithSize], and errors of [WithAdvice] and [WithPrefault] on this file, are found
// out afterwards; the file is closed then.
func OpenFile(name string, flag int, perm fs.FileMode, options ...Option) (*File, error) {
	config, err := newConfig(name, flag, options)
	if err != nil {
		return nil, err
	}
	var file *os.File
	if flag&os.O_TRUNC != 0 {
		file, err = openTruncating(system{}, name, flag, perm)
	} else {
		file, err = os.OpenFile(name, flag, perm)
	}
	return finishOpen(file, err, flag, config)
}

// OpenInRoot opens name in the directory dir for reading, as [os.OpenInRoot]
// does: it is an error when name, or a symbolic link on the way, leads out of dir.
func OpenInRoot(dir, name string, options ...Option) (*File, error) {
	config, err := newConfig(name, os.O_RDONLY, options)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenInRoot(dir, name)
	return finishOpen(file, err, os.O_RDONLY, config)
}

// OpenFileInRoot opens the named file beneath root, as [os.Root.OpenFile] does: same
// flags, same permissions, same errors of type [*fs.PathError]. What leads out of root is
// an error, and so is a root that is nil: [os.ErrInvalid]. The File goes on when root is
// closed. Options are as for [OpenFile].
//
// The name of the File is that of root and name joined, as for os.Root, unless
// [WithName] says otherwise.
func OpenFileInRoot(root *os.Root, name string, flag int, perm fs.FileMode, options ...Option) (*File, error) {
	if root == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: os.ErrInvalid}
	}
	config, err := newConfig(name, flag, options)
	if err != nil {
		return nil, err
	}
	var file *os.File
	if flag&os.O_TRUNC != 0 {
		file, err = openTruncating(root, name, flag, perm)
	} else {
		file, err = root.OpenFile(name, flag, perm)
	}
	return finishOpen(file, err, flag, config)
}

// CreateTemp creates a new temporary file in the directory dir and opens it for
// reading and writing, as [os.CreateTemp] does. The caller removes it.
func CreateTemp(dir, pattern string, options ...Option) (*File, error) {
	config, err := newConfig(pattern, os.O_RDWR, options)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, pattern)
	f, finishErr := finishOpen(file, err, os.O_RDWR, config)
	if finishErr != nil && err == nil {
		_ = os.Remove(file.Name())
	}
	return f, finishErr
}

// finishOpen makes a File of what opening one returned.
func finishOpen(file *os.File, err error, flag int, config *config) (*File, error) {
	if err != nil {
		return nil, err
	}
	f := newFile(file, flag, config)
	if config.copyOnWrite {
		err = f.makePrivate(file, false)
	} else {
		err = f.start()
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// NewFile returns a File for the open descriptor fd, as [os.NewFile] does. It
// returns nil when fd is not a descriptor, or when an option cannot be honoured; if
// that is a size which the file system refuses, fd is closed.
//
// A descriptor that comes from elsewhere may be shared with other processes, so
// its own offset stays in use: see [File.Fd].
func NewFile(fd uintptr, name string, options ...Option) *File {
	flag := flagsOf(fd)
	config, err := newConfig(name, flag, options)
	if err != nil {
		return nil
	}
	file := os.NewFile(fd, name)
	if file == nil {
		return nil
	}
	f, err := adopt(file, flag, config)
	if err != nil {
		_ = file.Close()
		return nil
	}
	return f
}

// FromFile returns a File that uses file, which belongs to it from then on:
// the caller must neither use nor close it. [File.Detach] gives it back.
//
// Others may share the descriptor of file, so its own offset stays in use and
// sequential reads and writes are system calls: see [File.Fd]. Reads and writes
// at an offset use the mapping.
//
// FromFile returns [os.ErrInvalid] when file is nil, and an error of type
// [*fs.PathError] when an option cannot be honoured; file is then unchanged and
// still the caller's. Windows does not tell what a handle was opened for: Mode is
// ReadWrite there, and what the handle does not allow is an error when it is tried.
func FromFile(file *os.File, options ...Option) (*File, error) {
	if file == nil {
		return nil, os.ErrInvalid
	}
	var flag int
	if control(file, func(fd uintptr) { flag = flagsOf(fd) }) != nil {
		flag = os.O_RDWR // closed: every call says so
	}
	config, err := newConfig(file.Name(), flag, options)
	if err != nil {
		return nil, err
	}
	return adopt(file, flag, config)
}

// adopt makes a File of a file that others may share.
func adopt(file *os.File, flag int, config *config) (*File, error) {
	f := newFile(file, flag, config)
	if config.copyOnWrite {
		if err := f.makePrivate(file, true); err != nil {
			withdraw(&f.mapping, &f.cache.closed)
			return nil, err
		}
		return f, nil
	}
	f.share()
	if err := f.start(); err != nil {
		withdraw(&f.mapping, &f.cache.closed)
		return nil, err
	}
	return f, nil
}

func newFile(file *os.File, flag int, config *config) *File {
	f := &File{config: config, mode: modeOf(flag), flag: flag}
	f.file.Store(file)
	f.flusher = f.newFlusher(file)
	if config.huge {
		f.cache.controls.Store(&controls{huge: true})
	}
	if config.preallocate > 0 {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			f.tail = &tail{step: config.preallocate}
		}
	}
	if !supportsMapping || config.mapping == MapNever || f.mode == WriteOnly || flag&unmappableFlags != 0 ||
		f.mode == ReadWrite && !storesIntoMappings { // or it might not see what it has written itself
		f.cache.refused.Store(true)
		if f.tail == nil {
			f.offset.Store(inKernel)
			f.position.shared.Store(true)
		}
	}
	return f
}

// start does what the options ask for at once.
func (f *File) start() error {
	if err := f.setInitialSize(); err != nil {
		return err
	}
	if f.tail != nil {
		if file, err := f.inner(); err == nil && f.onHugetlbfs(file) {
			return f.fail("open", errHugeAllocated)
		}
	}
	return f.giveAdvice()
}

// giveAdvice does what WithAdvice and WithPrefault ask for.
func (f *File) giveAdvice() error {
	if !f.config.advised && !f.config.prefault {
		return nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if f.config.advised {
		err = f.Advise(0, math.MaxInt64, f.config.advice)
	}
	if err == nil && f.config.prefault {
		err = f.Prefault(0, math.MaxInt64)
	}
	return err
}

// setInitialSize does what WithSize asks for.
func (f *File) setInitialSize() error {
	if f.config.size == 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Size() != 0 {
		return err
	}
	return f.Truncate(f.config.size)
}

// inner returns the os.File that every true answer comes from.
func (f *File) inner() (*os.File, error) {
	if f == nil {
		return nil, os.ErrInvalid
	}
	file := f.file.Load()
	if file == nil {
		return nil, os.ErrInvalid
	}
	return file, nil
}

// Name returns the name of the file as it was given to the constructor, or to
// [WithName]. It may be called after Close. The name of a nil File is empty.
func (f *File) Name() string {
	file, err := f.inner()
	if err != nil {
		return ""
	}
	if f.config.name != "" {
		return f.config.name
	}
	return file.Name()
}

// named returns an error of the os.File inside as one of this File, which may have
// another name.
func (f *File) named(err error) error {
	if err == nil || f == nil || f.config == nil || f.config.name == "" {
		return err
	}
	failed, ok := err.(*fs.PathError) // in nothing else: that of a reader or a writer is left alone
	if !ok {
		return err
	}
	if file := f.file.Load(); file == nil || failed.Path != file.Name() {
		return err
	}
	return &fs.PathError{Op: failed.Op, Path: f.config.name, Err: failed.Err}
}

// Mode returns what the file was opened for.
func (f *File) Mode() Mode {
	if f == nil {
		return ReadOnly
	}
	return f.mode
}

// Size returns the length of the file in bytes at the moment of the call, without what
// is preallocated behind its end. The error is that of [File.Stat].
func (f *File) Size() (int64, error) {
	if f != nil {
		if file := f.file.Load(); file != nil && !f.cache.closed.Load() {
			if f.private != nil {
				return f.private.size, nil
			}
			if end, ok := f.tail.hides(file); ok {
				return end, nil
			}
		}
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Stat returns the [fs.FileInfo] of the file, as [os.File.Stat] does. If bytes
// were stored through the mapping, the modification time is moved first.
func (f *File) Stat() (fs.FileInfo, error) {
	file, err := f.inner()
	if err != nil {
		return nil, err
	}
	if f.private != nil {
		return f.statPrivate(file)
	}
	f.stamp()
	g := glimpseOf(f.mapping.Load())
	info, err := f.statTrimmed(file)
	if err == nil {
		f.sawEnd(g, info.Size())
	}
	return info, f.named(err)
}

// Truncate changes the size of the file, as [os.File.Truncate] does; it does not
// move the position. All Files of this process that have the same file open know
// of it at once.
func (f *File) Truncate(size int64) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	if f.private != nil {
		return f.openOr("truncate", f.fail("truncate", errPrivateTruncate))
	}
	if err := f.suspendTail(file); err != nil {
		return f.named(err)
	}
	defer f.resumeTail()
	if err := f.resize(file, size); err != nil {
		return f.named(err)
	}
	f.keepLocked(file)
	if f.flusher == nil {
		return nil
	}
	return f.flusher.count(0) // a size is written too
}

// Close closes the file, as [os.File.Close] does: reads and writes that are
// under way finish or return [os.ErrClosed], and so does every later call. The
// memory of the mapping is given up at once.
//
// With a [FlushPolicy] other than [Manual], what was written is flushed before. If that
// fails the error is returned, and the file is closed all the same. A call that writes
// and ends later, with its bytes written but not flushed, returns [os.ErrClosed].
func (f *File) Close() error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	withdraw(&f.mapping, &f.cache.closed)
	f.stamp()
	err = f.suspendTail(file) // for good
	if flushErr := f.endPolicy(true); err == nil {
		err = flushErr
	}
	closeErr := file.Close()
	if err == nil || errors.Is(err, fs.ErrClosed) {
		err = closeErr
	}
	return f.named(err)
}

// Detach takes the mapping away and returns the os.File inside, with its
// position where this File's is. The File is closed for every later call, but
// the descriptor stays open and belongs to the caller.
//
// What a [FlushPolicy] has not flushed yet is flushed before. If that fails the error is
// returned, and nothing has changed.
func (f *File) Detach() (*os.File, error) {
	file, err := f.inner()
	if err != nil {
		return nil, err
	}
	if control(file, func(uintptr) {}) != nil {
		return nil, f.fail("detach", fs.ErrClosed)
	}
	if err := f.endPolicy(false); err != nil {
		return nil, err
	}
	withdraw(&f.mapping, &f.cache.closed)
	f.stamp()
	if err := f.suspendTail(file); err != nil {
		return nil, f.named(err)
	}
	if f.private != nil {
		off, _ := f.claim(file)
		_, err := file.Seek(off, io.SeekStart)
		f.release(off)
		if err != nil {
			return nil, err
		}
	}
	f.share()
	if !f.file.CompareAndSwap(file, closedFile(file.Name())) {
		return nil, f.fail("detach", fs.ErrClosed)
	}
	return file, nil
}

// closedFile returns an os.File of that name which has been closed, so that
// whatever is asked of it has os's answer for a closed file.
func closedFile(name string) *os.File {
	file := os.NewFile(math.MaxInt32, name) // no system has that many descriptors
	_ = file.Close()
	return file
}

// OSFile returns the os.File inside, for calls that want one, such as
// [os/exec.Cmd.Stdin]. It stays this File's: do not close it. From then on the
// offset of the descriptor is the position of this File, as after [File.Fd].
func (f *File) OSFile() *os.File {
	file, err := f.inner()
	if err != nil {
		return nil
	}
	f.handOut()
	return file
}

// Fd returns the descriptor of the file, as [os.File.Fd] does. Its offset is made
// this File's position first; from then on sequential reads and writes, and Seek,
// use the descriptor's offset, because others can move it now. They are system
// calls then. Reads and writes at an offset go on using the mapping.
//
// The descriptor of a copy-on-write File shows the file, without the changes, and has an
// offset of its own: see [WithCopyOnWrite].
func (f *File) Fd() uintptr {
	file, err := f.inner()
	if err != nil {
		return ^uintptr(0)
	}
	f.handOut()
	return file.Fd()
}

// SyscallConn returns a raw connection to the file, as [os.File.SyscallConn]
// does. What holds for [File.Fd] holds from the first use of the connection on. With that
// of a copy-on-write File, only Control is possible; Read and Write are
// [errors.ErrUnsupported], because package net would have the kernel send the bytes of the
// descriptor.
func (f *File) SyscallConn() (syscall.RawConn, error) {
	file, err := f.inner()
	if err != nil {
		return nil, err
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, f.named(err)
	}
	return rawConn{f, conn}, nil
}

// rawConn hands the descriptor out when it is really used, not when it is asked for.
type rawConn struct {
	file *File
	conn syscall.RawConn
}

func (c rawConn) Control(f func(fd uintptr)) error {
	c.file.handOut()
	return c.conn.Control(f)
}

func (c rawConn) Read(f func(fd uintptr) (done bool)) error {
	if err := c.file.mayMove("read"); err != nil {
		return err
	}
	c.file.handOut()
	return c.conn.Read(f)
}

func (c rawConn) Write(f func(fd uintptr) (done bool)) error {
	if err := c.file.mayMove("write"); err != nil {
		return err
	}
	c.file.handOut()
	return c.conn.Write(f)
}

// handOut makes the file ready for others to use its descriptor. Errors show in
// what is done with the descriptor.
func (f *File) handOut() {
	f.stamp()
	if file, err := f.inner(); err == nil {
		_ = f.suspendTail(file) // for good
	}
	f.share()
}

// ReadDir reads the directory, as [os.File.ReadDir] does.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	file, err := f.inner()
	if err != nil {
		return nil, err
	}
	entries, err := file.ReadDir(n)
	return entries, f.named(err)
}

// Readdir reads the directory, as [os.File.Readdir] does.
func (f *File) Readdir(n int) ([]fs.FileInfo, error) {
	file, err := f.inner()
	if err != nil {
		return nil, err
	}
	infos, err := file.Readdir(n)
	return infos, f.named(err)
}

// Readdirnames reads the directory, as [os.File.Readdirnames] does.
func (f *File) Readdirnames(n int) ([]string, error) {
	file, err := f.inner()
	if err != nil {
		return nil, err
	}
	names, err := file.Readdirnames(n)
	return names, f.named(err)
}

// Chdir makes the directory the current one, as [os.File.Chdir] does.
func (f *File) Chdir() error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	return f.named(file.Chdir())
}

// Chmod changes the mode of the file, as [os.File.Chmod] does.
func (f *File) Chmod(mode fs.FileMode) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	return f.named(file.Chmod(mode))
}

// Chown changes the owner of the file, as [os.File.Chown] does.
func (f *File) Chown(uid, gid int) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	return f.named(file.Chown(uid, gid))
}

// SetDeadline sets the deadlines for reads and writes, as [os.File.SetDeadline]
// does. Only files that can be polled have deadlines; a file that can be mapped
// is none of them.
func (f *File) SetDeadline(t time.Time) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	return f.named(file.SetDeadline(t))
}

// SetReadDeadline sets the deadline for reads, as [os.File.SetReadDeadline] does.
func (f *File) SetReadDeadline(t time.Time) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	return f.named(file.SetReadDeadline(t))
}

// SetWriteDeadline sets the deadline for writes, as [os.File.SetWriteDeadline] does.
func (f *File) SetWriteDeadline(t time.Time) error {
	file, err := f.inner()
	if err != nil {
		return err
	}
	return f.named(file.SetWriteDeadline(t))
}
