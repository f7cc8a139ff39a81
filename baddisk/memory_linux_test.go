package baddisk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/baddisk"
)

var errnos = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.ESTALE}

// A page that was in memory has left it and cannot be read again. Copies meet that as a
// page fault, which is caught, and the caller is told what the disk says; the memory of
// Views has a FaultError.
func TestMemoryThatCannotBeRead(t *testing.T) {
	readers := map[string]func(f *mmapio.File) (int, error){
		"ReadAt": func(f *mmapio.File) (int, error) { return f.ReadAt(make([]byte, 64), badOff) },
		"Read": func(f *mmapio.File) (int, error) {
			if _, err := f.Seek(badOff+10, io.SeekStart); err != nil {
				return 0, err
			}
			return f.Read(make([]byte, 64))
		},
		"View.ReadAt": func(f *mmapio.File) (int, error) {
			v, err := f.View(badOff-page, 3*page)
			if err != nil {
				return 0, err
			}
			defer v.Release()
			return v.ReadAt(make([]byte, 64), page)
		},
		"View.Do": func(f *mmapio.File) (int, error) {
			v, err := f.View(badOff-page, 3*page)
			if err != nil {
				return 0, err
			}
			defer v.Release()
			return 0, v.Do(func(b []byte) error { fmt.Fprint(io.Discard, b[page]); return nil })
		},
		"Guard": func(f *mmapio.File) (int, error) {
			v, err := f.View(badOff, 64)
			if err != nil {
				return 0, err
			}
			defer v.Release()
			return 0, mmapio.Guard(func() error { fmt.Fprint(io.Discard, v.Bytes()[1]); return nil })
		},
		"UpdateChunks": func(f *mmapio.File) (int, error) {
			return 0, f.UpdateChunks(16*page, func(_ int64, b []byte) error { b[8*page]++; return nil })
		},
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			for _, errno := range errnos {
				for what, read := range readers {
					t.Run(what+", "+errno.Error(), func(t *testing.T) {
						path := newFile(t, disk, "file", patterned(size, 1))
						f := openWarm(t, path)
						defer f.Close()
						evict(t, disk, "file", badOff, badLen)
						o, undo := order(t, disk, baddisk.Fault{Op: baddisk.Read, Off: badOff, Len: badLen, Errno: errno})
						n, err := read(f)
						switch what {
						case "ReadAt", "Read":
							if n != 0 || !errors.Is(err, errno) {
								t.Errorf("got %d, %v", n, err)
							}
							if met := hits(t, o); mode != baddisk.Direct && met < 2 {
								t.Errorf("%d requests: there was no page fault and then a system call", met)
							}
						default:
							// That memory cannot be had may show when the View is made, by a system call.
							if n != 0 || !errors.Is(err, mmapio.ErrFault) && !errors.Is(err, errno) {
								t.Errorf("got %d, %v", n, err)
							}
						}
						if hits(t, o) == 0 {
							t.Error("the disk was not asked")
						}
						// All else is as it was, and so is this when the disk is good again.
						b := make([]byte, size)
						if n, err := f.ReadAt(b[:badOff], 0); n != badOff || err != nil {
							t.Errorf("before the bad bytes: %d, %v", n, err)
						}
						undo()
						if n, err := f.ReadAt(b, 0); n != size || err != nil {
							t.Errorf("with a good disk: %d, %v", n, err)
						}
						if what != "UpdateChunks" && !bytes.Equal(b, patterned(size, 1)) {
							t.Error("other bytes")
						}
					})
				}
			}
		})
	}
}

// A read that ends early is the disk's word that the file does, which it takes back when it
// is asked for the size. The kernel has filled up the page with zeros then, and shows them:
// os.File in its second read, and a File too. No other byte is ever read.
func TestShortReads(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			content := patterned(size, 1)
			newFile(t, disk, "os", content)
			path := newFile(t, disk, "file", content)
			truth, err := os.Open(disk.Dir + "/os")
			if err != nil {
				t.Fatal(err)
			}
			defer truth.Close()
			warmUp(t, truth)
			f := openWarm(t, path)
			const end = badOff + 100
			met := 0
			for _, off := range []int64{badOff + page, badOff, badOff + 90} {
				evict(t, disk, "os", badOff, badLen)
				evict(t, disk, "file", badOff, badLen)
				o, undo := order(t, disk, baddisk.Fault{Op: baddisk.Read, Off: end, Len: badLen - 100, Short: true})
				exists := int(min(max(end-off, 0), 20))
				for name, file := range map[string]io.ReaderAt{"os": truth, "mmapio": f} {
					for range 2 {
						b := make([]byte, 20)
						n, err := file.ReadAt(b, off)
						if n < exists || (n < len(b)) != (err == io.EOF) || err != nil && err != io.EOF ||
							!bytes.Equal(b[:exists], content[off:][:exists]) || !bytes.Equal(b[exists:], make([]byte, 20-exists)) {
							t.Errorf("%s: ReadAt %d: %d, %v, %q", name, off, n, err, b)
						}
					}
				}
				met += hits(t, o)
				undo()
			}
			if met == 0 {
				t.Error("the disk was not asked")
			}
			evict(t, disk, "file", badOff, badLen)
			b := make([]byte, size)
			if n, err := f.ReadAt(b, 0); n != size || err != nil || !bytes.Equal(b, content) {
				t.Errorf("with a good disk: %d, %v", n, err)
			}
		})
	}
}

