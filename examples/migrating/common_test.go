// SPDX-License-Identifier: Apache-2.0

package migrating_test

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"time"
)

// place returns a path for a socket, a context that bounds the example, and a function that removes
// the socket's directory.
func place() (ctx context.Context, path string, remove func()) {
	dir, err := os.MkdirTemp("", "migrating")
	must(err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	return ctx, filepath.Join(dir, "app.sock"), func() {
		cancel()
		os.RemoveAll(dir)
	}
}

// must ends the program, as the other libraries' examples do.
func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
