// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"
	"time"
)

var errLinux = errors.New("measuring between processes needs Linux")

type sleeper struct{}

func now() int64                     { return time.Now().UnixNano() }
func newSleeper() (*sleeper, error)  { return nil, errLinux }
func (*sleeper) until(int64) error   { return errLinux }
func processorTime() int64           { return 0 }
func peakMemory() (int64, error)     { return 0, errLinux }
func processors() ([]int, error)     { return nil, errLinux }
func pinned(int, func() error) error { return errLinux }
