// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

func notifySignals(listenSignals, bool) {}

func isFull(error) bool { return false }
