// SPDX-License-Identifier: Apache-2.0

package systemd_test

// This file installs the package of scripts/deb with dpkg under a systemd of its own, upgrades it under load, and
// removes it. The machine's own /etc, /usr and /var are below layers that end with the test.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// layersScript puts a layer above each directory that a package writes to. Nothing of the machine's own is started:
// the targets that a unit depends on want nothing. Containers have a policy against starting units. The index of man
// pages takes seconds.
const layersScript = `mount -t tmpfs tmpfs %[1]q
for dir in etc srv usr var; do
	mkdir -p %[1]q/$dir %[1]q/$dir.work
	mount -t overlay -o lowerdir=/$dir,upperdir=%[1]q/$dir,workdir=%[1]q/$dir.work overlay /$dir
done
rm -rf /etc/systemd/system /usr/lib/systemd/system/*.wants /usr/lib/systemd/system-generators /usr/sbin/policy-rc.d
rm -f /var/lib/man-db/auto-update
mkdir /etc/systemd/system
for unit in sysinit basic sockets shutdown; do
	printf '[Unit]\nDescription=Tests\nDefaultDependencies=no\n' >/etc/systemd/system/$unit.target
done
`

// A debianPackage is what scripts/deb has built, in several versions.
type debianPackage struct{ dir string }

// brokenProgram is one that writes its texts, and does not listen.
const brokenProgram = `#!/bin/sh
if [ "$1" = listen ]; then exit 2; fi
exec %q "$@"
`

// broken is the version of the package with brokenProgram.
const broken = "1.0.2"

// buildPackages builds the program, and packages of it: 1.0.0, 1.0.1, and a broken one.
func buildPackages(t *testing.T) debianPackage {
	t.Helper()
	for _, name := range []string{"dpkg", "dpkg-deb", "deb-systemd-helper"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	p := debianPackage{t.TempDir()}
	program := filepath.Join(p.dir, "udsipc")
	runInRoot(t, []string{"CGO_ENABLED=0"}, "go", "build", "-o", program, "./cmd/udsipc")
	bad := filepath.Join(p.dir, "broken")
	if err := os.WriteFile(bad, fmt.Appendf(nil, brokenProgram, program), 0o755); err != nil {
		t.Fatal(err)
	}
	for version, program := range map[string]string{"1.0.0": program, "1.0.1": program, broken: bad} {
		runInRoot(t, nil, "bash", "scripts/deb", "--version", version, "--program", program, "--out", p.dir,
			"--compress", "none")
	}
	return p
}

func (p debianPackage) file(t *testing.T, version string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.dir, "udsipc_"+version+"_*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages of %s: %v, %v", version, found, err)
	}
	return found[0]
}

// runInRoot runs a command in the root of the module, and returns its standard output.
func runInRoot(t *testing.T, environment []string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = ipctest.Root(t), append(os.Environ(), environment...)
	var errors strings.Builder
	cmd.Stderr = &errors
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", command, err, output, &errors)
	}
	return string(output)
}

// A debianMachine is a systemd with the package.
type debianMachine struct {
	*bootedSystemd
	packages debianPackage
}

// root returns the path of a file of the machine.
func (m debianMachine) root(path string) string {
	return filepath.Join("/proc", strconv.Itoa(m.pid), "root", path)
}

// dpkg runs dpkg there.
func (m debianMachine) dpkg(t *testing.T, arguments ...string) {
	t.Helper()
	output, err := m.try(append([]string{"dpkg", "--force-unsafe-io", "--force-confold"}, arguments...)...)
	if err != nil {
		t.Fatalf("dpkg %v: %v\n%s", arguments, err, output)
	}
	failed := strings.Contains(output, "did not restart") || strings.Contains(output, "does not start")
	if want := strings.Contains(strings.Join(arguments, " "), "_"+broken+"_"); failed != want {
		t.Errorf("dpkg %v: %s", arguments, output)
	}
}

