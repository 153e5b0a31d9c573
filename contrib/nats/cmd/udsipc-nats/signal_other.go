// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import "syscall"

const handOver = syscall.SIGHUP // There is no systemd, and nobody sends it.
