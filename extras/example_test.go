package extras_test

import (
	"errors"
	"fmt"
	"log"
	"math"
	"os"

	"github.com/mmapio/mmapio"
	"github.com/mmapio/mmapio/aferofs"
	"github.com/mmapio/mmapio/extras"
	"github.com/spf13/afero"
)

// A file that comes out of BasePathFs is afero's own; what is inside can be reached.
func ExampleAdvise() {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	filesystem := afero.NewBasePathFs(aferofs.New(), folder)
	if err := afero.WriteFile(filesystem, "index", make([]byte, 1<<20), 0o600); err != nil {
		log.Fatal(err)
	}

	f, err := filesystem.Open("index")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	err = extras.Advise(f, 0, math.MaxInt64, mmapio.AdviceRandom)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) { // Windows takes no such advice
		log.Fatal(err)
	}
	_, ok := extras.Find[*mmapio.File](f)
	fmt.Println("a File inside:", ok)

	memory, err := afero.NewMemMapFs().Create("elsewhere")
	if err != nil {
		log.Fatal(err)
	}
	err = extras.Advise(memory, 0, math.MaxInt64, mmapio.AdviceRandom)
	fmt.Println("in memory:", errors.Is(err, errors.ErrUnsupported))
	// Output:
	// a File inside: true
	// in memory: true
}
