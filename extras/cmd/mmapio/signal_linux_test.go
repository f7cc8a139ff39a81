package main

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	awaitDrained = func(t *testing.T, fifo *os.File) {
		t.Helper()
		conn, err := fifo.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			var left int
			controlErr := conn.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
			if controlErr != nil || err != nil {
				t.Fatal(controlErr, err)
			}
			if left == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d bytes in the FIFO are not read", left)
			}
		}
	}
}
