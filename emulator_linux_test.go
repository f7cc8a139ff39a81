package mmapio_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// emulated reports whether a program, such as qemu-user, answers system calls in place of
// the kernel: that has no effect for most advice, and accepts advice that does not exist.
func emulated(t testing.TB) bool {
	t.Helper()
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	return unix.Madvise(b, 12345) == nil
}

// needKernel skips a test that needs of the kernel what emulators do not do.
func needKernel(t testing.TB, what string) {
	t.Helper()
	if emulated(t) {
		t.Skipf("an emulator answers system calls here, madvise(12345) is no error: %s", what)
	}
}
