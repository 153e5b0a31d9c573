// SPDX-License-Identifier: Apache-2.0

package sender

// Lone messages, bursts and floods of several producers, over connections that end at random.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// A randomReader reads from the peers of a loop, and ends its connections at random. Each message is
// its producer and its number.
type randomReader struct {
	t     *testing.T
	tcp   net.Listener // nil: Unix sockets.
	lives int          // How many messages a connection lives for, at most.
	calm  atomic.Bool  // No connection ends any more.
	conns sync.WaitGroup

	mu   sync.Mutex
	read map[[2]uint32]int // How often each message has come.
}

func (r *randomReader) dial(context.Context) (near net.Conn, err error) {
	var far net.Conn
	if r.tcp != nil {
		if near, err = net.Dial("tcp", r.tcp.Addr().String()); err == nil {
			far, err = r.tcp.Accept()
		}
	} else {
		var fds [2]int
		fds, err = syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		for i, end := range [...]*net.Conn{&near, &far} {
			if err == nil {
				file := os.NewFile(uintptr(fds[i]), "pair")
				*end, err = net.FileConn(file)
				file.Close()
			}
		}
	}
	if err != nil {
		r.t.Error(err)
		return nil, err
	}
	r.conns.Go(func() { r.serve(far) }) // Ends with the connection.
	return near, nil
}

// serve reads one connection, and closes it after some messages: read to the end, or not.
func (r *randomReader) serve(far net.Conn) {
	defer far.Close()
	last := map[uint32]uint32{}
	in := bufio.NewReaderSize(far, 64<<rand.N(8))
	for left := rand.N(r.lives); left > 0 || r.calm.Load(); left-- {
		size, err := binary.ReadUvarint(in)
		message := make([]byte, size)
		if err == nil {
			_, err = io.ReadFull(in, message)
		}
		if err != nil {
			return
		}
		producer, number := binary.BigEndian.Uint32(message), binary.BigEndian.Uint32(message[4:])
		if bytes.Count(message[8:], []byte{byte(number)}) != len(message)-8 {
			r.t.Errorf("message %d of producer %d is not what was written", number, producer)
		}
		if number <= last[producer] {
			r.t.Errorf("message %d of producer %d after %d", number, producer, last[producer])
		}
		last[producer] = number
		r.mu.Lock()
		r.read[[2]uint32{producer, number}]++
		r.mu.Unlock()
	}
}

// randomMessage makes a message in the memory of buf.
func randomMessage(buf []byte, producer, number uint32, size int) []byte {
	buf = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(buf[:0], producer), number)
	for range size {
		buf = append(buf, byte(number))
	}
	return buf
}

// A randomLoad is what producers write at random.
type randomLoad struct {
	messages uint32 // Of each producer, at least.
	lives    int    // How many messages a connection lives for, at most.
	limits   queue.Limits
	pause    func()
	size     func() int
	turns    bool // Producers write themselves, at least once, unless the machine is slow.
}

// TestLoop_MessagesAtRandom_AreAccountedFor: what is neither read nor counted as possibly lost does not exist.
func TestLoop_MessagesAtRandom_AreAccountedFor(t *testing.T) {
	for name, load := range map[string]randomLoad{
		"lone": {
			messages: 400, lives: 200, limits: queue.Limits{Messages: 50, Bytes: 1 << 20},
			pause: func() {
				if rand.N(3) == 0 {
					time.Sleep(rand.N(4 * loneInterval))
				}
			},
			size: func() int { return rand.N(1 << rand.N(15)) },
		},
		"flood": {
			messages: 3000, lives: 3000, limits: queue.Limits{Messages: 10_000, Bytes: 8 << 20}, turns: true,
			pause: func() {},
			size:  func() int { return rand.N(1 << (10 + rand.N(8))) },
		},
	} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(name+"/"+network, func(t *testing.T) { load.run(t, network == "tcp") })
		}
	}
}

func (load randomLoad) run(t *testing.T, tcp bool) {
	const producers = 3
	r := &randomReader{t: t, lives: load.lives, read: map[[2]uint32]int{}}
	if tcp {
		var err error
		if r.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		defer r.tcp.Close()
	}
	l := loopOf(t, Config{MaxBackoff: time.Millisecond, MessageLimit: 1 << 20}, load.limits)
	l.cfg.Dial = r.dial
	turns := l.countTurns()
	l.started()
	var writing sync.WaitGroup
	var written atomic.Int64
	for producer := range uint32(producers) {
		writing.Go(func() {
			began := time.Now()
			more := func(number uint32) bool { // A slow machine may take more of them until there is a turn.
				return number <= load.messages || load.turns && turns.Load() == 0 && time.Since(began) < turnPatience()
			}
			for number := uint32(1); more(number); number++ {
				written.Add(1)
				load.pause()
				message := randomMessage(nil, producer, number, load.size())
				if err := l.queue.EnqueueWaitAndWake(t.Context(), message); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	r.calm.Store(true)
	err := l.Stop(within(t, time.Minute))
	r.conns.Wait()
	counts, queued := l.Snapshot(), l.queue.ReadCounts()
	missing := int(written.Load()) - len(r.read)
	if uint64(missing) > counts.PossiblyLost || queued.Sent != uint64(written.Load()) ||
		(err == nil) != (counts.PossiblyLost == 0) {
		t.Errorf("%d are missing, %v: %+v, %+v", missing, err, counts, queued)
	}
	if load.turns && turns.Load() == 0 {
		t.Skip("no producer was faster than the connection")
	}
}
