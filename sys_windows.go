package mmapio

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	leastGranularity   = 64 << 10
	supportsMapping    = true
	supportsStamp      = true
	pinsCopies         = true  // recovering from a fault has an open bug in the runtime: golang/go#81238
	mustUnmapToResize  = true  // the size of a mapped file cannot be set
	reservesAhead      = false // a view cannot reach beyond the end of the file
	seesFaults         = false
	syncCoversMappings = false

	unmappableFlags      = 0
	unmappableWriteFlags = os.O_APPEND | os.O_SYNC
)

// mapFile maps length bytes of the file fd from off on, which is a multiple of
// mapGranularity.
func mapFile(fd uintptr, off int64, length uintptr, access access) (unsafe.Pointer, error) {
	protect, right := uint32(windows.PAGE_READONLY), uint32(windows.FILE_MAP_READ)
	switch access {
	case toStore:
		protect, right = windows.PAGE_READWRITE, windows.FILE_MAP_READ|windows.FILE_MAP_WRITE
	case private:
		protect, right = windows.PAGE_WRITECOPY, windows.FILE_MAP_COPY
	}
	// Zero length means the size of the file: asking for more would make it longer.
	section, err := windows.CreateFileMapping(windows.Handle(fd), nil, protect, 0, 0, nil)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(section)
	address, err := windows.MapViewOfFile(section, right, uint32(uint64(off)>>32), uint32(off), length)
	if err != nil && off == 0 {
		// Nor can a view be asked for that ends inside the last page but is rounded up
		// to it: zero length means to the end.
		address, err = windows.MapViewOfFile(section, right, 0, 0, 0)
	}
	if err != nil {
		return nil, err
	}
	// The file may have become shorter since it was asked for its size.
	var region windows.MemoryBasicInformation
	if err := windows.VirtualQuery(address, &region, unsafe.Sizeof(region)); err != nil || region.RegionSize < length {
		return nil, errors.Join(windows.ERROR_INVALID_PARAMETER, windows.UnmapViewOfFile(address))
	}
	return *(*unsafe.Pointer)(unsafe.Pointer(&address)), nil
}

// mapAt is not used here: see reservesAhead.
func mapAt(fd uintptr, off int64, address, length uintptr, access access) error {
	return errors.ErrUnsupported
}

// seal is not used here: see pinsCopies.
func seal(address, length uintptr) error { return errors.ErrUnsupported }

func unmap(address, length uintptr) error { return windows.UnmapViewOfFile(address) }

func majorFaults() int64 { return 0 }

func outOfAddresses(err error) bool {
	return errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) || errors.Is(err, windows.ERROR_COMMITMENT_LIMIT)
}

// flagsOf cannot tell what a handle was opened for. Whatever it does not allow
// fails when it is tried.
func flagsOf(fd uintptr) int { return os.O_RDWR }

// trustOf trusts volumes of this machine.
func trustOf(fd uintptr, info fs.FileInfo, mode Mode) trust {
	var remote [116]byte // FILE_REMOTE_PROTOCOL_INFO
	err := windows.GetFileInformationByHandleEx(windows.Handle(fd), windows.FileRemoteProtocolInfo, &remote[0], uint32(len(remote)))
	return trust{mappings: err != nil} // a local file has no remote protocol
}

func residentPages(address, length uintptr, found func(at, n uintptr)) {}

// stamp sets the modification time of the file to now.
func stamp(fd uintptr) error {
	now := windows.NsecToFiletime(time.Now().UnixNano())
	return windows.SetFileTime(windows.Handle(fd), nil, nil, &now)
}

// writeBack hands stored bytes to the file; FlushFileBuffers makes them durable.
func writeBack(address, length uintptr, _ bool) error {
	return windows.FlushViewOfFile(address, length)
}

// fileID is the same for all files: what identifies one only os knows.
type fileID struct{}

func fileIDOf(info fs.FileInfo) fileID { return fileID{} }

func addressLimits() (mappings int, bytes int64) { return defaultMappings, defaultAddressSpace }

// errMapped is the error of cutting a file that is mapped.
const errMapped = windows.ERROR_USER_MAPPED_FILE

// openAnonymous opens a file that is removed when its last handle is closed.
func openAnonymous(name string) (*os.File, error) {
	for {
		path, err := windows.UTF16PtrFromString(filepath.Join(os.TempDir(), "mmapio-"+rand.Text()))
		if err != nil {
			return nil, err
		}
		handle, err := windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.CREATE_NEW,
			windows.FILE_ATTRIBUTE_TEMPORARY|windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
		if err == windows.ERROR_FILE_EXISTS {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(handle), name), nil
	}
}

func discard(fd uintptr, off int64, address, length uintptr) error { return errors.ErrUnsupported }

// keepOwner does nothing: a new file belongs to whom its folder says.
func keepOwner(file *os.File, info fs.FileInfo) {}

// madviseNumber knows the one advice that there is.
func madviseNumber(a Advice) (number int, ok bool) { return 0, a == AdviceWillNeed }

var prefetchVirtualMemory = windows.NewLazySystemDLL("kernel32.dll").NewProc("PrefetchVirtualMemory") // Windows 8

func advise(address, length uintptr, advice Advice) error {
	if err := prefetchVirtualMemory.Find(); err != nil {
		return errors.Join(errors.ErrUnsupported, err)
	}
	region := [2]uintptr{address, length} // WIN32_MEMORY_RANGE_ENTRY
	ok, _, err := prefetchVirtualMemory.Call(uintptr(windows.CurrentProcess()), 1, uintptr(unsafe.Pointer(&region)), 0)
	if ok == 0 {
		return err
	}
	return nil
}

const lockLimitName = "the size of the working set (SetProcessWorkingSetSize)"

func lock(address, length uintptr, onFault bool) error {
	if onFault {
		return errors.ErrUnsupported
	}
	return windows.VirtualLock(address, length)
}

func unlock(address, length uintptr) error { return windows.VirtualUnlock(address, length) }

// isLockLimit reports whether memory could not be locked because the working set is too
// small: see VirtualLock.
func isLockLimit(err error) bool {
	return errors.Is(err, windows.ERROR_WORKING_SET_QUOTA) || errors.Is(err, windows.ERROR_NO_SYSTEM_RESOURCES) ||
		errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) || errors.Is(err, windows.ERROR_PRIVILEGE_NOT_HELD)
}
