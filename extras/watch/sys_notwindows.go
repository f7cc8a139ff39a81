//go:build !windows

package watch

// looksSame is for systems where looking at a file is in the way of others.
func looksSame(string, *state) bool { return false }
