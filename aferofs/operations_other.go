//go:build !windows

package aferofs

// What os.Stat and os.Lstat call themselves in errors.
const (
	statOperation  = "stat"
	lstatOperation = "lstat"
)

// slashes separate the parts of a name.
const slashes = "/"
