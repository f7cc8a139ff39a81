// Package mmapio gives files a mapped fast path: a [File] has the methods of
// [os.File], with the same results and the same errors, and serves most reads and
// writes by copying memory instead of asking the kernel.
package mmapio
