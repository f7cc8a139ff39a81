package extras

import "github.com/mmapio/mmapio"

// Viewer is what shows its bytes without a copy: see [mmapio.File.View]. A [Chunker] is
// one as well.
type Viewer interface {
	View(off, n int64) (*mmapio.View, error)
}

// Chunker is what can be gone through piece by piece without a copy: see
// [mmapio.File.Chunks] and [mmapio.File.UpdateChunks].
type Chunker interface {
	Chunks(size int) *mmapio.Chunks
	Pages() *mmapio.Chunks
	UpdateChunks(size int, update func(off int64, chunk []byte) error) error
}

var (
	_ Viewer  = (*mmapio.File)(nil)
	_ Chunker = (*mmapio.File)(nil)
)

// View returns the n bytes at off of file, if file is a [Viewer] or wraps one, and
// [errors.ErrUnsupported] otherwise. The caller releases the View. Other errors are those
// of [mmapio.File.View].
func View(file any, off, n int64) (*mmapio.View, error) {
	f, err := find[Viewer](file, "has no views")
	if err != nil {
		return nil, err
	}
	return f.View(off, n)
}

// Chunks returns the pieces of file, if it is a [Chunker] or wraps one, and
// [errors.ErrUnsupported] otherwise.
func Chunks(file any, size int) (*mmapio.Chunks, error) {
	f, err := find[Chunker](file, "has no chunks")
	if err != nil {
		return nil, err
	}
	return f.Chunks(size), nil
}

// Pages returns the pieces of file that are as long as a page of memory: see [Chunks].
func Pages(file any) (*mmapio.Chunks, error) {
	f, err := find[Chunker](file, "has no chunks")
	if err != nil {
		return nil, err
	}
	return f.Pages(), nil
}

// UpdateChunks calls update with every piece of file, which update may store to, if file is a
// [Chunker] or wraps one, and is [errors.ErrUnsupported] otherwise. Other errors are those of
// [mmapio.File.UpdateChunks].
func UpdateChunks(file any, size int, update func(off int64, chunk []byte) error) error {
	f, err := find[Chunker](file, "has no chunks")
	if err != nil {
		return err
	}
	return f.UpdateChunks(size, update)
}
