package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mmapio/mmapio"
)

// BenchmarkCopyFile copies a file that is in memory to a new one: by CopyFile, by io.Copy
// between two os.Files, and by cp where there is one. In the second kind of file every
// second mebibyte is a hole.
func BenchmarkCopyFile(b *testing.B) {
	const size = 64 * miB
	sides := map[string]func(dst, src string) error{
		"mmapio": func(dst, src string) error { return mmapio.CopyFile(context.Background(), dst, src, nil) },
		"os": func(dst, src string) error {
			from, err := os.Open(src)
			if err != nil {
				return err
			}
			defer from.Close()
			to, err := os.Create(dst)
			if err != nil {
				return err
			}
			_, err = io.Copy(to, from)
			return errors.Join(err, to.Close())
		},
	}
	if program, err := exec.LookPath("cp"); err == nil {
		sides["cp"] = func(dst, src string) error { return exec.Command(program, src, dst).Run() }
	}
	for _, kind := range []struct {
		name string
		step int64 // between two mebibytes with data
	}{{"full", miB}, {"holes", 2 * miB}} {
		src := filepath.Join(b.TempDir(), "src")
		f, err := os.Create(src)
		if err != nil {
			b.Fatal(err)
		}
		data := make([]byte, miB)
		for i := range data {
			data[i] = byte(i * i)
		}
		for off := int64(0); off < size && err == nil; off += kind.step {
			_, err = f.WriteAt(data, off)
		}
		if err := errors.Join(err, f.Truncate(size), f.Sync(), f.Close()); err != nil {
			b.Fatal(err)
		}
		for name, do := range sides {
			b.Run("file="+kind.name+"/side="+name, func(b *testing.B) {
				dst := filepath.Join(b.TempDir(), "dst")
				b.SetBytes(size)
				for b.Loop() {
					if err := do(dst, src); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := os.Remove(dst); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}
