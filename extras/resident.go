package extras

import "github.com/mmapio/mmapio"

// Prefaulter is what can be brought into memory: see [mmapio.File.Prefault].
type Prefaulter interface {
	Prefault(off, n int64) error
}

// Resident is what knows how much of it is in memory: see [mmapio.File.Resident].
type Resident interface {
	Resident(off, n int64) (mmapio.Residency, error)
}

var (
	_ Prefaulter = (*mmapio.File)(nil)
	_ Prefaulter = (*mmapio.View)(nil)
	_ Resident   = (*mmapio.File)(nil)
	_ Resident   = (*mmapio.View)(nil)
)

// Prefault brings the n bytes at off of file into memory, if it is a [Prefaulter] or
// wraps one, and is [errors.ErrUnsupported] otherwise.
func Prefault(file any, off, n int64) error {
	f, err := find[Prefaulter](file, "cannot be brought into memory")
	if err != nil {
		return err
	}
	return f.Prefault(off, n)
}

// Residency returns which of the n bytes at off of file are in memory, if it is
// [Resident] or wraps what is, and [errors.ErrUnsupported] otherwise.
func Residency(file any, off, n int64) (mmapio.Residency, error) {
	f, err := find[Resident](file, "does not know what is in memory")
	if err != nil {
		return mmapio.Residency{}, err
	}
	return f.Resident(off, n)
}
