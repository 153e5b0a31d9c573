// SPDX-License-Identifier: Apache-2.0

package systemd_test

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

// installExamples builds programs, and installs units of examples/systemd that run them. What the services print goes
// to the file that it returns.
func (s *bootedSystemd) installExamples(t *testing.T, programs map[string]string, units ...string) string {
	t.Helper()
	const dir = "/run/programs" // Where the units let programs see it.
	for name, source := range programs {
		if _, err := s.try("test", "-x", dir+"/"+name); err == nil {
			continue // Another test has built it.
		}
		path := filepath.Join(t.TempDir(), name)
		build := exec.Command("go", "build", "-o", path, source)
		build.Dir = ipctest.Root(t)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, "../../programs/"+name, string(program))
		if output, err := s.try("chmod", "755", dir+"/"+name); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
	output := ipctest.NewServedLog(t).Path
	for _, name := range units {
		text := ipctest.ReadFile(t, "examples/systemd/"+name)
		s.write(t, name, strings.ReplaceAll(string(text), "/usr/local/bin", dir))
		extra := "[Unit]\nDefaultDependencies=no\n" // There is nothing to depend on.
		if strings.HasSuffix(name, ".service") {
			// There is no journal.
			extra += "[Service]\nStandardError=append:" + s.log.Name() + "\nStandardOutput=append:" + output + "\n"
		}
		s.write(t, name+".d/test.conf", extra)
	}
	s.reload(t)
	t.Cleanup(func() {
		if t.Failed() {
			status, _ := s.try(append([]string{"systemctl", "status", "--no-pager"}, units...)...)
			t.Log(status)
		}
		for _, name := range units { // The service first, then its socket.
			_, _ = s.try("systemctl", "stop", "--no-block", name)
		}
		_, _ = s.try(append([]string{"systemctl", "stop"}, units...)...)
		_, _ = s.try(append([]string{"systemctl", "reset-failed"}, units...)...)
	})
	return output
}

// theExampleWithSpool kills the agent with a spool while the collector is away. ExecStopPost= delivers what it has
// left, and the next agent goes on.
func theExampleWithSpool(t *testing.T, s *bootedSystemd) {
	// The machine's own /var/lib stays as it is.
	if output, err := s.try("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/var/lib"); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	output := s.installExamples(t, map[string]string{
		"collector": "./examples/systemd", "spoolagent": "./examples/systemd/spoolagent",
		"deliver": "./examples/spool/deliver",
	}, "collector.socket", "collector.service", "spoolagent.service")
	s.write(t, "spoolagent.service.d/fast.conf",
		"[Service]\nExecStart=\nExecStart=/run/programs/spoolagent -interval 1ms\n")
	s.reload(t)
	s.control(t, "start", "spoolagent.service", "collector.socket")
	handled := func(pid string) int { return checkAgentLines(t, output)[pid] }
	first := s.show(t, "spoolagent.service", "MainPID")
	ipctest.Until(t, "a line of the agent has come", func() bool { return handled(first) > 0 })

	s.control(t, "stop", "collector.service", "collector.socket")
	before := handled(first)
	spooled := func() (sum int64) {
		for _, name := range s.segments() {
			if info, err := os.Stat(name); err == nil {
				sum += info.Size()
			}
		}
		return sum
	}
	identity := s.identity(t)
	full := spooled() + 2000
	ipctest.Until(t, "the agent has written to the disk", func() bool { return spooled() > full })
	s.control(t, "kill", "--signal=KILL", "--kill-whom=main", "spoolagent.service")
	ipctest.Until(t, "systemd runs ExecStopPost=", func() bool {
		return s.show(t, "spoolagent.service", "SubState") == "stop-post"
	})
	s.control(t, "start", "collector.socket")
	second := ""
	ipctest.Until(t, "another agent runs", func() bool {
		second = s.show(t, "spoolagent.service", "MainPID")
		return second != first && second != "0"
	})
	if got := handled(first); got < before+10 {
		t.Errorf("%d lines of the killed agent were handled when it ended, %d when the next one ran", before, got)
	}
	ipctest.Until(t, "a line of the second agent has come", func() bool { return handled(second) > 0 })
	if now := s.identity(t); now != identity {
		t.Errorf("the identity is %x, before the kill it was %x: the unit hides the ID of the boot", now, identity)
	}
	s.control(t, "stop", "spoolagent.service")
	s.control(t, "stop", "collector.service")
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if want := "messages were handled, 0 are left\n"; !strings.Contains(string(text), want) {
		t.Errorf("nothing says %q", want)
	}
	if result := s.show(t, "spoolagent.service", "Result"); result != "success" {
		t.Errorf("the result is %q", result)
	}
}

// segments returns the segments of the agent's spool, oldest first.
func (s *bootedSystemd) segments() []string {
	names, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(s.pid), "root/var/lib/private/spoolagent/spool/*.seg"))
	return names
}

// identity returns the writer of the newest segment, which may just be made.
func (s *bootedSystemd) identity(t *testing.T) (id string) {
	t.Helper()
	ipctest.Until(t, "the spool has a segment", func() bool {
		names := s.segments()
		if len(names) == 0 {
			return false
		}
		header, _ := os.ReadFile(names[len(names)-1])
		if len(header) < 24 {
			return false
		}
		id = string(header[8:24])
		return true
	})
	return id
}

// checkAgentLines returns how many lines of each process have come, none missing. Lines that were handled in the last
// second before a kill may be there again: this collector does not store numbers. The last line may be incomplete.
func checkAgentLines(t *testing.T, output string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(output)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	lines := map[string]int{}
	for line := range strings.Lines(string(text)) {
		var pid string
		var n int
		if _, err := fmt.Sscanf(line, "agent %s lives, message %d\n", &pid, &n); err != nil && strings.HasSuffix(line, "\n") {
			t.Fatalf("%q: %v", line, err)
		}
		if !strings.HasSuffix(line, "\n") {
			break
		}
		if n > lines[pid]+1 {
			t.Fatalf("line %d of agent %s came after line %d", n, pid, lines[pid])
		}
		lines[pid] = max(lines[pid], n)
	}
	return lines
}
