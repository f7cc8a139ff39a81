package main

import (
	"context"
	"errors"
	"fmt"
)

// Run says that there is no afero here.
func (c *serveCmd) Run(context.Context) error {
	return fmt.Errorf("serve %s: not on this system: %w", c.Folder, errors.ErrUnsupported)
}
