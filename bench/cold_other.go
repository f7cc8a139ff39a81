//go:build !linux

package main

import (
	"errors"
	"fmt"
)

func evict(path string) error {
	return fmt.Errorf("a file cannot be evicted from memory here: %w", errors.ErrUnsupported)
}

func evictable(path string) error { return evict(path) }

func limitMemory(limit int) (undo func() error, err error) {
	return nil, fmt.Errorf("memory cannot be limited here: %w", errors.ErrUnsupported)
}
