package mmapio

import (
	"fmt"
	"os"
	"strconv"
)

// MMAPIO_PAGE_SIZE=65536 runs the tests as if pages were that long: a multiple of how long
// they are. The kernel takes ranges of such pages as well, so what is rounded by its own
// size shows. What the kernel tells about its pages is put together here.
func init() {
	text := os.Getenv("MMAPIO_PAGE_SIZE")
	if text == "" {
		return
	}
	size, err := strconv.Atoi(text)
	real := os.Getpagesize()
	if err != nil || size < real || size&(size-1) != 0 {
		fmt.Fprintf(os.Stderr, "MMAPIO_PAGE_SIZE=%s: not a multiple of %d that is a power of two\n", text, real)
		os.Exit(2)
	}
	pageSize, mapGranularity = size, size
	sys.pageStates = func(address, length uintptr, states []byte) error {
		small := make([]byte, (length+uintptr(real)-1)/uintptr(real))
		if err := pageStates(address, length, small); err != nil {
			return err
		}
		for i := range states {
			states[i] = 1
		}
		for i, state := range small {
			states[i*real/size] &= state
		}
		return nil
	}
	sys.resident = func(address, length uintptr, found func(at, n uintptr)) {
		states := make([]byte, (length+uintptr(size)-1)/uintptr(size))
		if sys.pageStates(address, length, states) != nil {
			return
		}
		for i, state := range states {
			if at := uintptr(i * size); state&1 != 0 {
				found(at, min(uintptr(size), length-at))
			}
		}
	}
	sys.privatePages = func(address, length uintptr, found func(at, n uintptr)) { found(0, length) }
}
