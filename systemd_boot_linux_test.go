// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file boots a systemd of its own for the tests: process 1 of private namespaces, in which nothing
// runs but what a test installs. Sockets and files lie in folders that both sides see.

// systemdRequired says that a test that needs systemd must not be skipped.
const systemdRequired = "UDSIPC_TEST_SYSTEMD"

// bootScript is what becomes process 1: it hides the machine's own /run and starts systemd with a target
// that wants nothing.
const bootScript = `#!/bin/sh
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/systemd/system
printf '[Unit]\nDescription=Tests\nDefaultDependencies=no\n' >/run/systemd/system/udsipc-test.target
export container=unshare
exec "$1" --system --unit=udsipc-test.target --log-target=console --log-level=info --show-status=no
`

// A bootedSystemd is a running one.
type bootedSystemd struct {
	tb     testing.TB
	pid    int // Of systemd, as this process sees it.
	folder string
	log    *os.File
}

// bootSystemd starts one, which ends with the test.
func bootSystemd(tb testing.TB) *bootedSystemd {
	tb.Helper()
	program := systemdProgram(tb)
	folder := tb.TempDir()
	script := filepath.Join(folder, "boot")
	if err := os.WriteFile(script, []byte(bootScript), 0o755); err != nil {
		tb.Fatal(err)
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("unshare", "--fork", "--pid", "--mount", "--mount-proc", "--ipc", "--uts", "--cgroup", "--kill-child", script, program)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	s := &bootedSystemd{tb: tb, folder: folder, log: log}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // Its child goes with it, and all that runs in its namespace.
		_ = cmd.Wait()
		if tb.Failed() {
			output, _ := os.ReadFile(log.Name())
			tb.Logf("systemd says:\n%s", output)
		}
		_ = log.Close()
	})
	until(tb, "unshare has a child", func() bool {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		s.pid, _ = strconv.Atoi(strings.TrimSpace(string(children)))
		return s.pid > 0
	})
	until(tb, "systemd has started", func() bool {
		output, err := s.try("systemctl", "is-active", "udsipc-test.target")
		return err == nil && strings.TrimSpace(output) == "active"
	})
	return s
}

// systemdProgram is the path of systemd itself. The test is skipped where none can run, unless it must run.
func systemdProgram(tb testing.TB) string {
	tb.Helper()
	missing := func(why string) {
		if os.Getenv(systemdRequired) != "" {
			tb.Fatalf("systemd must be tested with: %s", why)
		}
		tb.Skip(why)
	}
	if os.Getuid() != 0 {
		missing("a systemd of one's own takes root")
	}
	for _, path := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		output, err := exec.Command("unshare", "--fork", "--pid", "--mount", "--mount-proc", "--ipc", "--uts", "--cgroup", "true").CombinedOutput()
		if err != nil {
			missing(fmt.Sprintf("no namespaces: %v: %s", err, output))
		}
		return path
	}
	missing("systemd is not installed")
	return ""
}

// try runs a command beside systemd.
func (s *bootedSystemd) try(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	arguments := append([]string{"--target", strconv.Itoa(s.pid), "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--"}, command...)
	cmd := exec.CommandContext(ctx, "nsenter", arguments...)
	cmd.Env = append(os.Environ(), "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "LANG=C")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	return output.String(), err
}

// control runs systemctl, which must succeed.
func (s *bootedSystemd) control(tb testing.TB, arguments ...string) string {
	tb.Helper()
	output, err := s.try(append([]string{"systemctl"}, arguments...)...)
	if err != nil {
		tb.Fatalf("systemctl %s: %v: %s", strings.Join(arguments, " "), err, output)
	}
	return strings.TrimSpace(output)
}

// show returns a property of a unit.
func (s *bootedSystemd) show(tb testing.TB, unit, property string) string {
	tb.Helper()
	return s.control(tb, "show", "--value", "--property="+property, unit)
}

// A unit is a file for systemd: its sections, each with its lines.
type unit struct{ Unit, Service, Socket string }

func (u unit) text() string {
	text := "[Unit]\nDefaultDependencies=no\n" + u.Unit + "\n"
	if u.Service != "" {
		text += "[Service]\n" + u.Service + "\n"
	}
	if u.Socket != "" {
		text += "[Socket]\n" + u.Socket + "\n"
	}
	return text
}

// install gives systemd units, by their names, which are stopped at the end of the test.
func (s *bootedSystemd) install(tb testing.TB, units map[string]unit) {
	tb.Helper()
	var names []string
	for name, unit := range units {
		s.write(tb, name, unit.text())
		if !strings.Contains(name, "@") {
			names = append(names, name)
		}
	}
	s.control(tb, "daemon-reload")
	tb.Cleanup(func() {
		if tb.Failed() {
			status, _ := s.try(append([]string{"systemctl", "status", "--no-pager"}, names...)...)
			tb.Log(status)
		}
		_, _ = s.try(append([]string{"systemctl", "stop"}, names...)...) // The next test has others.
		_, _ = s.try("systemctl", "reset-failed")
	})
}

// write makes a file in systemd's folder of units.
func (s *bootedSystemd) write(tb testing.TB, name, text string) {
	tb.Helper()
	path := filepath.Join("/proc", strconv.Itoa(s.pid), "root/run/systemd/system", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// runRole is the part of a service that runs this binary in a role.
func (s *bootedSystemd) runRole(tb testing.TB, role string, environment ...string) string {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	text := "ExecStart=" + self + "\nStandardOutput=null\nStandardError=append:" + s.log.Name() + "\n"
	for _, variable := range append(environment, roleVariable+"="+role, "GORACE=atexit_sleep_ms=0") {
		text += fmt.Sprintf("Environment=%q\n", variable)
	}
	return text
}