func (m debianMachine) install(t *testing.T, version string) {
	t.Helper()
	m.reloading.Lock() // The package reloads systemd.
	defer m.reloading.Unlock()
	m.dpkg(t, "--install", m.packages.file(t, version))
}

const (
	collectorSocket = "/run/udsipc-collector/collector.sock"
	collectorFile   = "/var/log/udsipc-collector/messages.jsonl"
)

func TestDebianPackage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	layers := filepath.Join(t.TempDir(), "layers")
	if err := os.Mkdir(layers, 0o755); err != nil {
		t.Fatal(err)
	}
	systemdProgram(t) // Skips.
	m := debianMachine{packages: buildPackages(t)}
	m.bootedSystemd = bootSystemdAfter(t, fmt.Sprintf(layersScript, layers))
	t.Cleanup(func() {
		if t.Failed() {
			status, _ := m.try("systemctl", "status", "--no-pager", "udsipc-collector.socket", "udsipc-collector.service")
			t.Log(status)
		}
	})
	m.install(t, "1.0.0")
	for _, step := range []struct {
		name string
		test func(*testing.T, debianMachine)
	}{
		{"units", packageUnits},
		{"permissions", packagePermissions},
		{"upgrades", packageUpgrades},
		{"upgrades and kills", packageKills},
		{"what an administrator has changed", packageKeepsChanges},
		{"a wrong option", packageWrongOption},
		{"remove and purge", packagePurge},
		{"without systemd", packageWithoutSystemd},
		{"the page", packagePage},
		{"the page of the examples", examplesPage},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, m) }) {
			return
		}
	}
}

// packageUnits: systemd has nothing to say against the units, and little of the service is exposed.
func packageUnits(t *testing.T, m debianMachine) {
	output, err := m.try("systemd-analyze", "verify", "--man=no", "udsipc-collector.service", "udsipc-collector.socket")
	if err != nil || strings.TrimSpace(output) != "" {
		t.Errorf("systemd-analyze verify: %v: %s", err, output)
	}
	if output, err := m.try("systemd-analyze", "security", "--no-pager", "--threshold=6",
		"udsipc-collector.service"); err != nil { // In tenths.
		t.Errorf("%v: %s", err, output)
	}
	if state := m.control(t, "is-enabled", "udsipc-collector.socket"); state != "enabled" {
		t.Errorf("the socket is %s", state)
	}
	if state := m.show(t, "udsipc-collector.service", "ActiveState"); state != "inactive" {
		t.Errorf("without a writer the service is %s", state)
	}
}

// packagePermissions: the first message starts the service. Who may send and who may read is as the page says.
func packagePermissions(t *testing.T, m debianMachine) {
	output, err := m.try("sh", "-c", "echo hello | udsipc send --ack --timeout 30s "+collectorSocket)
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if lines := toolLines(t, m.root(collectorFile)); len(lines) != 1 || lines[0].Data != "hello" {
		t.Errorf("the file has %v", lines)
	}
	for path, want := range map[string]string{
		collectorSocket: "srw-rw---- root:udsipc-writers", filepath.Dir(collectorSocket): "drwxr-xr-x root:root",
		collectorFile:               "-rw-r----- udsipc-collector:adm",
		filepath.Dir(collectorFile): "drwxr-s--- udsipc-collector:adm",
	} {
		output, err := m.try("stat", "--format=%A %U:%G", path)
		if got := strings.TrimSpace(output); err != nil || got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for group, want := range map[string]bool{"udsipc-writers": true, "nogroup": false} {
		output, err := m.try("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups="+group, "sh", "-c",
			"udsipc doctor --quiet "+collectorSocket)
		if (err == nil) != want {
			t.Errorf("a writer in the group %s: %v: %s", group, err, output)
		}
	}
	if output, err := m.try("udsipc", "top", "--once"); err != nil || !strings.Contains(output, "collector") {
		t.Errorf("udsipc top: %v: %s", err, output)
	}
}
