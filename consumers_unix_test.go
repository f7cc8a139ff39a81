//go:build unix

package mmapio_test

import (
	"errors"
	"fmt"
	"io"
	"os"
)

func init() {
	childUses = append(childUses, childUse{"the child inherits a descriptor", inheritDescriptor})
	// Ten bytes of descriptor 3, then three bytes to it.
	moreTasks["extra"] = func() error {
		f := os.NewFile(3, "extra")
		var b [10]byte
		if _, err := io.ReadFull(f, b[:]); err != nil {
			return err
		}
		if _, err := f.WriteString("abc"); err != nil {
			return err
		}
		_, err := fmt.Printf("%s", b)
		return errors.Join(err, f.Close())
	}
}

func inheritDescriptor(r *streamRun, f file) error {
	cmd := child(r.t, "extra")
	cmd.ExtraFiles = []*os.File{innerOf(f)}
	out, err := cmd.Output()
	r.note("%q", out)
	return err
}
