// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"os/exec"
	"syscall"
)

// endWithTests has the kernel kill a process when the one of the tests ends, also if that is killed or runs out of time
// (prctl(2), PR_SET_PDEATHSIG). Go ends no thread that has started a process, but for one that a goroutine has locked.
func endWithTests(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
