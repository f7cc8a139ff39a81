//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCpKeepsOwner replaces a file of somebody else.
func TestCpKeepsOwner(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	write(t, src, []byte("text"))
	write(t, dst, []byte("old"))
	const uid, gid = 12345, 54321
	if err := os.Chown(dst, uid, gid); err != nil {
		t.Skipf("this user may not give files away: %v", err)
	}
	if err := os.Chmod(src, 0o640); err != nil {
		t.Fatal(err)
	}
	succeed(t, "cp", src, dst)
	wantContent(t, dst, []byte("text"))
	info, err := os.Stat(dst)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	if stat.Uid != uid || stat.Gid != gid || info.Mode() != 0o640 {
		t.Errorf("owner %d, group %d, mode %v; want %d, %d, %v", stat.Uid, stat.Gid, info.Mode(), uid, gid, os.FileMode(0o640))
	}
}

// TestCpKeepsHoles copies a file that is nearly all hole.
func TestCpKeepsHoles(t *testing.T) {
	folder := t.TempDir()
	src, dst := filepath.Join(folder, "src"), filepath.Join(folder, "dst")
	write(t, src, []byte("some text"))
	if err := os.Truncate(src, 1<<30); err != nil {
		t.Fatal(err)
	}
	blocks := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int64(info.Sys().(*syscall.Stat_t).Blocks)
	}
	if n := blocks(src); n > 1<<20/512 {
		t.Skipf("no holes here: %d blocks", n)
	}
	succeed(t, "cp", src, dst)
	if info, err := os.Stat(dst); err != nil || info.Size() != 1<<30 {
		t.Errorf("the copy is %v, %v", info, err)
	}
	if n := blocks(dst); n > 1<<20/512 {
		t.Errorf("the copy has %d blocks, the original %d", n, blocks(src))
	}
}
