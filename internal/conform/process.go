// SPDX-License-Identifier: Apache-2.0

package conform

// This file starts and ends the program under test.

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// A process is a Reader under test that was started here.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // Closed when it has ended, and its output was read.
}

// start starts the command. What it prints is what was handled.
func (t *readerTest) start() error {
	cmd := exec.CommandContext(t.ctx, t.opt.Command[0], t.opt.Command[1:]...)
	cmd.Stderr = t.opt.Stderr
	cmd.WaitDelay = time.Second
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the program under test: %w", err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	t.process = p
	go func() { // Ends with the process.
		defer close(p.done)
		t.handled.read(output)
		_ = cmd.Wait()
	}()
	return nil
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process in good order, if it can.
func (t *readerTest) stop() {
	if err := t.process.cmd.Process.Signal(os.Interrupt); err == nil {
		select {
		case <-t.process.done:
			return
		case <-time.After(t.opt.Timeout):
		}
	}
	t.process.kill()
}

// runWriter runs the command of a Writer under test with lines as its input, and returns how it ended.
func (s *suite) runWriter(ctx context.Context, lines io.Reader) (wait func() error, err error) {
	cmd := exec.CommandContext(ctx, s.opt.Command[0], s.opt.Command[1:]...)
	cmd.Stdin, cmd.Stderr = lines, s.opt.Stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the program under test: %w", err)
	}
	return cmd.Wait, nil
}
