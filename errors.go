package mmapio

import (
	"errors"
	"fmt"
	"io/fs"
)

// errInvalidWrite is io's answer to a Writer that says it wrote what it cannot have.
var errInvalidWrite = errors.New("invalid write result")

// FaultError says that memory of a mapped file could not be accessed: somebody
// made the file shorter, its disk is full, or it cannot be read. It comes inside
// an [*io/fs.PathError] that names the file.
type FaultError struct {
	Offset int64 // where in the file, in bytes
}

// Error returns a text with the offset.
func (e *FaultError) Error() string {
	return fmt.Sprintf("memory fault at offset %d: the file was cut or cannot be read", e.Offset)
}

func (f *File) faultError(op string, off int64) error {
	return &fs.PathError{Op: op, Path: f.Name(), Err: &FaultError{Offset: off}}
}
