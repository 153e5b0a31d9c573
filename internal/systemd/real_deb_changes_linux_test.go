// SPDX-License-Identifier: Apache-2.0

package systemd_test

// This file tests what the package does with changes of an administrator, at its removal, and without systemd.

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// packageKeepsChanges: an upgrade keeps the options of /etc/default, and a socket that was disabled.
func packageKeepsChanges(t *testing.T, m debianMachine) {
	options := "OPTIONS=\"--append " + filepath.Dir(collectorFile) + "/other.log\"\n"
	if err := os.WriteFile(m.root("/etc/default/udsipc-collector"), []byte(options), 0o644); err != nil {
		t.Fatal(err)
	}
	m.control(t, "disable", "--now", "udsipc-collector.socket")
	m.install(t, "1.0.0")
	if text, err := os.ReadFile(m.root("/etc/default/udsipc-collector")); err != nil || string(text) != options {
		t.Errorf("the options are %q, %v", text, err)
	}
	for _, unit := range []string{"udsipc-collector.socket", "udsipc-collector.service"} {
		if state := m.show(t, unit, "ActiveState"); state != "inactive" {
			t.Errorf("%s is %s", unit, state)
		}
	}
	m.control(t, "enable", "--now", "udsipc-collector.socket")
	if output, err := m.try("sh", "-c", "echo hello | udsipc send --ack --timeout 30s "+collectorSocket); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if text, err := os.ReadFile(m.root(filepath.Dir(collectorFile) + "/other.log")); string(text) != "hello\n" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// packageWrongOption: the socket stays, writers wait at it, and go on when the line is right.
func packageWrongOption(t *testing.T, m debianMachine) {
	file := m.root("/etc/default/udsipc-collector")
	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("OPTIONS=--wrong\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.control(t, "stop", "udsipc-collector.service")
	w := ipctest.StartWriter(t, m.root(collectorSocket), udsipc.WithAcknowledgements())
	ipctest.MustWriteMessage(t, w, "waits")
	m.awaitFailures(t)
	if state := m.show(t, "udsipc-collector.socket", "ActiveState"); state != "active" {
		t.Errorf("the socket is %s", state)
	}
	if err := os.WriteFile(file, right, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

// packageWithoutSystemd: as in a chroot in which not even /proc is mounted, with a mask that keeps others out.
func packageWithoutSystemd(t *testing.T, m debianMachine) {
	for _, script := range []string{
		"dpkg --force-unsafe-io --install " + m.packages.file(t, "1.0.0"),
		"test $(stat -c %a /usr/bin/udsipc) = 755; test $(stat -c %a /etc/default/udsipc-collector) = 644",
		"dpkg --purge udsipc",
	} {
		output, err := m.try("unshare", "--mount", "sh", "-euc",
			"mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /proc; umask 077; "+script)
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, output)
		}
	}
}

// packagePurge: what was collected outlives the removal of the package, but not that of its configuration.
func packagePurge(t *testing.T, m debianMachine) {
	m.dpkg(t, "--remove", "udsipc")
	if _, err := os.Stat(m.root(collectorFile)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.root(collectorSocket)); err == nil {
		t.Error("the socket is still there")
	}
	m.install(t, "1.0.1") // It comes back as it was.
	if state := m.show(t, "udsipc-collector.socket", "ActiveState"); state != "active" {
		t.Errorf("the socket is %s", state)
	}
	m.dpkg(t, "--purge", "udsipc")
	output, err := m.try("sh", "-c", "find /etc /usr /var /run -xdev -path '*udsipc-[cw]*'")
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
	if output != "" {
		t.Errorf("left behind: %s", output)
	}
}
