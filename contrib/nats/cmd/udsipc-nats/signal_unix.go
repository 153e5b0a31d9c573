// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import "syscall"

// handOver is the signal of a restart, as opposed to a stop (RestartKillSignal=, systemd.kill(5)).
const handOver = syscall.SIGUSR2
