package async_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mmapio/mmapio/extras/async"
)

// Records are written in the background, and known to be on stable storage.
func Example() {
	dir, err := os.MkdirTemp("", "mmapio-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	g := async.NewGroup(ctx)

	f, err := g.Create(filepath.Join(dir, "records")).Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	first := g.WriteAt(f, []byte("first "), 0)
	second := g.WriteAt(f, []byte("second"), 6)
	n, err := first.Wait(ctx)
	fmt.Println(n, err)
	n, err = second.Wait(ctx)
	fmt.Println(n, err)

	g.Copy(filepath.Join(dir, "backup"), f.Name(), nil)
	g.Remove(filepath.Join(dir, "missing"))
	if err := g.Close(); err != nil { // what nobody has waited for
		fmt.Println("one operation failed")
	}
	b, err := os.ReadFile(filepath.Join(dir, "backup"))
	fmt.Printf("%s %v\n", b, err)
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 6 <nil>
	// 6 <nil>
	// one operation failed
	// first second <nil>
}

// Anything can be done in the background.
func ExampleGo() {
	ctx := context.Background()
	g := async.NewGroup(ctx, async.WithLimit(2))
	sum := async.Go(g, func(ctx context.Context) (int, error) {
		return 1 + 2, ctx.Err()
	})
	fmt.Println(sum.Wait(ctx))
	fmt.Println(g.Close())
	// Output:
	// 3 <nil>
	// <nil>
}
