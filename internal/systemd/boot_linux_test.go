// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// This file boots a systemd of its own for the tests: process 1 of private namespaces, in which nothing
// runs but what a test installs. Sockets and files lie in directories that both sides see.

// systemdRequired says that a test that needs systemd must not be skipped.
const systemdRequired = "UDSIPC_TEST_SYSTEMD"

// joinScript moves itself into cgroups, its arguments up to --, and becomes the command behind that.
const joinScript = `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"`

// bootScript is what becomes process 1: it hides the machine's own /run and cgroups, and starts systemd with a target
// that wants nothing.
const bootScript = `set -e
mount --make-rprivate /
%s
%s
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/systemd/system
printf '[Unit]\nDescription=Tests\nDefaultDependencies=no\n' >/run/systemd/system/udsipc-test.target
export container=unshare
exec "$1" --system --unit=udsipc-test.target --log-target=console --log-level=info --show-status=no
`

// A bootedSystemd is a running one.
type bootedSystemd struct {
	tb  testing.TB
	pid int // Of systemd, as this process sees it.
	dir string
	log *os.File

	reloading sync.Mutex // Held for a reload, and by a test that one would disturb.
}

// bootSystemd starts one, which ends with the test.
func bootSystemd(tb testing.TB) *bootedSystemd {
	tb.Helper()
	return bootSystemdAfter(tb, "")
}

// bootSystemdAfter starts one, after a script that sees the machine's own directories.
func bootSystemdAfter(tb testing.TB, before string) *bootedSystemd {
	tb.Helper()
	program := systemdProgram(tb)
	dir := tb.TempDir()
	script := filepath.Join(dir, "boot")
	cgroups, mounts := ownCgroups(tb)
	if err := os.WriteFile(script, fmt.Appendf(nil, bootScript, mounts, before), 0o644); err != nil {
		tb.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	arguments := append([]string{"-c", joinScript, "sh"}, cgroups...)
	arguments = append(arguments, "--", "unshare", "--fork", "--pid", "--mount", "--mount-proc",
		"--ipc", "--uts", "--cgroup", "--kill-child", "sh", script, program)
	cmd := exec.Command("sh", arguments...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	ended := startMortal(tb, cmd)
	s := &bootedSystemd{tb: tb, dir: dir, log: log}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // Its child goes with it, and all that runs in its namespace.
		<-ended
		if tb.Failed() {
			tb.Logf("systemd says:\n%s", lastOf(log.Name(), 1<<20))
		}
		_ = log.Close()
	})
	ipctest.Until(tb, "unshare has a child", func() bool {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		s.pid, _ = strconv.Atoi(strings.TrimSpace(string(children)))
		return s.pid > 0
	})
	ipctest.Until(tb, "systemd has started", func() bool {
		output, err := s.try("systemctl", "is-active", "udsipc-test.target")
		return err == nil && strings.TrimSpace(output) == "active"
	})
	return s
}

// ownCgroups makes a cgroup in each hierarchy in which that is possible, below the one of this
// process, so that one systemd does not see what another manages. They end with the test. The
// mounts put them where the hierarchies are.
func ownCgroups(tb testing.TB) (dirs []string, mounts string) {
	tb.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		tb.Fatal(err)
	}
	mounted, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(own)) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		root, point, ok := cgroupMount(string(mounted), number, controllers)
		below, within := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
		if !ok || !within || controllers == "cpuset" { // A cpuset takes no process before it is set up.
			continue
		}
		sweepCgroups(filepath.Join(point, below))
		dir, err := os.MkdirTemp(filepath.Join(point, below), fmt.Sprintf("%s%d-", cgroupPrefix, os.Getpid()))
		if err != nil {
			continue // What is read-only is nobody's.
		}
		tb.Cleanup(func() { removeCgroup(tb, dir) })
		dirs = append(dirs, dir)
		mounts += "mount --bind " + dir + " " + point + "\n"
	}
	return dirs, mounts
}

// cgroupMount finds where a hierarchy is mounted, in the form of mountinfo (proc_pid_mountinfo(5)).
func cgroupMount(mounted, number, controllers string) (root, point string, ok bool) {
	for line := range strings.Lines(mounted) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case number == "0" && kind[0] == "cgroup2",
			number != "0" && kind[0] == "cgroup" && strings.HasSuffix(","+kind[2], ","+controllers):
			return fields[3], fields[4], true
		}
	}
	return "", "", false
}

// removeCgroup removes a cgroup with those in it, once their processes are gone.
func removeCgroup(tb testing.TB, dir string) {
	tb.Helper()
	ipctest.Until(tb, "the cgroup is removed", func() bool {
		tryRemoveCgroup(dir)
		_, err := os.Lstat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
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
		output, err := exec.Command("unshare", "--fork", "--pid", "--mount", "--mount-proc",
			"--ipc", "--uts", "--cgroup", "true").CombinedOutput()
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
	arguments := append([]string{
		"--target", strconv.Itoa(s.pid), "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--",
	}, command...)
	cmd := exec.CommandContext(ctx, "nsenter", arguments...)
	cmd.Env = append(os.Environ(), "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "LANG=C")
	cmd.WaitDelay = time.Second // A child of the command may still have its output.
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
	s.reload(tb)
	tb.Cleanup(func() {
		if tb.Failed() {
			status, _ := s.try(append([]string{"systemctl", "status", "--no-pager"}, names...)...)
			tb.Log(status)
		}
		_, _ = s.try(append([]string{"systemctl", "stop"}, names...)...) // The next test has others.
		_, _ = s.try(append([]string{"systemctl", "reset-failed"}, names...)...)
	})
}

// reload has systemd read its units anew.
func (s *bootedSystemd) reload(tb testing.TB) {
	tb.Helper()
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.control(tb, "daemon-reload")
}

// write makes a file in systemd's directory of units.
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
	for _, variable := range append(environment, ipctest.RoleVariable+"="+role, "GORACE=atexit_sleep_ms=0") {
		text += fmt.Sprintf("Environment=%q\n", variable)
	}
	return text
}
