//go:build race

package mmapio_test

// raceEnabled says that the race detector watches.
const raceEnabled = true
