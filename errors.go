package mmapio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Errors to look for with [errors.Is]. They come inside an [*io/fs.PathError] that names
// the operation and the file.
var (
	// ErrOutOfRange: a range that is not inside the file, or not inside the View. The
	// error is a [*RangeError].
	ErrOutOfRange = errors.New("out of range")
	// ErrMisaligned: an offset that is no multiple of what it must be. The error is an
	// [*AlignError].
	ErrMisaligned = errors.New("misaligned")
	// ErrFault: memory of a mapped file could not be accessed. The error is a
	// [*FaultError].
	ErrFault = errors.New("memory fault")
	// ErrReadOnly: memory that cannot be stored to. Such an error is a
	// [fs.ErrPermission] too.
	ErrReadOnly error = readOnlyError{}
)

var (
	// errInvalidWrite is io's answer to a Writer that says it wrote what it cannot have.
	errInvalidWrite = errors.New("invalid write result")
	errNoMappings   = fmt.Errorf("no mappings on this system: %w", errors.ErrUnsupported)
	errNotReadable  = notReadableError{}
	errNotRegular   = errors.New("only regular files can be mapped")
	errReleased     = fmt.Errorf("released: %w", fs.ErrClosed)
)

// notReadableError says that a file cannot be mapped because it was opened for writing only.
type notReadableError struct{}

func (notReadableError) Error() string { return "mapping needs a file that is opened for reading too" }

func (notReadableError) Is(target error) bool { return target == fs.ErrPermission }

// innerError returns what went wrong, without operation and name.
func innerError(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	return err
}

// RangeError says that a range is not inside of what it must be in. It is an
// [ErrOutOfRange] and an [os.ErrInvalid].
type RangeError struct {
	Offset int64 // where the range begins, in bytes
	Length int64 // how long it is
	Size   int64 // how long the file, or the View, is
}

// Error returns a text with the range and the size.
func (e *RangeError) Error() string {
	if e.Offset < 0 || e.Length < 0 {
		return fmt.Sprintf("negative range: %d bytes at offset %d", e.Length, e.Offset)
	}
	return fmt.Sprintf("%d bytes at offset %d are not inside %d bytes", e.Length, e.Offset, e.Size)
}

// Is reports whether target is ErrOutOfRange or os.ErrInvalid.
func (e *RangeError) Is(target error) bool { return target == ErrOutOfRange || target == os.ErrInvalid }

// checkRange returns a *RangeError unless the n bytes at off are inside size bytes.
func checkRange(off, n, size int64) error {
	if off < 0 || n < 0 || off > size-n {
		return &RangeError{Offset: off, Length: n, Size: size}
	}
	return nil
}

// AlignError says that an offset is not a multiple of what it must be. It is an
// [ErrMisaligned] and an [os.ErrInvalid].
type AlignError struct {
	Offset int64 // in the file, in bytes
	Align  int64 // what it must be a multiple of
}

// Error returns a text with the offset and the alignment.
func (e *AlignError) Error() string {
	return fmt.Sprintf("offset %d of the file is no multiple of %d", e.Offset, e.Align)
}

// Is reports whether target is ErrMisaligned or os.ErrInvalid.
func (e *AlignError) Is(target error) bool { return target == ErrMisaligned || target == os.ErrInvalid }

// FaultError says that memory of a mapped file could not be accessed: somebody
// made the file shorter, its disk is full, it cannot be read, or the program stored to
// memory that is for reading only. It is an [ErrFault], and comes inside an
// [*io/fs.PathError] that names the file.
type FaultError struct {
	Offset   int64 // where in the file, in bytes; s390x tells the start of the page
	ReadOnly bool  // the memory was for reading only
}

// Error returns a text with the offset.
func (e *FaultError) Error() string {
	if e.ReadOnly {
		return fmt.Sprintf("memory fault at offset %d: the file was cut, cannot be read, or was stored to although its memory is read-only", e.Offset)
	}
	return fmt.Sprintf("memory fault at offset %d: the file was cut, its disk is full, or it cannot be read", e.Offset)
}

// Is reports whether target is ErrFault.
func (e *FaultError) Is(target error) bool { return target == ErrFault }

type readOnlyError struct{}

func (readOnlyError) Error() string {
	return "memory is read-only: open the file for reading and writing, without O_APPEND and O_SYNC, and take away setuid and setgid bits"
}

func (readOnlyError) Is(target error) bool { return target == fs.ErrPermission }

func (f *File) faultError(op string, off int64) error {
	return &fs.PathError{Op: op, Path: f.Name(), Err: &FaultError{Offset: off, ReadOnly: f.mode == ReadOnly}}
}

// fault returns what happened at an address of the mapping.
func (e *entry) fault(op string, address uintptr) error {
	return &fs.PathError{Op: op, Path: e.name, Err: &FaultError{Offset: e.off + int64(address-e.address), ReadOnly: !e.writable}}
}

// fail returns err as an error of the file.
func (f *File) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.Name(), Err: err}
}
