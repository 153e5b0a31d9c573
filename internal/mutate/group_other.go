// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import "os/exec"

// group and endGroup do nothing here: only the command itself ends with its context.
func group(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}