// Private copies: what cannot be read is an error, Commit says what it could not write, and
// can be repeated.
func TestPrivateCopiesOnBadDisk(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			path := newFile(t, disk, "file", patterned(size, 1))
			f, err := mmapio.OpenFile(path, os.O_RDWR, 0, mmapio.WithCopyOnWrite())
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, undo := order(t, disk, baddisk.Fault{Op: baddisk.Read, Off: badOff, Len: badLen, Errno: syscall.EIO})
			b := make([]byte, 64)
			for range 2 {
				if n, err := f.ReadAt(b, badOff); n != 0 || !errors.Is(err, syscall.EIO) && !errors.Is(err, mmapio.ErrFault) {
					t.Errorf("ReadAt: %d, %v", n, err)
				}
				if n, err := f.WriteAt(b, badOff); n != 0 || !errors.Is(err, syscall.EIO) && !errors.Is(err, mmapio.ErrFault) {
					t.Errorf("WriteAt to what cannot be read: %d, %v", n, err)
				}
			}
			undo()
			want := patterned(size, 1)
			for _, off := range []int64{100, badOff + 10, badOff + badLen - 30} {
				copy(want[off:], patterned(64, int(off)))
				if n, err := f.WriteAt(patterned(64, int(off)), off); n != 64 || err != nil {
					t.Errorf("WriteAt: %d, %v", n, err)
				}
			}
			op := baddisk.Write
			if mode == baddisk.CachedWrites {
				op = baddisk.WriteBack
			}
			for _, bad := range []baddisk.Fault{{Op: op, Off: badOff, Len: badLen, Errno: syscall.ENOSPC}, {Op: baddisk.Fsync, Errno: syscall.EIO}} {
				o, undo := order(t, disk, bad)
				if err := f.Commit(); !errors.Is(err, bad.Errno) {
					t.Errorf("Commit with %s: %v", label(bad), err)
				}
				if hits(t, o) == 0 {
					t.Errorf("%s was not met", label(bad))
				}
				undo()
			}
			if n, err := f.ReadAt(b, badOff+10); n != 64 || err != nil || !bytes.Equal(b, want[badOff+10:][:64]) {
				t.Errorf("after a Commit that failed: %d, %v", n, err)
			}
			if err := f.Commit(); err != nil {
				t.Errorf("Commit repeated: %v", err)
			}
			if onDisk, err := disk.Content("file", true); err != nil || !bytes.Equal(onDisk, want) {
				t.Errorf("not all was committed: %v", err)
			}
		})
	}
}

// A copy of a file that cannot be read or written whole is none: dst stays as it was.
func TestCopyFileOnBadDisk(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			disk := newDisk(t, mode)
			src := newFile(t, disk, "src", patterned(size, 1))
			dst := newFile(t, disk, "dst", patterned(1000, 2))
			write := baddisk.Write
			if mode == baddisk.CachedWrites {
				write = baddisk.WriteBack
			}
			for _, bad := range []baddisk.Fault{
				{Op: baddisk.Read, Name: "src", Off: badOff, Len: badLen, Errno: syscall.EIO},
				{Op: write, Off: badOff, Len: badLen, Errno: syscall.ENOSPC},
				{Op: baddisk.Fsync, Errno: syscall.EIO},
				{Op: baddisk.Flush, Errno: syscall.EIO, Skip: 1}, // of src, which was only read
			} {
				evict(t, disk, "src", 0, 0)
				o, undo := order(t, disk, bad)
				err := mmapio.CopyFile(context.Background(), dst, src, nil)
				if bad.Op != baddisk.Flush && !errors.Is(err, bad.Errno) {
					t.Errorf("%s: %v", label(bad), err)
				}
				if hits(t, o) == 0 && bad.Op != baddisk.Flush {
					t.Errorf("%s was not met", label(bad))
				}
				undo()
				want := patterned(1000, 2)
				if err == nil {
					want = patterned(size, 1)
				}
				if b, err := os.ReadFile(dst); err != nil || !bytes.Equal(b, want) {
					t.Errorf("%s: dst is %s, %v", label(bad), bytesOf(b), err)
				}
			}
			if err := mmapio.CopyFile(context.Background(), dst, src, nil); err != nil {
				t.Error(err)
			}
			if b, err := disk.Content("dst", true); err != nil || !bytes.Equal(b, patterned(size, 1)) {
				t.Errorf("dst is %s, %v", bytesOf(b), err)
			}
		})
	}
}

// The server dies: everything is an error, and nothing worse.
func TestDiskIsGone(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			var want []string
			for _, s := range append([]side{osSide}, mmapioSides...) {
				disk := newDisk(t, mode)
				path := newFile(t, disk, "file", patterned(size, 1))
				f, err := s.open(path, os.O_RDWR)
				if err != nil {
					t.Fatal(err)
				}
				warmUp(t, f)
				evict(t, disk, "file", badOff, badLen)
				if err := disk.Kill(); err != nil {
					t.Fatal(err)
				}
				var notes []string
				note := func(what string, n any, err error) {
					notes = append(notes, fmt.Sprintln(what, n, describe(err)))
				}
				b := make([]byte, 64)
				for range 2 {
					n, err := f.ReadAt(b, badOff)
					note("ReadAt", n, err)
					n, err = f.WriteAt(b, badOff+badLen-10)
					if mode == baddisk.CachedReads || s.name == "os" || s.name == "never mapped" || err != nil {
						note("WriteAt", n, err)
					}
					n, err = f.ReadAt(b, size-10)
					if mode != baddisk.Direct { // it may be in memory
						note("ReadAt", n, err)
					}
					h := sha256.New()
					n64, err := f.WriteTo(h)
					note("WriteTo", n64, err)
					note("Truncate", 0, f.Truncate(10))
				}
				f.Close()
				if s.name == "os" {
					want = notes
				} else if difference := firstDifference(want, notes); difference != "" {
					t.Errorf("%s: %s", s.name, difference)
				}
			}
		})
	}
}
