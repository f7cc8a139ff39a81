package main

import (
	"context"
	"os/exec"
	"time"
)

// command returns a command that is ended when ctx is, with the processes that it has started
// where there are process groups.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = commandPatience
	alone(cmd)
	return cmd
}

// commandPatience is how long the output of a command that was ended is waited for: another
// process may have it open.
const commandPatience = 5 * time.Second
