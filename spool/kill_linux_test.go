// SPDX-License-Identifier: Apache-2.0

package spool_test

// Processes that write and processes that read, killed at random moments.

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/spool"
)

const (
	writerVariable = "UDSIPC_TEST_SPOOL"  // Directory, address, interval of the syncs, count of the life.
	readerVariable = "UDSIPC_TEST_READER" // Address, and file of the store.
	producers      = 2
)

func init() {
	ipctest.Roles["spool"] = liveWriter
	ipctest.Roles["reader of a spool"] = liveReader
}

// liveWriter is a process that writes, and prints each serial number that was accepted. Some stop in order.
func liveWriter() error {
	var dir, address string
	var interval int64
	var life uint64
	if _, err := fmt.Sscan(os.Getenv(writerVariable), &dir, &address, &interval, &life); err != nil {
		return err
	}
	w, err := spool.NewWriter(dir, address, killOptions(time.Duration(interval))...)
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	failed := make(chan error, producers)
	for producer := range uint64(producers) {
		go func() { failed <- produce(w, ipctest.Serial(life, producer, 0), life%5 == 4) }() // Ends with the process.
	}
	for range producers {
		if err := <-failed; err != nil {
			return err
		}
	}
	return w.Close()
}

// killOptions are those of a spool with many segments, whose reader comes back soon.
func killOptions(interval time.Duration) []spool.Option {
	return []spool.Option{spool.WithSync(interval), spool.WithSegmentSize(8 << 10), spool.WithMinFree(0),
		spool.WithWriter(udsipc.WithMaxBackoff(10 * time.Millisecond))}
}

// produce writes messages, for ever or a few.
func produce(w *spool.Writer, serial uint64, ends bool) error {
	for n := uint64(0); !ends || n < 500; {
		var messages [][]byte
		var told []byte
		for range 1 + n%4 {
			messages = append(messages, ipctest.SerialMessage(serial+n))
			told = binary.LittleEndian.AppendUint64(told, serial+n)
			n++
		}
		if err := w.WriteMessages(messages); err != nil {
			return err
		}
		if _, err := os.Stdout.Write(told); err != nil {
			return err
		}
	}
	return nil
}

// liveReader is a process that stores the number of each message before its handler returns.
func liveReader() error {
	var address, path string
	if _, err := fmt.Sscan(os.Getenv(readerVariable), &address, &path); err != nil {
		return err
	}
	s, err := ipctest.OpenStore(path)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	failed := make(chan error, 1)
	r, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		err := s.Add(d.Writer, d.Seq, d.Data)
		if err == nil {
			err = s.Save()
		}
		if err != nil {
			select {
			case failed <- err:
			default:
			}
		}
		return err
	}, address)
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	return <-failed
}

// A killed is a process that is killed, and started again, until the test ends it.
type killed struct {
	t      *testing.T
	random *rand.Rand
	kills  int
}

// TestWriter_ProcessesKilled_HandlesEachOnce: the writers and the readers are killed at random moments. Each message
// that was accepted is handled once, in the order of its producer, under one identity.
func TestWriter_ProcessesKilled_HandlesEachOnce(t *testing.T) {
	ipctest.Process(t, "spool") // Skips the test where there are no processes.
	for _, interval := range []time.Duration{time.Second, 0} {
		t.Run(interval.String(), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			path := filepath.Join(filepath.Dir(p.dir), "store")
			accepted := map[uint64]bool{}
			end := make(chan struct{})
			readers := &killed{t, rand.New(rand.NewPCG(uint64(interval), 1)), 0}
			var group sync.WaitGroup
			group.Go(func() { readers.read(p, path, end) })
			writers := &killed{t, rand.New(rand.NewPCG(uint64(interval), 2)), 0}
			for life := range ipctest.InSoak(55, 2750) {
				writers.write(p, interval, life, accepted)
			}
			close(end)
			group.Wait()
			p.deliverRest(path, accepted)
			t.Logf("%d messages, %d writers and %d readers killed", len(accepted), writers.kills, readers.kills)
		})
	}
}

// write starts a writer, and kills it after so many accepted messages, or while it starts.
func (k *killed) write(p *place, interval time.Duration, life int, accepted map[uint64]bool) {
	k.t.Helper()
	cmd := ipctest.Process(k.t, "spool", fmt.Sprintf("%s=%s %s %d %d", writerVariable, p.dir, p.address, interval, life))
	output, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	if k.random.IntN(4) == 0 {
		moment := time.AfterFunc(time.Duration(k.random.IntN(40))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		defer moment.Stop()
	}
	most := 3000
	if interval == 0 {
		most = 300
	}
	ipctest.CollectSerials(output, accepted, k.random.IntN(most), func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	switch {
	case err == nil:
	case cmd.ProcessState.Exited():
		k.t.Fatalf("life %d: %v: %s", life, err, &said)
	default:
		k.kills++
	}
}

// read starts readers, and kills each after a while.
func (k *killed) read(p *place, path string, end <-chan struct{}) {
	for {
		cmd := ipctest.Process(k.t, "reader of a spool", fmt.Sprintf("%s=%s %s", readerVariable, p.address, path))
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			k.t.Error(err)
			return
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		timer := time.NewTimer(time.Duration(k.random.IntN(120)) * time.Millisecond)
		over := false
		select {
		case <-timer.C:
		case <-end:
			over = true
		case err := <-ended:
			k.t.Errorf("a reader has ended: %v: %s", err, &said)
			return
		}
		timer.Stop()
		_ = cmd.Process.Kill()
		<-ended
		if k.kills++; over {
			return
		}
	}
}

// deliverRest delivers what is left to a reader of this process, and looks at what is stored.
func (p *place) deliverRest(path string, accepted map[uint64]bool) {
	p.t.Helper()
	s, err := ipctest.OpenStore(path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	r, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		return s.Add(d.Writer, d.Seq, d.Data)
	}, p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		p.t.Fatal(err)
	}
	defer ipctest.Stop(p.t, r)
	if err := spool.Deliver(limit(p.t), p.dir, p.address, append(killOptions(0), quiet())...); err != nil {
		p.t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if err := s.Check(accepted); err != nil || len(s.Handled) != 1 {
		p.t.Errorf("%v; %d identities", err, len(s.Handled))
	}
}
