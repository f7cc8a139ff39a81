package mmapio

import (
	"os"
	"runtime"
)

// flushMapped makes the n bytes at at of a mapping durable.
func (f *File) flushMapped(m *mapping, at, n int64) error {
	f.stamp()
	from := at &^ int64(pageSize-1)
	err := sys.writeBack(m.address()+uintptr(from), uintptr(at+n-from))
	runtime.KeepAlive(m)
	if err == nil && !syncCoversMappings {
		var file *os.File
		if file, err = f.inner(); err == nil {
			err = innerError(file.Sync())
		}
	}
	if err != nil {
		return f.fail("flush", err)
	}
	return nil
}
