// SPDX-License-Identifier: Apache-2.0

package journal_test

// Processes with a log in a directory of the operating system that are killed at random moments.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/wire"
)

const (
	lifeVariable = "UDSIPC_TEST_LIFE" // A life, as its String.
	producers    = 3
)

func init() { ipctest.Roles["log"] = liveLog }

// A life is what a process is told.
type life struct {
	dir, store string // Of the log, and the file of the reader.
	sync       time.Duration
	number     uint64
	boot       byte
	lossy      bool // Messages may be missing.
}

func (l life) String() string {
	return fmt.Sprintf("%s %s %d %d %d %t", l.dir, l.store, l.sync, l.number, l.boot, l.lossy)
}

func parseLife(text string) (l life, err error) {
	_, err = fmt.Sscan(text, &l.dir, &l.store, (*int64)(&l.sync), &l.number, &l.boot, &l.lossy)
	return l, err
}

// most returns how many messages a life writes at most, about; with a sync before each return fewer.
func (l life) most() int {
	if l.sync == 0 {
		return 300
	}
	return 2000
}

// take stores what is new of a batch, and tells the log.
func take(s *ipctest.Store, log *journal.Log, b journal.Batch) error {
	rest := b.Frames
	for number := b.First; number < b.First+uint64(b.Count); number++ {
		length, size, _ := wire.ParsePrefix(rest)
		if err := s.Add(b.Writer, number, rest[size:size+int(length)]); err != nil {
			return err
		}
		rest = rest[size+int(length):]
	}
	if err := s.Save(); err != nil {
		return err
	}
	return log.Handled(b.Writer, b.First+uint64(b.Count)-1, 0)
}

// liveLog is a process that writes, and that handles what it reads. It prints each serial number that was
// accepted. Some end in order.
func liveLog() error {
	l, err := parseLife(os.Getenv(lifeVariable))
	if err != nil {
		return err
	}
	_, log, s, err := l.open()
	if err != nil {
		return err
	}
	failed := make(chan error, producers+1)
	for producer := range uint64(producers) {
		go func() { failed <- produce(log, ipctest.Serial(l.number, producer, 0)) }() // Ends with the process.
	}
	random := rand.New(rand.NewPCG(l.number, 1))
	for batches := random.IntN(1500); ; batches-- {
		b, err := log.Next()
		switch {
		case batches < 0 && l.number%4 == 0:
			return log.Close()
		case err == io.EOF:
			select {
			case <-log.Arrived():
			case err := <-failed:
				return err
			}
		case err != nil:
			return err
		default:
			if err := take(s, log, b); err != nil {
				return err
			}
		}
	}
}

// produce appends messages until the log is closed.
func produce(log *journal.Log, serial uint64) error {
	for n := uint64(0); ; {
		count := 1 + int(n%4)
		var frames, told []byte
		for range count {
			frames = wire.AppendFrame(frames, ipctest.SerialMessage(serial+n))
			told = binary.LittleEndian.AppendUint64(told, serial+n)
			n++
		}
		if _, err := log.Append(frames, count); errors.Is(err, journal.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(told); err != nil {
			return err
		}
	}
}

// open opens the log and the store. Missing messages are an error.
func (l life) open() (disk.Disk, *journal.Log, *ipctest.Store, error) {
	d, err := disk.Open(l.dir)
	if err != nil {
		return nil, nil, nil, err
	}
	log, _, err := journal.Open(d, journal.Config{Sync: l.sync, SegmentSize: 8 << 10, Boot: [16]byte{l.boot},
		OnDamage: func(d journal.Damage) {
			if d.To > d.From && !l.lossy {
				fmt.Fprintf(os.Stderr, "damage: %+v\n", d)
				os.Exit(1)
			}
		}})
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := ipctest.OpenStore(l.store)
	return d, log, s, err
}

// drain handles all that is left, and closes the log.
func (l life) drain() (*ipctest.Store, error) {
	d, log, s, err := l.open()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for {
		b, err := log.Next()
		if err == io.EOF {
			return s, log.Close()
		}
		if err == nil {
			err = take(s, log, b)
		}
		if err != nil {
			return nil, err
		}
	}
}

// TestLog_ProcessKilled_KeepsWhatItAccepted: each message that was accepted is handled once, in the order of its
// producer, and the identity goes on.
func TestLog_ProcessKilled_KeepsWhatItAccepted(t *testing.T) {
	for _, sync := range []time.Duration{-1, 0, time.Millisecond} {
		t.Run(sync.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			random := rand.New(rand.NewPCG(uint64(sync), 2))
			l := life{filepath.Join(dir, "spool"), filepath.Join(dir, "store"), sync, 0, 1, false}
			accepted := map[uint64]bool{}
			for ; l.number < uint64(ipctest.InSoak(67, 3400)); l.number++ {
				l.kill(t, random, accepted)
			}
			s, err := l.drain()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(accepted); err != nil || len(s.Handled) != 1 {
				t.Errorf("%v; %d identities", err, len(s.Handled))
			}
		})
	}
}

// kill begins a life and kills it, after so many accepted messages or during its opening.
func (l life) kill(t *testing.T, random *rand.Rand, accepted map[uint64]bool) {
	t.Helper()
	cmd := ipctest.Process(t, "log", lifeVariable+"="+l.String())
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if random.IntN(4) == 0 {
		moment := time.AfterFunc(time.Duration(random.IntN(30_000))*time.Microsecond, func() { cmd.Process.Kill() })
		defer moment.Stop()
	}
	ipctest.CollectSerials(output, accepted, random.IntN(l.most()), func() { cmd.Process.Kill() })
	if err := cmd.Wait(); err != nil && said.Len() > 0 {
		t.Fatalf("life %d: %v: %s", l.number, err, &said)
	}
}
