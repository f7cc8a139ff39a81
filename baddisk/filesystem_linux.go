package baddisk

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// fileSystem is one folder of files in memory.
type fileSystem struct {
	fuse.RawFileSystem
	mode Mode

	mu     sync.Mutex
	server *fuse.Server
	change *sync.Cond // of orders
	names  map[string]*node
	nodes  map[uint64]*node
	last   uint64   // node
	orders []*order // in force
	made   []*order // ever
}

// node is a file.
type node struct {
	id     uint64
	name   string
	mode   uint32
	data   []byte
	synced []byte // data at the last fsync
	mtime  time.Time
}

// longestHold bounds how long a request is held: a program that is being ended cannot
// cancel the order, and does not end before its request is answered.
const longestHold = time.Minute

// timeout is how long the kernel may rely on what it was told of names and attributes:
// nobody but the kernel changes them.
const timeout = time.Hour

func newFileSystem(mode Mode) *fileSystem {
	s := &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		mode:          mode,
		names:         make(map[string]*node),
		nodes:         make(map[uint64]*node),
		last:          fuse.FUSE_ROOT_ID,
	}
	s.change = sync.NewCond(&s.mu)
	return s
}

// mount puts the file system at dir and serves it.
func (s *fileSystem) mount(dir string) error {
	options := fuse.MountOptions{
		FsName:                   "baddisk",
		Name:                     "baddisk",
		DirectMountStrict:        true,
		DisableXAttrs:            true,
		ExplicitDataCacheControl: true, // pages leave memory when that is ordered
		// Readahead is of one page, so that which requests there are depends on what is
		// read and not on what was read before.
		MaxReadAhead: syscall.Getpagesize(),
		// Requests that are held do not keep others from being made.
		MaxBackground: 1000,
	}
	switch s.mode {
	case CachedWrites:
		options.ExtraCapabilities = fuse.CAP_WRITEBACK_CACHE
	case Direct:
		options.ExtraCapabilities = fuse.CAP_DIRECT_IO_ALLOW_MMAP
	}
	server, err := fuse.NewServer(s, dir, &options)
	if err != nil {
		return err
	}
	go server.Serve()
	return server.WaitMount()
}

func (s *fileSystem) Init(server *fuse.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
}

func (s *fileSystem) String() string { return "baddisk" }

// meet does what has been ordered for a request. It returns the error that the request
// fails with, and how many bytes a read yields.
func (s *fileSystem) meet(op Op, n *node, off, length int64) (syscall.Errno, int64) {
	s.mu.Lock()
	var met *order
	for _, o := range s.orders {
		if o.hit(op, n.name, off, length) {
			met = o
			break
		}
	}
	s.change.Broadcast()
	s.mu.Unlock()
	if met == nil {
		return 0, length
	}
	if met.Delay > 0 {
		timer := time.NewTimer(met.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-met.cancelled:
		}
	}
	if met.Hold {
		timer := time.NewTimer(longestHold)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-met.cancelled:
		}
	}
	if met.Short {
		return 0, max(met.Off-off, 0)
	}
	return met.Errno, length
}

// node returns a file by its number.
func (s *fileSystem) node(id uint64) (*node, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.nodes[id]
	return n, ok
}

// attributes fills in those of a file. The caller holds mu.
func (n *node) attributes(out *fuse.Attr) {
	out.Ino = n.id
	out.Mode = syscall.S_IFREG | n.mode
	out.Nlink = 1
	out.Size = uint64(len(n.data))
	out.Blocks = (out.Size + 511) / 512
	out.Blksize = 4096
	out.SetTimes(nil, &n.mtime, &n.mtime)
}

func (n *node) entry(out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	out.SetEntryTimeout(timeout)
	out.SetAttrTimeout(timeout)
	n.attributes(&out.Attr)
}

func (s *fileSystem) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.names[name]
	if !ok {
		return fuse.ENOENT
	}
	n.entry(out)
	return fuse.OK
}

