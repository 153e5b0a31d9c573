// SPDX-License-Identifier: Apache-2.0

package conform

// This file is what a Reader under test reports: a line for each message that it has handled.

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A delivery is what one line tells.
type delivery struct {
	length, sum int
	redelivered byte   // r, or - if it is the first time; ? if a case allows both.
	start       string // The first 40 bytes.
}

// shown is the number of bytes of a message that a line repeats.
const shown = 40

// delivered returns the delivery of a message.
func delivered(data []byte, redelivered byte) delivery {
	sum := 0
	for _, b := range data {
		sum += int(b)
	}
	return delivery{len(data), sum, redelivered, string(data[:min(len(data), shown)])}
}

func (d delivery) String() string {
	return fmt.Sprintf("%d %d %c %s", d.length, d.sum, d.redelivered, d.start)
}

// matches reports whether a line is what a case expects.
func (d delivery) matches(want delivery) bool {
	if want.redelivered == '?' {
		want.redelivered = d.redelivered
	}
	return d == want
}

func parseDelivery(line string) (d delivery, err error) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) < 3 {
		return d, fmt.Errorf("%q, want: LENGTH SUM r|- FIRST-40-BYTES", line)
	}
	if len(fields) == 4 {
		d.start = fields[3]
	}
	if _, err := fmt.Sscanf(fields[0]+" "+fields[1], "%d %d", &d.length, &d.sum); err != nil || len(fields[2]) != 1 {
		return d, fmt.Errorf("%q, want: LENGTH SUM r|- FIRST-40-BYTES", line)
	}
	d.redelivered = fields[2][0]
	return d, nil
}

// A handledLog collects the lines.
type handledLog struct {
	mu      sync.Mutex
	list    []delivery // Those that no case has taken.
	bad     error
	changed chan struct{} // Closed and replaced at each change.
}

func newHandledLog() *handledLog { return &handledLog{changed: make(chan struct{})} }

// read reads lines until the end, of one process under test.
func (l *handledLog) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		d, err := parseDelivery(lines.Text())
		l.mu.Lock()
		if err == nil {
			l.list = append(l.list, d)
		} else if l.bad == nil {
			l.bad = err
		}
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
	}
}

// take waits until there are so many lines, and takes all.
func (l *handledLog) take(count int, timeout time.Duration) ([]delivery, error) {
	deadline := time.After(timeout)
	for {
		l.mu.Lock()
		list, bad, changed := l.list, l.bad, l.changed
		if bad != nil || len(list) >= count {
			l.list, l.bad = nil, nil
			l.mu.Unlock()
			return list, bad
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			return list, fmt.Errorf("%d messages were handled within %v, want %d", len(list), timeout, count)
		}
	}
}

// drop forgets what was handled of a case that has failed.
func (l *handledLog) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list, l.bad = nil, nil
}

// putBack returns deliveries that a case has not looked at.
func (l *handledLog) putBack(list []delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(append([]delivery(nil), list...), l.list...)
}
