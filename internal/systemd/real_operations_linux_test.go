// SPDX-License-Identifier: Apache-2.0

package systemd_test

// This file runs docs/OPERATIONS.md on a machine with the package, and what docs/NEIGHBOURS.md says about the journal. A
// comment right above a block says what it is:
//
//	<!-- as root -->     commands on the machine, in a directory with the packages
//	<!-- file: PATH -->  a file on it
//	<!-- builds -->      a command in the tree, which buildPackages runs with more flags

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

var pageBlock = regexp.MustCompile("(?ms)^<!-- ([^\n]*) -->\n```(sh|ini)\n(.*?)^```$")

// packagePage runs the page, from the installation of the package to its end.
func packagePage(t *testing.T, m debianMachine) {
	page := string(ipctest.ReadFile(t, "docs/OPERATIONS.md"))
	blocks := pageBlock.FindAllStringSubmatch(page, -1)
	if all := strings.Count(page, "\n```") / 2; len(blocks) != all || all < 10 {
		t.Fatalf("%d of %d blocks have a comment that says what they are", len(blocks), all)
	}
	name := filepath.Base(m.packages.file(t, "1.0.0"))
	arch := strings.TrimSuffix(strings.TrimPrefix(name, "udsipc_1.0.0_"), ".deb")
	for _, block := range blocks {
		text := strings.ReplaceAll(block[3], "_amd64", "_"+arch)
		if path, ok := strings.CutPrefix(block[1], "file: "); ok {
			if err := os.MkdirAll(filepath.Dir(m.root(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(m.root(path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if block[1] == "builds" {
			continue
		}
		output, err := m.try("bash", "-euo", "pipefail", "-c", "cd "+m.packages.dir+"\n"+text)
		if err != nil {
			t.Fatalf("%s\n%v: %s", text, err, output)
		}
	}
}
