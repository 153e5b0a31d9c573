// SPDX-License-Identifier: Apache-2.0

package main

// Time, processors and memory, as Linux tells them.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

var (
	started     = time.Now()
	clockOffset = calibrate()
)

// now returns the time of CLOCK_MONOTONIC, which is one clock for all processes, in nanoseconds.
func now() int64 { return clockOffset + int64(time.Since(started)) }

// calibrate returns the difference between CLOCK_MONOTONIC and the time since started. The runtime
// reads the clock without a system call, but tells only differences.
func calibrate() int64 {
	var offset int64
	best := time.Duration(math.MaxInt64)
	for range 100 {
		var ts unix.Timespec
		before := time.Since(started)
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic(err)
		}
		if took := time.Since(started) - before; took < best {
			best, offset = took, ts.Nano()-int64(before+took/2)
		}
	}
	return offset
}

// A sleeper waits for points in time with the precision of the kernel. A Go timer has that of a
// millisecond while nothing else runs.
type sleeper struct {
	timer *os.File
	fd    int
}

func newSleeper() (*sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	return &sleeper{os.NewFile(uintptr(fd), "timer"), fd}, nil
}

// until waits for a point in time of now. Other goroutines run meanwhile.
func (s *sleeper) until(ns int64) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(ns)}
	if err := unix.TimerfdSettime(s.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	var expirations [8]byte
	_, err := s.timer.Read(expirations[:])
	return err
}

// processorTime returns the time that this process has run, in nanoseconds.
func processorTime() int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// peakMemory returns the largest resident set of this process in bytes. ru_maxrss would include
// that of the process that started this one.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	var kib int64
	if _, err := fmt.Sscanf(string(rest), "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("VmHWM in /proc/self/status: %w", err)
	}
	return kib << 10, nil
}

// processors returns the numbers of the processors that this process may use.
func processors() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	var all []int
	for i := range 8 * binary.Size(set) {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all, nil
}

// pinned calls start on a thread that may use only that processor. A process that start starts
// inherits it, and its runtime finds one processor.
func pinned(processor int, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	one.Set(processor)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("sched_setaffinity to processor %d: %w", processor, err)
	}
	defer unix.SchedSetaffinity(0, &old)
	return start()
}
