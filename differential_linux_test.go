package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// platformModes has what only Linux has.
var platformModes = []differentialMode{
	{name: "O_DIRECT", flag: os.O_RDWR | unix.O_DIRECT, mapping: mmapio.MapAlways, direct: true},
	{name: "O_DSYNC", flag: os.O_RDWR | unix.O_DSYNC, mapping: mmapio.MapAlways},
}

var platformKinds = []operationKind{
	{name: "Seek to data", weight: 1, settles: true, do: func(r *run, w *world, s step) string {
		return seekSparse(w, s.offset, unix.SEEK_DATA)
	}},
	{name: "Seek to a hole", weight: 1, settles: true, do: func(r *run, w *world, s step) string {
		return seekSparse(w, s.offset, unix.SEEK_HOLE)
	}},
	{name: "offset of the descriptor", weight: 1, rare: true, settles: true, do: func(r *run, w *world, s step) string {
		at, err := unix.Seek(int(w.file.Fd()), 0, io.SeekCurrent)
		return w.done(at, err)
	}},
	{name: "move the offset of the descriptor", weight: 1, rare: true, settles: true, do: func(r *run, w *world, s step) string {
		at, err := unix.Seek(int(w.file.Fd()), s.target, io.SeekStart)
		return w.done(at, err)
	}},
}

// seekSparse seeks to data or to a hole. Where they are is the file system's
// affair, and need not be the same in two files of the same content. So the truth
// is what another handle of the same file says. Both files go on from offset.
func seekSparse(w *world, offset int64, whence int) string {
	at, err := w.file.Seek(offset, whence)
	if errors.Is(err, os.ErrClosed) {
		return w.describe(err)
	}
	got := w.done(at, err)
	if err == nil {
		got += tell(w.side, w.file)
	}
	at, err = w.other.Seek(offset, whence)
	want := w.done(at, err)
	if err == nil {
		want += tell(w.side, w.other)
	}
	if got != want {
		return fmt.Sprintf("%s, where another handle is told %s", got, want)
	}
	return "as another handle, then " + w.done(w.file.Seek(offset, io.SeekStart))
}
