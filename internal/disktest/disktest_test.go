// SPDX-License-Identifier: Apache-2.0

package disktest_test

// What a life leaves to the next one.

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestMain(m *testing.M) { ipctest.Main(m) }

// create makes a file with content.
func create(t *testing.T, d *disktest.Disk, name string, content []byte) disk.File {
	t.Helper()
	f, err := d.Create(name)
	if err == nil {
		_, err = f.WriteAt(content, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPowerLoss_Synced_Stays, and what is not synced may stay or go, by sector and by name.
func TestPowerLoss_Synced_Stays(t *testing.T) {
	old, young := bytes.Repeat([]byte{1}, 2000), bytes.Repeat([]byte{2}, 3000)
	outcomes := map[string]int{}
	for seed := range uint64(300) {
		d := disktest.New()
		synced := create(t, d, "synced", old)
		mixed := create(t, d, "mixed", old)
		if err := errors.Join(synced.Sync(), mixed.Sync(), d.SyncNames()); err != nil {
			t.Fatal(err)
		}
		mixed.WriteAt(young, 0)
		create(t, d, "new", young).Sync()
		d.Rename("synced", "renamed")
		next := d.PowerLoss(rand.New(rand.NewPCG(seed, 1)))
		_, before := next.Content("synced")
		_, after := next.Content("renamed")
		_, made := next.Content("new")
		got, _ := next.Content("mixed")
		if before == after {
			t.Fatalf("seed %d: the file has its old name: %v, its new one: %v", seed, before, after)
		}
		for from := 0; from < len(got); from += disktest.Sector {
			sector := got[from:min(from+disktest.Sector, len(got))]
			if min(from+disktest.Sector, len(got)) <= 2000 && !bytes.Equal(sector, old[:len(sector)]) &&
				!bytes.Equal(sector, young[:len(sector)]) {
				t.Fatalf("seed %d: the sector at %d is neither the old nor the new one: %x", seed, from, sector)
			}
		}
		for name, is := range map[string]bool{"renamed": after, "new": made, "old size": len(got) == 2000,
			"new size": len(got) == 3000, "all old": bytes.Equal(got, old), "all new": bytes.Equal(got, young)} {
			if is {
				outcomes[name]++
			}
		}
		if _, err := d.Open("mixed"); !errors.Is(err, disktest.ErrDead) {
			t.Fatalf("the former disk: %v, want %v", err, disktest.ErrDead)
		}
	}
	for _, name := range []string{"renamed", "new", "old size", "new size", "all old", "all new"} {
		if outcomes[name] == 0 || outcomes[name] == 300 {
			t.Errorf("%s: %d of 300 seeds", name, outcomes[name])
		}
	}
}

// TestSync_Failed_LeavesPagesClean: what a failed sync should have written is read until the power is lost.
func TestSync_Failed_LeavesPagesClean(t *testing.T) {
	d := disktest.New()
	f := create(t, d, "a", []byte("old"))
	if err := errors.Join(f.Sync(), d.SyncNames()); err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("new"), 0)
	failed := errors.New("input/output error")
	d.Fault = func(op disktest.Op, _ string) error {
		if op == disktest.OpSync {
			return failed
		}
		return nil
	}
	if err := f.Sync(); err != failed {
		t.Errorf("%v, want %v", err, failed)
	}
	d.Fault = nil
	if err := f.Sync(); err != nil {
		t.Errorf("the second sync: %v", err)
	}
	if got, _ := d.Content("a"); string(got) != "new" {
		t.Errorf("%q before the loss of power, want new", got)
	}
	next := d.PowerLoss(rand.New(rand.NewPCG(1, 1)))
	if got, _ := next.Content("a"); string(got) != "old" {
		t.Errorf("%q after the loss of power, want old", got)
	}
}

// TestQuota_Write_IsCut at each byte; Kill keeps all that was written.
func TestQuota_Write_IsCut(t *testing.T) {
	for quota := int64(1); quota < 20; quota++ {
		d := disktest.New()
		d.Quota = quota
		f, err := d.Create("a")
		if err != nil {
			t.Fatal(err)
		}
		n, err := f.WriteAt(make([]byte, 15), 0)
		want, full := min(quota, 15), quota < 15
		if int64(n) != want || (err != nil) != full || full && !errors.Is(err, disk.ErrFull) {
			t.Errorf("quota %d: wrote %d, %v; want %d", quota, n, err, want)
		}
		if got, _ := d.Kill().Content("a"); len(got) != n {
			t.Errorf("quota %d: %d bytes after a kill, want %d", quota, len(got), n)
		}
	}
}
