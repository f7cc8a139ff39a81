package mmapio_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mmapio/mmapio"
)

// Several times more files than there may be mappings, where the program has used up most of its mappings itself, which the
// budget does not know.
func TestMappingsUsedUp(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs mappings of its own")
	}
	if !mmapio.Is64Bit {
		t.Skip("in so little address space the runtime comes down before the library is asked")
	}
	needDescriptors(t, 12_100)
	runChild(t, "mappings used up", memoryDir(t))
}

// useUpMappings makes that many mappings, by giving every other page of a large
// piece of memory another protection.
func useUpMappings(count int) error {
	page := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, count*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return errSkip(fmt.Sprint("no address space: ", err))
	}
	for i := 0; i < count-1; i += 2 {
		if err := unix.Mprotect(memory[i*page:(i+1)*page], unix.PROT_READ); err != nil {
			return errSkip(fmt.Sprint("cannot use up the mappings: ", err))
		}
	}
	return nil
}

func init() {
	aloneRuns["mappings used up"] = func(arguments []string) error {
		text, err := os.ReadFile(maxMapCount)
		if err != nil {
			return errSkip(err.Error())
		}
		limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || limit > 300_000 {
			return errSkip(fmt.Sprintf("%d mappings are allowed, too many to use up", limit))
		}
		growHeap(64 << 20) // the program itself shall not be what runs short
		const left = 3000
		if err := useUpMappings(limit - left); err != nil {
			return err
		}
		return manyFiles(arguments[0], 4*left, nil)
	}
}
