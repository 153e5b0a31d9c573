// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// roleVariable names what a process is that a test has made of its own binary.
const roleVariable = "UDSIPC_TEST_ROLE"

// roles are the processes that tests make. What a role returns is printed as its failure. Files that
// have one add it in an init function.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if role, ok := os.LookupEnv(roleVariable); ok {
		os.Exit(play(role))
	}
	// Tests that run beside others mostly wait: for time to pass, or for other processes.
	// Under the race detector and in an emulator they work.
	if !raceEnabled && os.Getenv("UDSIPC_TEST_EMULATED") == "" {
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if left := leaked(); left != "" {
		fmt.Fprintf(os.Stderr, "goroutines are left behind:\n%s\n", left)
		code = max(code, 1)
	}
	os.Exit(code)
}

func play(role string) (code int) {
	run, ok := roles[role]
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

// process returns a command that runs this binary in a role, without the variables of a socket
// activation that this process may have got itself.
func process(tb testing.TB, role string, environment ...string) *exec.Cmd {
	tb.Helper()
	if os.Getenv("UDSIPC_TEST_EMULATED") != "" {
		tb.Skip("the kernel does not run this binary without its emulator")
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), self)
	cmd.Env = roleEnvironment(role, environment...)
	return cmd
}

// roleEnvironment is the environment of a process in a role.
func roleEnvironment(role string, environment ...string) []string {
	env := []string{roleVariable + "=" + role, "GORACE=atexit_sleep_ms=0"} // Else each takes a second to exit.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "LISTEN_") {
			env = append(env, variable)
		}
	}
	return append(env, environment...)
}

// leaked returns the stacks of the goroutines of the package that do not end within two seconds.
func leaked() (left string) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(2 * time.Second); ; <-ticker.C {
		left = ""
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, "/udsipc.") { // The package of the tests is /udsipc_test.
				left += stack + "\n\n"
			}
		}
		if left == "" || time.Now().After(deadline) {
			return left
		}
	}
}
