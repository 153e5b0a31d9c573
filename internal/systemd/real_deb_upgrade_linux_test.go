// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// running returns which program the service runs.
func (m debianMachine) running(t *testing.T) (program string) {
	t.Helper()
	output, err := m.try("readlink", "/proc/"+m.show(t, "udsipc-collector.service", "MainPID")+"/exe")
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
	return strings.TrimSpace(output)
}

// awaitFailures waits until the service has failed three times in a row.
func (m debianMachine) awaitFailures(t *testing.T) {
	t.Helper()
	ipctest.Until(t, "systemd has tried again", func() bool {
		n, err := strconv.Atoi(m.show(t, "udsipc-collector.service", "NRestarts"))
		return err == nil && n >= 2
	})
}

// awaitGrowth waits until some more messages are in the file.
func awaitGrowth(t *testing.T, file string) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0 // The first message makes it.
		}
		return info.Size()
	}
	enough := size() + 20_000
	ipctest.Until(t, "some messages have come", func() bool { return size() > enough })
}

// packageUpgrades: an upgrade disconnects no writer, and repeats or loses no message, acknowledged or plain. Nor does
// one to a program that does not start.
func packageUpgrades(t *testing.T, m debianMachine) {
	file := m.root(collectorFile)
	before := len(toolLines(t, file))
	stop := make(chan struct{})
	plain := startTalker(t, stop, "plain", m.root(collectorSocket))
	acknowledged := startTalker(t, stop, "acknowledged", m.root(collectorSocket), udsipc.WithAcknowledgements())
	pid := ""
	for _, version := range []string{"1.0.1", broken, "1.0.0"} { // There is a way back.
		if version != "1.0.0" {
			awaitGrowth(t, file)
		}
		if now := m.show(t, "udsipc-collector.service", "MainPID"); now == pid {
			t.Errorf("process %s is still the one", pid)
		}
		pid = m.show(t, "udsipc-collector.service", "MainPID")
		m.install(t, version)
		if version == broken {
			m.awaitFailures(t)
			continue
		}
		if program := m.running(t); program != "/usr/bin/udsipc" { // Not one that is deleted.
			t.Errorf("after the upgrade %s runs", program)
		}
	}
	awaitGrowth(t, file)
	m.control(t, "restart", "udsipc-collector.socket") // The unit may have changed.
	awaitGrowth(t, file)
	close(stop)
	want := map[string]int{"plain": ipctest.Await(t, "the plain writer", plain),
		"acknowledged": ipctest.Await(t, "the acknowledged writer", acknowledged)}
	next := map[string]int{}
	ipctest.Until(t, "all is written", func() bool {
		return len(toolLines(t, file))-before >= want["plain"]+want["acknowledged"]
	})
	for _, line := range toolLines(t, file)[before:] {
		name, number, _ := strings.Cut(line.Data, " ")
		if number != strconv.Itoa(next[name]) {
			t.Fatalf("%q comes after %d messages of the writer", line.Data, next[name])
		}
		next[name]++
	}
	if next["plain"] != want["plain"] || next["acknowledged"] != want["acknowledged"] {
		t.Errorf("the file has %v, want %v", next, want)
	}
}

// packageKills: with acknowledgements, kills in the middle of upgrades lose no message, and what is there twice is
// known by its number.
func packageKills(t *testing.T, m debianMachine) {
	m.write(t, "udsipc-collector.service.d/fast.conf", "[Service]\nRestartSec=10ms\n")
	m.reload(t)
	defer func() {
		if err := os.RemoveAll(m.root("/run/systemd/system/udsipc-collector.service.d")); err != nil {
			t.Error(err)
		}
		m.reload(t)
	}()
	file := m.root(collectorFile)
	before := len(toolLines(t, file))
	const writers = 4
	stop, results := make(chan struct{}), sync.WaitGroup{}
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	sent := make([]int, writers)
	for i := range writers {
		results.Go(func() { sent[i] = talkUntil(t, stop, fmt.Sprint("killed", i), m.root(collectorSocket)) })
	}
	for _, version := range []string{"1.0.1", "1.0.0"} {
		awaitGrowth(t, file)
		killed := make(chan struct{})
		go func() { // Ends by itself.
			defer close(killed)
			last := ""
			for i := range 6 { // More often than systemd likes, without StartLimitIntervalSec=0.
				last = m.killNext(last, []string{"-KILL", "-ABRT"}[i%2]) // Or as the watchdog does.
			}
		}()
		output, err := m.try("dpkg", "--force-unsafe-io", "--install", m.packages.file(t, version))
		if err != nil {
			t.Errorf("%v: %s", err, output)
		}
		<-killed
	}
	awaitGrowth(t, file)
	end()
	results.Wait()
	next, seen := map[string]int{}, map[string]bool{}
	for _, line := range toolLines(t, file)[before:] {
		if id := fmt.Sprint(line.Writer, line.Seq); !seen[id] {
			seen[id] = true
			name, number, _ := strings.Cut(line.Data, " ")
			if number != strconv.Itoa(next[name]) {
				t.Fatalf("%q comes after %d messages of the writer", line.Data, next[name])
			}
			next[name]++
		}
	}
	for i := range writers {
		if name := fmt.Sprint("killed", i); next[name] != sent[i] {
			t.Errorf("%s: the file has %d messages of %d", name, next[name], sent[i])
		}
	}
}

// killNext kills the process of the service once it is another one than last, and returns it, or "" if none comes.
func (m debianMachine) killNext(last, signal string) string {
	for range 500 {
		output, err := m.try("systemctl", "show", "--value", "--property=MainPID", "udsipc-collector.service")
		if pid := strings.TrimSpace(output); err == nil && pid != last && pid != "0" {
			if _, err := m.try("kill", signal, pid); err == nil {
				return pid
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

// talkUntil sends until stop is closed, and returns how many messages were acknowledged, which is all of them.
func talkUntil(t *testing.T, stop <-chan struct{}, name, address string) (sent int) {
	w := ipctest.StartWriter(t, address, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
	ticker := time.NewTicker(time.Millisecond) // A flood makes large files.
	defer ticker.Stop()
	for ; ; sent++ {
		select {
		case <-ticker.C:
		case <-stop:
			if err := w.Stop(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return sent
		}
		if err := w.WriteMessageContext(t.Context(), fmt.Appendf(nil, "%s %d", name, sent)); err != nil {
			t.Errorf("%s: %v", name, err)
			return sent
		}
	}
}
