// Package stats publishes the counts of mmapio in package expvar, which a program that
// serves HTTP shows at /debug/vars:
//
//	stats.Publish("mmapio")
package stats

import (
	"expvar"

	"github.com/mmapio/mmapio"
)

// Publish makes [mmapio.ReadStats] a variable of package [expvar] with that name. It is
// read each time somebody looks. As [expvar.Publish] does, it ends the program when the
// name is taken; it is meant to be called once, when a program starts.
//
// A program that imports this package has the handler of expvar registered with
// [net/http.DefaultServeMux].
func Publish(name string) {
	expvar.Publish(name, expvar.Func(func() any { return mmapio.ReadStats() }))
}
