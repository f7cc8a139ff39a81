// Package watch tells when a file changes: its content, its size, its metadata, or
// which file has its name.
//
//	w, err := watch.File(ctx, f)
//	if err != nil {
//		return err
//	}
//	defer w.Close()
//	for event := range w.Events {
//		fmt.Println(event)
//	}
//
// It uses the events of the system through github.com/fsnotify/fsnotify, and looks at
// the file from time to time where there are none. What is watched is the name: when
// an editor or a log rotation puts another file in its place, that is an event, and
// the other file is watched from then on. The folder of the file may go and come back
// too, and the name may be a symbolic link, or lead through some.
//
// # Writes through a mapping
//
// No system has events for stores into mapped memory. [WithContent] finds them: it
// compares the content of the file at an interval, by one hash of 64 bits for every
// block, and names the blocks that differ. Without it, such writes show as [Modified]
// when the system moves the modification time, if it does and when it does.
//
// # What is told
//
// Changes that follow each other within the quiet time of [WithQuiet] are told as one:
// what differs between before and after, and no state between. So it is with all that
// happens while the receiver is busy: nothing waits in a queue but the events of one
// look at the file, and the next look finds the difference to what was told. A file that
// is replaced and removed again meanwhile is Removed, and one that is removed and put
// back is [Replaced]. What the system could not tell is an [Overflow].
//
// Nothing that happens after a watch has begun is left out, but for what polling cannot see:
// see below. What was written just before may
// be told too, and once more what was told already: an event says that something was
// written, not when.
//
// # Where there are no events
//
// A Watch looks at the file at the interval of [WithInterval] instead
//
//   - on file systems that others can change without this machine knowing: NFS, SMB,
//     9p, FUSE, Ceph, AFS and such, and on those of the kernel, as /proc;
//   - when the system has no watch to give, such as when fs.inotify.max_user_watches or
//     fs.inotify.max_user_instances is used up. It tries again every ten seconds;
//   - where fsnotify has no events: js, wasip1, Plan 9, AIX;
//   - [WithPolling].
//
// [Watch.Mode] tells which it is, and [Watch.Fallback] why.
//
// With events, the file is looked at too, every two seconds, for what events
// do not tell: folders further up that are renamed or mounted over, writes through
// a hard link in another folder where the system has no watch for files, times that
// the system moves on its own.
//
// Polling tells the same as events with two exceptions, unless the content is compared.
// Setting the modification time looks like writing, and is Modified. And a write that leaves
// the size as it is, so soon after the file was looked at that the file system has no other
// time for it, is not seen: that is up to two seconds on FAT, some milliseconds on Linux
// before 6.13, and whatever the server has on a remote file system.
//
// # Platforms
//
//   - Linux: one inotify instance for the process and one watch for each folder; also
//     one for each file with several hard links, and each that is a mount point.
//     Attributes and times that are set are [Metadata].
//   - macOS and BSD: kqueue, which needs a descriptor for every file in a watched folder.
//   - Windows: ReadDirectoryChangesW. It does not tell of attributes, which are found
//     within two seconds, and setting the modification time is Modified unless the content
//     is compared. While a folder is watched, folders above it cannot be renamed.
//   - illumos: event ports.
//
// # Cost
//
// A Watch has one goroutine and no descriptor. All of them share one fsnotify.Watcher, which
// is closed a tenth of a second after the last of them has ended. Comparing takes 8 bytes of
// memory for each block, and reads and hashes the whole file each time, changed or not: see
// [WithContent].
package watch
