//go:build !linux

package mmapio_test

import "testing"

// needKernel is for systems that are emulated by programs: see emulator_linux_test.go.
func needKernel(testing.TB, string) {}
