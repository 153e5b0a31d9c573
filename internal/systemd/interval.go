// SPDX-License-Identifier: Apache-2.0

package systemd

// This file reads the watchdog interval that systemd expects.

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// watchdogInterval returns the interval in which systemd expects a keep-alive ping; 0: none
// (sd_watchdog_enabled(3)).
func watchdogInterval() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	return parseWatchdog(os.Getpid(), text, os.Getenv("WATCHDOG_PID"))
}

// parseWatchdog parses the two watchdog variables for process pid.
func parseWatchdog(pid int, interval, meant string) (time.Duration, error) {
	if interval == "" {
		return 0, nil
	}
	if meant != "" {
		number, err := strconv.Atoi(meant)
		if err != nil || number <= 0 {
			return 0, fmt.Errorf("WATCHDOG_PID is %q, not the number of a process", meant)
		}
		if number != pid {
			return 0, nil
		}
	}
	usec, err := strconv.ParseUint(interval, 10, 64)
	if err != nil || usec == 0 || usec > uint64(maxWatchdog/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC is %q, not a number of microseconds", interval)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// maxWatchdog is the largest interval that is accepted.
const maxWatchdog = 100 * 365 * 24 * time.Hour
