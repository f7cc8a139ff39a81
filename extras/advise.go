package extras

import "github.com/mmapio/mmapio"

// Adviser is what can be told how its bytes will be used: see [mmapio.File.Advise].
type Adviser interface {
	Advise(off, n int64, advice mmapio.Advice) error
}

var (
	_ Adviser = (*mmapio.File)(nil)
	_ Adviser = (*mmapio.View)(nil)
)

// Advise tells the system how the n bytes at off of file will be used, if file is an
// [Adviser] or wraps one, and is [errors.ErrUnsupported] otherwise. Other errors are
// those of [mmapio.File.Advise].
func Advise(file any, off, n int64, advice mmapio.Advice) error {
	f, err := find[Adviser](file, "takes no advice")
	if err != nil {
		return err
	}
	return f.Advise(off, n, advice)
}
