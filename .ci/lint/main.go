// Command lint looks for mistakes that go vet and staticcheck do not look for. It is a
// module of its own, so that nobody who uses the package sees what it needs.
//
// Each analyzer is here for a reason. Tried and left out: errorlint, because an io.EOF that
// is wrapped would be a mistake here; unconvert, because types differ between systems;
// usetesting, because folders for tests are in memory where there is room; misspell and
// bodyclose, which found nothing that could be wrong here.
package main

import (
	"4d63.com/gocheckcompilerdirectives/checkcompilerdirectives"
	"github.com/charithe/durationcheck"
	"github.com/gostaticanalysis/nilerr"
	"golang.org/x/tools/go/analysis/multichecker"
	"golang.org/x/tools/go/analysis/passes/atomicalign"
	"golang.org/x/tools/go/analysis/passes/deepequalerrors"
	"golang.org/x/tools/go/analysis/passes/nilness"
	"golang.org/x/tools/go/analysis/passes/reflectvaluecompare"
	"golang.org/x/tools/go/analysis/passes/sortslice"
	"golang.org/x/tools/go/analysis/passes/unusedwrite"
)

func main() {
	multichecker.Main(
		atomicalign.Analyzer,               // 64-bit words that are misaligned on 32-bit systems
		checkcompilerdirectives.Analyzer(), // a //go: comment that the compiler does not know is ignored
		deepequalerrors.Analyzer,           // errors are compared by errors.Is
		durationcheck.Analyzer,             // a duration times a duration
		nilerr.Analyzer,                    // an error that was found, and nil returned
		nilness.Analyzer,                   // nil followed, or asked for twice
		reflectvaluecompare.Analyzer,       // == of reflect.Value compares something else
		sortslice.Analyzer,                 // sort.Slice of what is no slice panics
		unusedwrite.Analyzer,               // a field of a copy set, in place of the original
	)
}
