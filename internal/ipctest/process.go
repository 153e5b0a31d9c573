// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// RoleVariable is the environment variable with the role of a process that a test started.
const RoleVariable = "UDSIPC_TEST_ROLE"

// Roles has the functions of the processes that tests start. The process prints the error that its
// function returns. Files add their roles in an init function.
var Roles = map[string]func() error{}

// Play runs a role and returns the exit code of the process.
func Play(role string) (code int) {
	run, ok := Roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "no role %q\n", role)
		return 2
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		return 1
	}
	return 0
}

// Process returns a command that runs this binary in a role. It removes the variables of a socket
// activation of this process. On Linux the process ends with this one. Short runs skip the test.
func Process(tb testing.TB, role string, environment ...string) *exec.Cmd {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts a process")
	}
	if os.Getenv("UDSIPC_TEST_EMULATED") != "" {
		tb.Skip("the kernel does not run this binary without its emulator")
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), self)
	cmd.Env = roleEnvironment(role, environment...)
	endWithTests(cmd)
	return cmd
}

// roleEnvironment returns the environment of a process in a role.
func roleEnvironment(role string, environment ...string) []string {
	env := []string{RoleVariable + "=" + role, "GORACE=atexit_sleep_ms=0"} // Otherwise each takes a second to exit.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "LISTEN_") {
			env = append(env, variable)
		}
	}
	return append(env, environment...)
}

// ours matches the functions of the library in a stack, but not its tests.
var ours = regexp.MustCompile(`github\.com/udsipc/udsipc(/internal)?(/[a-z]+)?\.`)

// Leaked returns the stacks of goroutines of the library that do not end within two seconds.
func Leaked() (left string) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(2 * time.Second); ; <-ticker.C {
		left = ""
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if ours.MatchString(strings.ReplaceAll(stack, "/internal/ipctest.", "")) {
				left += stack + "\n\n"
			}
		}
		if left == "" || time.Now().After(deadline) {
			return left
		}
	}
}
