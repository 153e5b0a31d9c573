// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/udsipc/udsipc"
)

// Reported collects the errors that an error callback receives.
type Reported struct {
	mu     sync.Mutex
	errs   []error
	Events chan error
}

// Callback is an error callback for WithReaderErrorCallback and WithWriterErrorCallback.
func (r *Reported) Callback(err error, op string) {
	if _, ok := err.(*udsipc.OpError); !ok || op == "" {
		err = fmt.Errorf("not an OpError with an operation: %v (%q)", err, op) // It matches no target.
	}
	r.mu.Lock()
	r.errs = append(r.errs, err)
	r.mu.Unlock()
	select {
	case r.Events <- err:
	default:
	}
}

// Want waits until an error that matches target was reported.
func (r *Reported) Want(tb testing.TB, target error) error {
	tb.Helper()
	for {
		if err := Await(tb, "a report of "+target.Error(), r.Events); errors.Is(err, target) {
			return err
		}
	}
}

// None fails the test if a reported error matches one of the targets.
func (r *Reported) None(tb testing.TB, targets ...error) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.errs {
		for _, target := range targets {
			if errors.Is(err, target) {
				tb.Errorf("reported: %v", err)
			}
		}
	}
}

// Collect returns a Reported without errors.
func Collect() *Reported { return &Reported{Events: make(chan error, 10_000)} }

// ErrNotAllowed is an error for authorizers.
var ErrNotAllowed = errors.New("not allowed")
