// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package natsbridge_test

import (
	"os"
	"path/filepath"
)

// storage returns the directory of a server.
func (f *faulty) storage(i int) string {
	f.Helper()
	dir := filepath.Join(f.dir, string(rune('a'+i)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	return dir
}

func (f *faulty) hasDisk() bool { return false }

func (f *faulty) fillDisk() {}