func (s *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == fuse.FUSE_ROOT_ID {
		out.Attr = fuse.Attr{Ino: fuse.FUSE_ROOT_ID, Mode: syscall.S_IFDIR | 0o777, Nlink: 2}
		out.SetTimeout(timeout)
		return fuse.OK
	}
	n, ok := s.node(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	if errno, _ := s.meet(Stat, n, 0, 0); errno != 0 {
		return fuse.Status(errno)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.SetTimeout(timeout)
	n.attributes(&out.Attr)
	return fuse.OK
}

func (s *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, ok := s.node(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	size, resizes := in.GetSize()
	if resizes {
		if errno, _ := s.meet(Resize, n, 0, 0); errno != 0 {
			return fuse.Status(errno)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if resizes {
		n.resize(int64(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = mode
	}
	if mtime, ok := in.GetMTime(); ok {
		n.mtime = mtime
	}
	out.SetTimeout(timeout)
	n.attributes(&out.Attr)
	return fuse.OK
}

// resize sets the size of the file. The caller holds mu.
func (n *node) resize(size int64) {
	if old := int64(len(n.data)); size > old {
		n.data = slices.Grow(n.data, int(size-old))[:size]
		clear(n.data[old:])
	}
	n.data = n.data[:size]
	n.mtime = time.Now()
}

func (s *fileSystem) openFlags() uint32 {
	if s.mode == Direct {
		return fuse.FOPEN_DIRECT_IO
	}
	return fuse.FOPEN_KEEP_CACHE
}

func (s *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, ok := s.node(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	if errno, _ := s.meet(Open, n, 0, 0); errno != 0 {
		return fuse.Status(errno)
	}
	out.OpenFlags = s.openFlags()
	return fuse.OK
}

func (s *fileSystem) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	n := &node{name: name, mode: in.Mode & 0o7777, mtime: time.Now()}
	if errno, _ := s.meet(Open, n, 0, 0); errno != 0 {
		return fuse.Status(errno)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	n.id = s.last
	s.names[name], s.nodes[n.id] = n, n
	n.entry(&out.EntryOut)
	out.OpenOut.OpenFlags = s.openFlags()
	return fuse.OK
}

func (s *fileSystem) Unlink(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.names[name]; !ok {
		return fuse.ENOENT
	}
	delete(s.names, name) // those who have it open go on
	return fuse.OK
}

func (s *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.names[from]
	if !ok {
		return fuse.ENOENT
	}
	delete(s.names, from)
	n.name, s.names[to] = to, n
	return fuse.OK
}

func (s *fileSystem) Forget(id, _ uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.nodes[id]; ok && s.names[n.name] != n {
		delete(s.nodes, id)
	}
}

func (s *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buffer []byte) (fuse.ReadResult, fuse.Status) {
	n, ok := s.node(in.NodeId)
	if !ok {
		return nil, fuse.ENOENT
	}
	errno, length := s.meet(Read, n, int64(in.Offset), int64(in.Size))
	if errno != 0 {
		return nil, fuse.Status(errno)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := min(int64(in.Offset), int64(len(n.data)))
	count := copy(buffer[:length], n.data[from:])
	return fuse.ReadResultData(buffer[:count]), fuse.OK
}

func (s *fileSystem) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n, ok := s.node(in.NodeId)
	if !ok {
		return 0, fuse.ENOENT
	}
	op := Write
	if in.WriteFlags&fuse.WRITE_CACHE != 0 {
		op = WriteBack
	}
	errno, _ := s.meet(op, n, int64(in.Offset), int64(len(data)))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errno == 0:
		n.write(data, int64(in.Offset))
	case op == WriteBack:
		// How many pages the kernel writes back at once is its own affair: the good ones of
		// them are written.
		for at := 0; at < len(data); at += syscall.Getpagesize() {
			piece := data[at:min(at+syscall.Getpagesize(), len(data))]
			off := int64(in.Offset) + int64(at)
			if !slices.ContainsFunc(s.orders, func(o *order) bool { return o.covers(op, n.name, off, int64(len(piece))) }) {
				n.write(piece, off)
			}
		}
		return 0, fuse.Status(errno)
	default:
		return 0, fuse.Status(errno)
	}
	return uint32(len(data)), fuse.OK
}

// write writes b at off. The caller holds mu.
func (n *node) write(b []byte, off int64) {
	if end := off + int64(len(b)); end > int64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[off:], b)
	n.mtime = time.Now()
}

func (s *fileSystem) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS // Write is called
}

func (s *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, ok := s.node(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	if errno, _ := s.meet(Fsync, n, 0, 0); errno != 0 {
		return fuse.Status(errno)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.synced = slices.Clone(n.data)
	return fuse.OK
}

func (s *fileSystem) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	n, ok := s.node(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	errno, _ := s.meet(Flush, n, 0, 0)
	return fuse.Status(errno)
}

func (s *fileSystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	n, ok := s.node(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	if in.Mode != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	if errno, _ := s.meet(Allocate, n, int64(in.Offset), int64(in.Length)); errno != 0 {
		return fuse.Status(errno)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.resize(max(int64(len(n.data)), int64(in.Offset+in.Length)))
	return fuse.OK
}

// Lseek finds that everything is data.
func (s *fileSystem) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	const seekData = 3
	n, ok := s.node(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	if errno, _ := s.meet(Seek, n, 0, 0); errno != 0 {
		return fuse.Status(errno)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	size := uint64(len(n.data))
	if in.Offset >= size {
		return fuse.Status(syscall.ENXIO)
	}
	out.Offset = size
	if in.Whence == seekData {
		out.Offset = in.Offset
	}
	return fuse.OK
}

func (s *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, Blocks: 1 << 20, Bfree: 1 << 19, Bavail: 1 << 19, NameLen: 255}
	return fuse.OK
}
