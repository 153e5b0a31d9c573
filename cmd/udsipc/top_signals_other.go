// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import "os"

func notifyTerminal(chan<- os.Signal) {}

func isHangup(os.Signal) bool { return false }

func isPause(os.Signal) bool { return false }

func pauseProcess() {}
