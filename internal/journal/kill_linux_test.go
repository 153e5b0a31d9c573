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
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

const (
	lifeVariable = "UDSIPC_TEST_LIFE" // Directory, interval of the syncs, count of the life.
	producers    = 3
	recordSize   = 32
)

func init() { ipctest.Roles["log"] = liveLog }

// A store is what a reader keeps of each message: writer, number and serial number, as one record of a file.
type store struct {
	file    *os.File
	handled map[segment.WriterID]uint64
	serials []uint64
}

func openStore(path string) (*store, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	content = content[:len(content)/recordSize*recordSize]
	s := &store{file: file, handled: map[segment.WriterID]uint64{}}
	for record := range slices.Chunk(content, recordSize) {
		writer, number := segment.WriterID(record), binary.LittleEndian.Uint64(record[16:])
		if number <= s.handled[writer] {
			return nil, fmt.Errorf("message %d was stored after %d", number, s.handled[writer])
		}
		s.handled[writer] = number
		s.serials = append(s.serials, binary.LittleEndian.Uint64(record[24:]))
	}
	return s, file.Truncate(int64(len(content)))
}

// take stores what is new of a batch, and tells the log.
func (s *store) take(log *journal.Log, b journal.Batch) error {
	var records []byte
	rest := b.Frames
	for number := b.First; number < b.First+uint64(b.Count); number++ {
		length, size, _ := wire.ParsePrefix(rest)
		serial := binary.LittleEndian.Uint64(rest[size:])
		if got := rest[size : size+int(length)]; !bytes.Equal(got, serialMessage(serial)) {
			return fmt.Errorf("message %d is %x", number, got)
		}
		rest = rest[size+int(length):]
		if number > s.handled[b.Writer] {
			records = binary.LittleEndian.AppendUint64(append(records, b.Writer[:]...), number)
			records = binary.LittleEndian.AppendUint64(records, serial)
			s.handled[b.Writer] = number
			s.serials = append(s.serials, serial)
		}
	}
	if _, err := s.file.Write(records); err != nil {
		return err
	}
	return log.Handled(b.Writer, b.First+uint64(b.Count)-1)
}

// serialMessage returns the message with a serial number.
func serialMessage(serial uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, serial)
	return append(b, bytes.Repeat([]byte{byte(serial)}, int(serial*2654435761>>7%300))...)
}

// liveLog is a process that writes, and that handles what it reads. It prints each serial number that was
// accepted. Some end in order.
func liveLog() error {
	var path string
	var sync int64
	var life uint64
	if _, err := fmt.Sscan(os.Getenv(lifeVariable), &path, &sync, &life); err != nil {
		return err
	}
	d, log, err := openLive(path, time.Duration(sync))
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := openStore(filepath.Join(path, "..", "store"))
	if err != nil {
		return err
	}
	failed := make(chan error, producers+1)
	for producer := range uint64(producers) {
		go func() { failed <- produce(log, life<<32|producer<<24) }() // Ends with the process.
	}
	random := rand.New(rand.NewPCG(life, 1))
	for batches := random.IntN(1500); ; batches-- {
		b, err := log.Next()
		switch {
		case batches < 0 && life%4 == 0:
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
			if err := s.take(log, b); err != nil {
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
			frames = wire.AppendFrame(frames, serialMessage(serial+n))
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

// openLive opens a log whose end is always one of the process, not of the machine.
func openLive(path string, sync time.Duration) (disk.Disk, *journal.Log, error) {
	d, err := disk.Open(path)
	if err != nil {
		return nil, nil, err
	}
	var damage error
	log, _, err := journal.Open(d, journal.Config{Sync: sync, SegmentSize: 8 << 10, Boot: [16]byte{1},
		OnDamage: func(d journal.Damage) { damage = fmt.Errorf("damage: %+v", d) }})
	return d, log, errors.Join(err, damage)
}

// TestLog_ProcessKilled_KeepsWhatItAccepted: each message that was accepted is handled once, in the order of its
// producer, and the identity goes on.
func TestLog_ProcessKilled_KeepsWhatItAccepted(t *testing.T) {
	for _, sync := range []time.Duration{-1, 0, time.Millisecond} {
		t.Run(sync.String(), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "spool")
			random := rand.New(rand.NewPCG(uint64(sync), 2))
			accepted := map[uint64]bool{}
			for life := range ipctest.InSoak(67, 3400) {
				killLife(t, random, accepted, path, sync, life)
			}
			d, log, err := openLive(path, sync)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			s, err := openStore(filepath.Join(path, "..", "store"))
			if err != nil {
				t.Fatal(err)
			}
			for {
				b, err := log.Next()
				if err == io.EOF {
					break
				}
				if err = errors.Join(err, s.take(log, b)); err != nil {
					t.Fatal(err)
				}
			}
			if err := log.Close(); err != nil {
				t.Error(err)
			}
			wantStored(t, s, accepted)
		})
	}
}

// killLife starts a process and kills it, after so many accepted messages or during its opening.
func killLife(t *testing.T, random *rand.Rand, accepted map[uint64]bool, path string, sync time.Duration, life int) {
	t.Helper()
	cmd := ipctest.Process(t, "log", lifeVariable+fmt.Sprintf("=%s %d %d", path, sync, life))
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
		moment := time.NewTimer(time.Duration(random.IntN(30_000)) * time.Microsecond)
		defer moment.Stop()
		go func() { // Ends with the test at the latest.
			<-moment.C
			cmd.Process.Kill()
		}()
	}
	left := random.IntN(2000)
	for b := make([]byte, 8); ; left-- {
		if left == 0 {
			cmd.Process.Kill()
		}
		if _, err := io.ReadFull(output, b); err != nil {
			break // What was written before the end is read before the end of the file.
		}
		accepted[binary.LittleEndian.Uint64(b)] = true
	}
	if err := cmd.Wait(); err != nil && said.Len() > 0 {
		t.Fatalf("life %d: %v: %s", life, err, &said)
	}
}

// wantStored fails unless each accepted message is stored once, in order.
func wantStored(t *testing.T, s *store, accepted map[uint64]bool) {
	t.Helper()
	last := map[uint64]uint64{}
	for _, serial := range s.serials {
		producer := serial >> 24 & 0xff
		if before := last[producer]; before >= serial && serial != 0 {
			t.Fatalf("message %x was handled after %x", serial, before)
		}
		last[producer] = serial
		delete(accepted, serial)
	}
	if len(accepted) > 0 || len(s.handled) != 1 {
		t.Errorf("%d of %d messages are missing, of %d identities", len(accepted), len(s.serials), len(s.handled))
	}
	t.Logf("%d messages", len(s.serials))
}
