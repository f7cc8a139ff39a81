package watch_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mmapio/mmapio/extras/watch"
)

// TestWatchConverges does things at random to a file, as fast as it can, and takes the
// events for true: in the end they must add up to what is there. With content compared, who
// reads again what is told to have changed has the whole content.
func TestWatchConverges(t *testing.T) {
	const blockSize = 512
	for _, mode := range []watch.Mode{watch.Events, watch.Polling} {
		for _, compare := range []bool{false, true} {
			for _, quiet := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
				t.Run(fmt.Sprintf("%v/content=%v/quiet=%v", mode, compare, quiet), func(t *testing.T) {
					t.Parallel()
					seed := uint64(time.Now().UnixNano())
					t.Logf("seed %d", seed)
					random := rand.New(rand.NewPCG(seed, 0))
					dir := folder(t)
					name := filepath.Join(dir, "file")
					write(t, name, "text")
					options := []watch.Option{watch.WithQuiet(quiet), watch.WithInterval(time.Millisecond)}
					if mode == watch.Polling {
						options = append(options, watch.WithPolling())
					} else if runtime.GOOS == "linux" {
						options = append(options, watch.WithoutLooking())
					}
					if compare {
						options = append(options, watch.WithContent(blockSize, 5*time.Millisecond))
					}
					w := begin(t, name, options...)
					var mu sync.Mutex
					model, exists := []byte("text"), true // what a receiver knows
					size := int64(4)
					var later [][2]int64 // could not be read: the name was somewhere else for a moment
					read := func(off, n int64) {
						f, err := os.Open(name)
						if err != nil {
							later = append(later, [2]int64{off, n})
							return
						}
						defer f.Close()
						b := make([]byte, n)
						got, _ := f.ReadAt(b, off)
						if end := off + int64(got); end > int64(len(model)) {
							model = append(model, make([]byte, end-int64(len(model)))...)
						}
						copy(model[off:], b[:got])
					}
					go func() {
						for event := range w.Events {
							mu.Lock()
							exists, size = event.Kind != removed, event.Size
							switch event.Kind {
							case removed:
								model, later = nil, nil
							case replaced:
								model, later = nil, nil
								read(0, 1<<20)
							case resized:
								model = append(model, make([]byte, max(event.Size-int64(len(model)), 0))...)[:event.Size]
							case modified:
								if compare {
									read(event.Offset, event.Len)
								}
							case overflow:
								model = nil
								read(0, 1<<20)
							}
							mu.Unlock()
						}
					}()
					var last string
					defer func() {
						if t.Failed() {
							t.Log(last)
						}
					}()
					rounds := 20
					if slowOpening {
						rounds = 4
					}
					for range rounds {
						for range random.IntN(60) {
							text := bytes.Repeat([]byte{byte(random.Uint32())}, random.IntN(4*blockSize))
							switch random.IntN(7) {
							case 0:
								_ = os.Remove(name)
							case 1:
								_ = os.WriteFile(name, text, 0o644)
							case 2:
								if os.WriteFile(name+".new", text, 0o644) == nil {
									_ = os.Rename(name+".new", name)
								}
							case 3:
								_ = os.Truncate(name, int64(random.IntN(5*blockSize)))
							case 4:
								_ = os.Rename(name, name+".old")
							case 5:
								if f, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
									_, _ = f.WriteAt(text, int64(random.IntN(5*blockSize)))
									_ = f.Close()
								}
							case 6:
								_ = os.Rename(name+".old", name)
							}
						}
						eventually(t, "the events add up to what is there", func() bool {
							now, err := os.ReadFile(name)
							mu.Lock()
							defer mu.Unlock()
							for _, extent := range slices.Clone(later) {
								later = later[1:]
								read(extent[0], extent[1])
							}
							known := model[:min(int64(len(model)), max(size, 0))]
							last = fmt.Sprintf("there are %d bytes, %v; told was that it exists: %v, with %d bytes; content is the same: %v", len(now), err, exists, size, bytes.Equal(known, now))
							return exists == (err == nil) && (err != nil || size == int64(len(now)) && (!compare || bytes.Equal(known, now)))
						})
					}
				})
			}
		}
	}
}
