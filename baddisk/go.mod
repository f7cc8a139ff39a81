module github.com/mmapio/mmapio/baddisk

go 1.26.0

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/mmapio/mmapio v0.0.0
	golang.org/x/sys v0.49.0
)

replace github.com/mmapio/mmapio => ..
