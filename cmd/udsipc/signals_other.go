// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import "os"

func notifySignals(chan<- os.Signal, bool) {}

func isHandOver(os.Signal) bool { return false }

func isFull(error) bool { return false }
