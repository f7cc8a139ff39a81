package extras

import "github.com/mmapio/mmapio"

// Locker is what can be kept in memory: see [mmapio.File.Lock].
type Locker interface {
	Lock(off, n int64) error
	LockOnFault(off, n int64) error
	Unlock(off, n int64) error
	LockAll() error
	UnlockAll() error
}

var (
	_ Locker = (*mmapio.File)(nil)
	_ Locker = (*mmapio.View)(nil)
)

const noLocks = "cannot be locked in memory"

// Lock keeps the n bytes at off of file in memory, if file is a [Locker] or wraps one, and
// is [errors.ErrUnsupported] otherwise. Other errors are those of [mmapio.File.Lock].
func Lock(file any, off, n int64) error {
	f, err := find[Locker](file, noLocks)
	if err != nil {
		return err
	}
	return f.Lock(off, n)
}

// LockOnFault is as [Lock], for bytes that are kept from when they are first used on.
func LockOnFault(file any, off, n int64) error {
	f, err := find[Locker](file, noLocks)
	if err != nil {
		return err
	}
	return f.LockOnFault(off, n)
}

// Unlock ends what [Lock] and [LockOnFault] began, for the n bytes at off.
func Unlock(file any, off, n int64) error {
	f, err := find[Locker](file, noLocks)
	if err != nil {
		return err
	}
	return f.Unlock(off, n)
}

// LockAll is as [Lock], for all bytes, and those that a file grows by.
func LockAll(file any) error {
	f, err := find[Locker](file, noLocks)
	if err != nil {
		return err
	}
	return f.LockAll()
}

// UnlockAll ends every lock.
func UnlockAll(file any) error {
	f, err := find[Locker](file, noLocks)
	if err != nil {
		return err
	}
	return f.UnlockAll()
}
