package extras

import "github.com/mmapio/mmapio"

// Committer is what keeps changes to itself until they are committed: see
// [mmapio.WithCopyOnWrite].
type Committer interface {
	Commit() error
	Discard(off, n int64) error
}

var _ Committer = (*mmapio.File)(nil)

// Commit writes what was changed back to the file, if file is a [Committer] or wraps one,
// and is [errors.ErrUnsupported] otherwise.
func Commit(file any) error {
	f, err := find[Committer](file, "has nothing to commit")
	if err != nil {
		return err
	}
	return f.Commit()
}

// Discard gives up changes of the n bytes at off, if file is a [Committer] or wraps one,
// and is [errors.ErrUnsupported] otherwise.
func Discard(file any, off, n int64) error {
	f, err := find[Committer](file, "has nothing to discard")
	if err != nil {
		return err
	}
	return f.Discard(off, n)
}
