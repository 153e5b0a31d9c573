// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// This file has what ends with a booted systemd, also if the process of the test is killed.

// cgroupPrefix begins the names of the cgroups that tests make. The number of their process follows.
const cgroupPrefix = "udsipc-test-"

// startMortal starts a command that the kernel kills when this process ends, however that happens. The channel is
// closed at the end of the command. The signal comes when the thread ends that has started the command (prctl(2),
// PR_SET_PDEATHSIG), so a goroutine keeps this thread.
func startMortal(tb testing.TB, cmd *exec.Cmd) (ended <-chan struct{}) {
	tb.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() { // Ends with the command.
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	return done
}

// sweepCgroups removes the cgroups of tests that were killed. Those with processes stay: the kernel keeps them.
func sweepCgroups(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, cgroupPrefix+"*-*"))
	for _, name := range names {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), cgroupPrefix), "-")
		if _, err := os.Lstat(filepath.Join("/proc", pid)); errors.Is(err, fs.ErrNotExist) {
			tryRemoveCgroup(name)
		}
	}
}

// tryRemoveCgroup removes a cgroup with those in it, as far as they have no processes.
func tryRemoveCgroup(dir string) {
	var below []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			below = append(below, path)
		}
		return nil
	})
	for _, path := range slices.Backward(below) {
		_ = os.Remove(path)
	}
}

// lastOf returns the last bytes of a file, at most size of them.
func lastOf(name string, size int64) []byte {
	file, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil {
		_, _ = file.Seek(max(0, info.Size()-size), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(file, size))
	return text
}

// killedVariable makes a test wait for its end once its systemd runs.
const killedVariable = "UDSIPC_TEST_KILLED"

// TestBootedSystemd_TestIsKilled_Ends: a systemd ends with the process of its test, also by SIGKILL, and the next test
// removes the cgroups.
func TestBootedSystemd_TestIsKilled_Ends(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a systemd")
	}
	systemdProgram(t) // Skips.
	if os.Getenv(killedVariable) != "" {
		s := bootSystemd(t)
		fmt.Printf("\nbooted %d\n", s.pid)
		select {} // Until it is killed.
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), killedVariable+"=yes", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	booted, scanner := 0, bufio.NewScanner(out)
	for booted == 0 && scanner.Scan() {
		if text, ok := strings.CutPrefix(scanner.Text(), "booted "); ok {
			booted, _ = strconv.Atoi(text)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if booted == 0 {
		t.Fatal("no systemd was booted")
	}
	ipctest.Until(t, "systemd has ended", func() bool {
		_, err := os.Lstat(filepath.Join("/proc", strconv.Itoa(booted)))
		return errors.Is(err, fs.ErrNotExist)
	})
	ownCgroups(t)
	ipctest.Until(t, "its cgroups are removed", func() bool {
		left, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/%s%d-*", cgroupPrefix, cmd.Process.Pid))
		more, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/%s%d-*", cgroupPrefix, cmd.Process.Pid))
		return len(left)+len(more) == 0
	})
}
