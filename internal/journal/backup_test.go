// SPDX-License-Identifier: Apache-2.0

package journal_test

// Random lives of a spool that is backed up and restored, with a reader that remembers everything.

import (
	"math/rand/v2"
	"testing"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
)

// A backup is a copy of all files.
type backup struct {
	disk       *disktest.Disk
	serial     uint64          // Of the first message that is not in it.
	doubtful   bool            // It was made after another one was restored, and before a reader has noticed.
	repeatable map[uint64]bool // No reader had welcomed the start that wrote them: nothing tells that they are sent later.
}

// keeper takes backups of a world and restores them.
type keeper struct {
	*world
	random     *rand.Rand
	backups    []backup
	accepted   map[uint64]bool
	repeatable map[uint64]bool
	doubtful   bool
}

// backUp copies the files.
func (k *keeper) backUp(welcomed bool) {
	k.doubtful = k.doubtful && !welcomed
	b := backup{disk: k.disk.Copy(), serial: k.serial, repeatable: map[uint64]bool{}, doubtful: k.doubtful}
	for serial := range k.accepted {
		if !welcomed && k.got[serial] == 0 {
			b.repeatable[serial] = true
		}
	}
	k.backups = append(k.backups, b)
}

// restoreAny replaces the files by a backup. Messages that were written later, and not handled, are lost. So are
// later backups: nobody can tell numbers apart that were used in two ways since an earlier one.
func (k *keeper) restoreAny() {
	if len(k.backups) == 0 {
		return
	}
	n := k.random.IntN(len(k.backups))
	b := k.backups[n]
	k.backups = k.backups[:n+1]
	k.restore(b.disk)
	if k.doubtful = true; !b.doubtful && k.random.IntN(2) == 0 {
		k.disk, k.doubtful = files(b.disk), false // Not a snapshot: Open notices it.
	}
	for serial := range k.accepted {
		if serial >= b.serial && k.got[serial] == 0 {
			delete(k.accepted, serial)
		}
	}
	for serial := range b.repeatable {
		k.repeatable[serial] = true
	}
}

// files returns a copy of each file of a disk.
func files(d *disktest.Disk) *disktest.Disk {
	other := disktest.New()
	for _, name := range d.Names("") {
		content, _ := d.Content(name)
		other.SetContent(name, content)
	}
	return other
}

// live is one life. It returns whether a reader has welcomed the identity of new messages.
func (k *keeper) live() (welcomed bool) {
	k.t.Helper()
	k.open()
	for range k.random.IntN(8) {
		switch k.random.IntN(6) {
		case 0:
			k.backUp(k.meets())
		case 1:
			k.read(1 + k.random.IntN(3))
		case 2:
			writer, _ := k.log.Identity()
			if _, err := k.log.Next(); err != nil {
				k.welcome(writer) // Without a message.
			} else {
				k.log.Rewind()
			}
		default:
			serial := k.serial
			err := k.write(1 + k.random.IntN(3))
			for ; serial < k.serial; serial++ {
				k.accepted[serial] = err == nil
			}
		}
		k.check()
	}
	return k.meets()
}

// meets reports whether a reader has welcomed the identity of new messages in this life.
func (k *keeper) meets() bool {
	writer, _ := k.log.Identity()
	return k.met[writer]
}

// end ends a life.
func (k *keeper) end() {
	orderly, powerLoss := k.random.IntN(3) == 0, k.random.IntN(4) == 0
	if orderly {
		if err := k.log.Close(); err != nil {
			k.t.Fatal(err)
		}
	}
	if !powerLoss {
		k.disk = k.disk.Kill()
		return
	}
	k.disk, k.boot = k.disk.PowerLoss(k.random), k.boot+1
}

// TestLog_RestoredBackups_LoseNothingAccepted: what a backup has, and what is written after it was restored, is
// handled once, whatever the reader knows. Only what no reader had welcomed when the backup was made may be
// handled twice.
func TestLog_RestoredBackups_LoseNothingAccepted(t *testing.T) {
	renewed := uint64(0) // Else nothing is tested.
	for seed := range uint64(ipctest.InSoak(600, 60_000)) {
		random := rand.New(rand.NewPCG(seed, 31))
		k := &keeper{world: newWorld(t, journal.Config{SegmentSize: int64(200 + random.IntN(600))}), random: random,
			accepted: map[uint64]bool{}, repeatable: map[uint64]bool{}}
		for range 3 + random.IntN(6) {
			welcomed := k.live()
			renewed += k.log.Counts().Renewed
			k.end()
			k.doubtful = k.doubtful && !welcomed
			if random.IntN(3) == 0 {
				k.backUp(welcomed)
			}
			if random.IntN(3) == 0 {
				k.restoreAny()
			}
		}
		k.open()
		k.read(1000)
		k.check()
		for serial, is := range k.accepted {
			if n := k.got[serial]; is && n == 0 || n > 1 && !k.repeatable[serial] {
				t.Fatalf("seed %d: message %d was handled %d times; %s", seed, serial, n, k)
			}
		}
		k.log.Close()
	}
	if renewed == 0 {
		t.Error("no identity was given up")
	}
}
