package watch

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

const watchesFiles = false

func explain(err error) error { return err }

// open opens a file so that others can rename and remove it meanwhile, which os.Open
// does not.
func open(name string, access uint32) (*os.File, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	handle, err := windows.CreateFile(path, access,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(handle), name), nil
}

// looksSame reports whether the file is as it was, without opening it: nobody can rename another
// file over one that is open, or remove it for good.
func looksSame(name string, s *state) bool {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return false
	}
	var now windows.Win32FileAttributeData
	err = windows.GetFileAttributesEx(path, windows.GetFileExInfoStandard, (*byte)(unsafe.Pointer(&now)))
	if err != nil {
		return !s.exists && (err == windows.ERROR_FILE_NOT_FOUND || err == windows.ERROR_PATH_NOT_FOUND)
	}
	return s.exists && !s.foreign && now.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT == 0 &&
		s.size == int64(now.FileSizeHigh)<<32|int64(now.FileSizeLow) &&
		s.written == now.LastWriteTime.Nanoseconds() && s.created == now.CreationTime.Nanoseconds() &&
		s.mode == now.FileAttributes&^windows.FILE_ATTRIBUTE_ARCHIVE
}

func openToRead(name string) (*os.File, error) {
	return open(name, windows.GENERIC_READ)
}

func stat(name string) (state, error) {
	file, err := open(name, windows.FILE_READ_ATTRIBUTES)
	if err == windows.ERROR_ACCESS_DENIED {
		// Removed, but still open somewhere: there is no such file for anybody.
		if _, statErr := os.Stat(name); statErr != nil {
			err = windows.ERROR_FILE_NOT_FOUND
		}
	}
	if err != nil {
		return state{}, err
	}
	defer file.Close()
	return statFile(file)
}

func statFile(file *os.File) (state, error) {
	var s windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(file.Fd()), &s); err != nil {
		return state{}, err
	}
	// The time of creation does not tell files apart: anybody can set it, and the system
	// gives a new file that of one of the same name that has just been removed. The index
	// tells how often it was used before.
	return state{
		regular: s.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY == 0,
		device:  uint64(s.VolumeSerialNumber),
		inode:   uint64(s.FileIndexHigh)<<32 | uint64(s.FileIndexLow),
		size:    int64(s.FileSizeHigh)<<32 | int64(s.FileSizeLow),
		written: s.LastWriteTime.Nanoseconds(),
		created: s.CreationTime.Nanoseconds(),
		mode:    s.FileAttributes &^ windows.FILE_ATTRIBUTE_ARCHIVE, // which a write sets
		links:   uint64(s.NumberOfLinks),
	}, nil
}
