package extras

import "github.com/mmapio/mmapio"

// HugePager is what knows how much of its memory is made of huge pages: see
// [mmapio.File.HugePages].
type HugePager interface {
	HugePages() (bytes int64, err error)
}

var (
	_ HugePager = (*mmapio.File)(nil)
	_ HugePager = (*mmapio.View)(nil)
)

// HugePages returns how many bytes of file are mapped by huge pages now, if it is a
// [HugePager] or wraps one, and [errors.ErrUnsupported] otherwise. To ask for huge pages,
// advise [mmapio.AdviceHugePage]: see [Advise].
func HugePages(file any) (int64, error) {
	f, err := find[HugePager](file, "does not know of huge pages")
	if err != nil {
		return 0, err
	}
	return f.HugePages()
}
