// SPDX-License-Identifier: Apache-2.0

package terminal_test

import (
	"os"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/terminal"
)

func TestSize(t *testing.T) {
	user, program := ipctest.OpenTerminal(t, 100, 30)
	if columns, rows, err := terminal.Size(program); columns != 100 || rows != 30 || err != nil {
		t.Errorf("%d columns, %d rows, %v", columns, rows, err)
	}
	ipctest.ResizeTerminal(t, user, 0, 0)
	if columns, rows, err := terminal.Size(program); err == nil {
		t.Errorf("%d columns, %d rows of a terminal without a size", columns, rows)
	}
}

// TestReadKeys_Terminal_IsRestored: a key comes without a newline and is not shown; then all is as before.
func TestReadKeys_Terminal_IsRestored(t *testing.T) {
	user, program := ipctest.OpenTerminal(t, 80, 24)
	before := ipctest.TerminalModes(t, program)
	restore, err := terminal.ReadKeys(program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := user.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 10)
	if n, err := program.Read(key); n != 1 || key[0] != 'x' {
		t.Errorf("read %q, %v", key[:n], err)
	}
	restore()
	restore()
	if after := ipctest.TerminalModes(t, program); after != before {
		t.Errorf("the modes are %+v, were %+v", after, before)
	}
}

func TestReadKeys_NoTerminal_IsAnError(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := terminal.ReadKeys(null); err == nil {
		t.Error("no error")
	}
	if _, _, err := terminal.Size(null); err == nil {
		t.Error("a size")
	}
}
