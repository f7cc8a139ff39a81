// Package extras reaches what a mapped file can do through values that do not show it.
//
// A program that opens files through [afero], or takes an [io.ReaderAt], has an
// interface in its hands and cannot call [mmapio.File.Advise]. Each feature has an
// interface here and a function that takes any value: it finds the feature in the value,
// or in what the value wraps, as [errors.As] finds an error, and calls it. Where there is
// none the error is [errors.ErrUnsupported], so that a program can go on without.
//
//	f, err := filesystem.Open("index") // an afero.Fs, whatever it is made of
//	...
//	_ = extras.Advise(f, 0, math.MaxInt64, mmapio.AdviceRandom)
//
// Afero does not compile on Plan 9, and so neither does this package.
package extras

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/afero"
)

// Find returns the first of file, and of what it wraps, that is a T. What is wrapped is
// found in [*afero.BasePathFile], in [*afero.UnionFile], and in every value with a method
// Unwrap that returns an any, an [afero.File], an [fs.File], an [io.ReaderAt] or an
// [*os.File]. Of the two files of a UnionFile it is the layer that counts where there is
// one, because that is what is read and written.
//
// An [*afero.RegexpFile] does not show what it wraps, so nothing is found in it: ask for the
// file of the file system below.
//
// A T that is a nil pointer is found as well; its methods say what they think of that.
func Find[T any](file any) (found T, ok bool) {
	for range deepest {
		if found, ok = file.(T); ok {
			return found, true
		}
		inner, ok := unwrap(file)
		if !ok || inner == nil {
			return found, false
		}
		file = inner
	}
	return found, false
}

// deepest is how many wrappers may be around a file: one that wraps itself has no end.
const deepest = 100

// unwrap returns what file wraps, which may be nil, if it is a wrapper.
func unwrap(file any) (inner any, ok bool) {
	switch file := file.(type) {
	case *afero.BasePathFile:
		if file != nil && file.File != nil {
			inner = file.File
		}
	case *afero.UnionFile:
		switch {
		case file == nil:
		case file.Layer != nil:
			inner = file.Layer
		case file.Base != nil:
			inner = file.Base
		}
	case interface{ Unwrap() any }:
		inner = file.Unwrap()
	case interface{ Unwrap() afero.File }:
		inner = file.Unwrap()
	case interface{ Unwrap() fs.File }:
		inner = file.Unwrap()
	case interface{ Unwrap() io.ReaderAt }:
		inner = file.Unwrap()
	case interface{ Unwrap() *os.File }:
		inner = file.Unwrap()
	default:
		return nil, false
	}
	return inner, true
}

// find is Find with an error that says what is missing.
func find[T any](file any, what string) (T, error) {
	found, ok := Find[T](file)
	if !ok {
		return found, unsupported(file, what)
	}
	return found, nil
}

func unsupported(file any, what string) error {
	return fmt.Errorf("%T %s: %w", file, what, errors.ErrUnsupported)
}
