// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestAwaitInterrupts_DoubledSignal_IsOne: what sends a signal to a process and to its group does not end it at once.
func TestAwaitInterrupts_DoubledSignal_IsOne(t *testing.T) {
	for name, test := range map[string]struct {
		second os.Signal
		after  time.Duration
		want   []string
	}{
		"doubled": {syscall.SIGTERM, 0, []string{"first"}},
		"later":   {syscall.SIGTERM, doubled, []string{"first", "second"}},
		"another": {os.Interrupt, 0, []string{"first", "second"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls []string
				signals := make(chan os.Signal)
				go awaitInterrupts(signals, func() { calls = append(calls, "first") },
					func() { calls = append(calls, "second") })
				signals <- syscall.SIGTERM
				time.Sleep(test.after)
				signals <- test.second
				synctest.Wait()
				if !slices.Equal(calls, test.want) {
					t.Errorf("got %q, want %q", calls, test.want)
				}
				close(signals)
			})
		})
	}
}
