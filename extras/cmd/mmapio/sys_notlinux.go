//go:build !linux

package main

import "github.com/mmapio/mmapio"

// What only Linux tells.

func cached(*mmapio.File, int64, int64) (pages, dirty int64, ok bool) { return 0, 0, false }

func nextData(_ *mmapio.File, off, size int64) (from, to int64) { return off, size }

func inMemoryOnly(*mmapio.File) bool { return false }

func onHugetlbfs(*mmapio.File) bool { return false }

func explainLockLimit(err error, needed int64) error { return err }

func totalMemory() (int64, bool) { return 0, false }

func hugePageSize() int64 { return 0 }
