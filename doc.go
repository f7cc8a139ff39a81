// Package mmapio gives files a mapped fast path. A [File] has the methods of
// [os.File] with the same results and the same errors, and serves small reads and
// writes by copying memory instead of asking the kernel:
//
//	f, err := mmapio.OpenFile("index", os.O_RDWR, 0)
//
// in place of os.OpenFile changes nothing in a program but its speed.
//
// # The idea
//
// The mapping is a cache of the file, never the file. A call is served by copying
// when its bytes lie inside the mapping and their pages are known to be in memory.
// Everything else (the end of the file, growth, a page that must be read from disk,
// a pipe or a folder, a closed File, no mapping to be had) is done by the os.File
// inside, which gives the operating system's own answer. So a mapping can be
// dropped or refused at any moment and no result depends on it.
//
// A file is mapped when that begins to pay: after some 16 reads or writes inside
// it. A File that is opened, read once and closed is never mapped.
//
// # Concurrency
//
// All methods may be called at the same time, Close included. A call that Close
// overtakes finishes or returns [os.ErrClosed].
//
// What one handle or process has written, all others see when the call returns, as
// with os.File, because a mapping shows the very pages that system calls use. File
// systems where that is not so are not mapped: see [MapAlways].
//
// Read and Write claim their bytes: parallel calls never read or write the same
// ones. Parallel reads and writes at the same offset may see or leave a mixture of
// both, byte by byte, as [io.WriterAt] allows.
//
// # Faults
//
// Somebody who makes a mapped file shorter, a full disk and a failing disk turn
// accesses to mapped memory into faults, which end a program. Here a fault inside a
// copy is caught and the call is repeated as a system call, whose error is
// returned: [io.EOF], ENOSPC, EIO. [debug.SetPanicOnFault] is set for the time of a
// copy and put back as it was.
//
// One thing cannot be caught. Linux does not tell a page fault of an error when a signal
// has come meanwhile, but begins again, and Go sends a signal to a goroutine that has run
// for 10 ms. When a page has left memory unnoticed and the disk takes longer than that to
// say that it cannot read it, the access waits until the disk answers otherwise or the
// File is closed, and so does a garbage collection that begins meanwhile. It is so with
// all mapped memory in Go. Here it takes a page that was in memory before: others are read
// by system calls, which return the error. With GODEBUG=asyncpreemptoff=1 there are no such
// signals, and the error is told.
//
// # Views
//
// [File.View] gives the bytes of a region without a copy, [File.Chunks] those of a whole
// file piece by piece, and [View.Uint64] and its siblings words that several goroutines
// and processes can use at once. Nothing copies here, so nothing can be repeated as a
// system call:
//
//   - A View keeps its memory until it is released, whatever becomes of its File. One
//     that is forgotten takes up address space for good.
//   - Where bytes below a View are cut off, its disk is full (storing into a hole) or
//     cannot be read, touching them ends the program, unless it is done in [View.Do],
//     [View.ReadAt], [View.WriteAt], [File.UpdateChunks] or [Guard], which return a
//     [*FaultError]. The rest of the last page is zeros, and stores there are lost.
//   - Windows does not cut files that have Views: Truncate is an error there.
//   - On systems without mappings there are no Views.
//
// # Cold data
//
// A page that is not in memory is read through the descriptor. A goroutine that
// waits for the disk then waits in a system call, and the others go on; waiting in a
// page fault, it would hold up one of the GOMAXPROCS processors. What is in memory is
// learned from calls that have been there and from mincore(2), and forgotten when
// the process begins to have major faults. Where more than one in sixteen reads waits for
// the disk, a mapping costs more than it brings: a file that is mapped automatically
// ([MapAuto]) is not then, and every read is what it is with os.File. That is tried anew
// every 1024 to 32768 calls.
//
// # Memory controls
//
// [File.Advise] tells the system how bytes are going to be used, [File.Lock] keeps them in
// memory, [File.Prefault] brings them in before they are needed, and [File.Resident] tells
// what is there. A [View] has the same for its own bytes. Ranges are widened to pages, and
// those of a File end with the file. Because the mapping is a cache that comes and goes, a
// File remembers what it was asked for and does it again when it is mapped anew or grows;
// [WithAdvice], [WithPrefault] and [WithHugePages] ask when it is opened. The default is no
// advice: system calls read ahead as the kernel sees fit, mapped memory does not.
//
// A File that is not mapped for itself ([MapNever], network file systems) can be advised
// and brought in through its descriptor, but not locked; a View of it can. What a system
// lacks is [errors.ErrUnsupported], a limit that is too low the errno of the kernel with the
// limit to raise. Huge pages are best effort: [File.HugePages] tells what came of them.
//
//   - Linux: everything.
//   - macOS, the BSDs, Solaris, illumos, AIX: advice as far as they have it, Lock,
//     Prefault. No LockOnFault, Resident and HugePages. None of it has been tested there.
//   - Windows: Lock, Prefault and [AdviceWillNeed].
//   - Plan 9, js, wasip1: Prefault, which reads the file.
//
// # Durability
//
// Write and WriteAt have the durability of their namesakes in os: none. When
// [File.Flush] returns nil, all bytes written to the File before, however that was done
// (Write, WriteAt, ReadFrom, Views, atomic words), are on stable storage, with what is
// needed to read them back, such as the size of the file. [File.FlushRange] and
// [View.Flush] promise that for a part of the file, and cost no more than that part where
// it is mapped. [File.Sync] promises what [os.File.Sync] does. [File.FlushAsync] has the
// kernel begin to write and promises nothing.
//
// [WithFlushPolicy] makes a File flush by itself: after each write ([Always]), after so
// many bytes ([EveryBytes]) or writes ([EveryWrites]), after some time ([Every]), or
// whichever of these comes first. Close flushes what is left then. The default, [Manual],
// does none of this.
//
// When a flush fails the kernel may throw away what it could not write, and tells so once
// only (see "Error reporting" in fsync(2)). So the error stays: Flush, FlushRange and
// View.Flush return it from then on, and under a policy other than Manual so do Write,
// WriteAt, ReadFrom, Sync and the first Close, until the file is opened anew.
//
// A preallocated tail stays during a flush: after a power cut, or when the process is
// killed, the file can be longer than what was written, and zero there;
// [File.TrailingZeros] finds out. Stores to a mapping can make the kernel write out more
// than a page: ext4 and XFS of recent kernels write out the large folio that the page is
// in, 1 MiB for example. Where few bytes are written between flushes, system calls are
// cheaper, and so the first few writes after a flush are system calls, and under [Always] all
// of them. Stores to the bytes of a View are stores.
//
// When a process is killed, what its calls had written when they returned is in the file,
// flushed or not. Of a write that was under way any of its bytes may be there, not only the
// first ones.
//
// The modification time of a file follows stores through the mapping within a
// second; Stat, Sync and Close of the File that stored do not return before it has, and Flush
// neither unless the time was moved less than 4 ms ago.
//
// # Where a File differs from an os.File
//
//   - A type switch or a parameter of type *os.File does not know it. [File.OSFile]
//     returns the one inside; [os/exec] needs it to hand a descriptor down, and
//     io.CopyN to an os.File to let the kernel copy.
//   - After another process, or this one around this package, has made a mapped file
//     shorter, bytes between the new end and the end of the page it lies in can be read as zeros, or written to no
//     effect, until this File is asked for the size, reads up to the new end or makes
//     another system call to read or write. Whole pages behind the new end are seen to be gone at
//     once, and so are all cuts made by this process through this package.
//   - Stores that are under way while another goroutine stores to the same bytes are
//     not serialised by the kernel.
//   - Copies from and to a mapping do not move the access time, make no event for
//     inotify and its like, and take no capabilities or setuid bits away from a file;
//     files that have such bits when they are mapped are written by system calls.
//   - A modification time that is set after a store stays, unless it is between the store
//     and the present: then it may be moved to the present once more, a second later or at
//     Stat, Flush, Sync or Close.
//   - A file in memory cannot be sealed against writing while it is mapped (F_SEAL_WRITE of
//     Linux is EBUSY then): use [MapNever].
//   - A hash that is being handed mapped bytes by [File.WriteTo] when somebody cuts
//     the file ends with a [*FaultError].
//   - With [WithPreallocate], others see a longer file for a while.
//   - On Windows a file cannot be made shorter by others while it is mapped: their
//     call fails with ERROR_USER_MAPPED_FILE. Truncate through this package works.
//
// Close has what os.File.Close has: in Go 1.26 on Windows it may wait for ever when several
// goroutines are in the middle of reads or writes by system calls on that file, because
// internal/poll then loses count of them.
//
// # Caveats
//
// A mapping needs address space. On 64-bit systems at most an eighth of what the
// kernel allows is in use, in number (vm.max_map_count) and in size (RLIMIT_AS). On
// 32-bit systems that is 256 MiB, and no file larger than 128 MiB is mapped. When
// the budget is used up, the oldest mappings make room for new ones. Address ranges
// of closed mappings are given back by the garbage collector.
//
// # Private copies
//
// With [WithCopyOnWrite] a File can be written to and the file stays as it is: only pages
// that are written to take up memory. Here the mapping is the truth. [File.Discard] goes
// back to what the file has, and [File.Commit] writes the changes to it.
//
// # Memory without a name
//
// [Anonymous] returns memory as a File: to work in, or to share with a child process.
//
// # Platforms
//
//   - Linux: everything above. Trusted are ext2 to ext4, XFS, Btrfs, F2FS, bcachefs,
//     tmpfs, FAT, ISO 9660, SquashFS, EROFS, ZFS (without mincore) and, for files opened
//     for reading and writing, overlayfs.
//   - macOS, FreeBSD, DragonFly: local file systems. Without mincore, only what was
//     read or written before counts as in memory.
//   - Windows: local volumes. Growth needs a new mapping. Faults are not relied upon.
//   - NetBSD, OpenBSD, Solaris, illumos, AIX: mapped only when asked for with
//     [MapAlways], and only if opened for reading only. Do not ask for it, nor for a
//     View, on OpenBSD while somebody writes to the file: mappings and system calls do
//     not see the same bytes there.
//   - Plan 9, js, wasip1: never mapped.
//
// [debug.SetPanicOnFault]: https://pkg.go.dev/runtime/debug#SetPanicOnFault
package mmapio
