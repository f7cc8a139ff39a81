//go:build !linux

package mmapio_test

var (
	platformModes []differentialMode
	platformKinds []operationKind
)
