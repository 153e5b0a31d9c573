// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestConn_OversizedMessage_IsBoundedByMessageTimeout: a message over the limit comes no slower than one within it may.
func TestConn_OversizedMessage_IsBoundedByMessageTimeout(t *testing.T) {
	for name, test := range map[string]struct {
		opt   udsipc.ReaderOption
		first []byte
	}{
		"WithMessageTimeout":      {udsipc.WithMessageTimeout(3 * time.Second), ipctest.Frames("before")},
		"WithFirstMessageTimeout": {udsipc.WithFirstMessageTimeout(3 * time.Second), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(ipctest.SimNet)
				l := ipctest.Listen(t, "x", udsipc.WithListener(n.Listen()),
					udsipc.WithMessageTimeout(0), udsipc.WithInactivityTimeout(2*time.Second),
					test.opt)
				raw, err := n.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				conn := ipctest.Accept(t, l)
				began := time.Now()
				var peer sync.WaitGroup
				peer.Go(func() { // Ends with the connection.
					ipctest.MustWrite(t, raw, append(append(test.first, binary.AppendUvarint(nil, 1<<40)...), make([]byte, 40)...))
					for {
						time.Sleep(time.Second / 3)
						if _, err := raw.Write([]byte{0}); err != nil {
							return
						}
					}
				})
				for err = nil; err == nil || errors.Is(err, udsipc.ErrMessageTooLarge); {
					_, err = conn.ReadMessage()
				}
				if took := time.Since(began); !errors.Is(err, udsipc.ErrTooSlow) || took != 3*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
				conn.Close()
				peer.Wait()
			})
		})
	}
}

// TestConn_OversizedMessages_TimeOutEachByItself: the time of a message is its own, and not that of
// all that are too large in a row.
func TestConn_OversizedMessages_TimeOutEachByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(ipctest.SimNet)
		l := ipctest.Listen(t, "x", udsipc.WithListener(n.Listen()),
			udsipc.WithMessageTimeout(3*time.Second), udsipc.WithMaxMessageSize(100))
		raw, err := n.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn := ipctest.Accept(t, l)
		const messages = 20
		go func() { // Ends with the messages.
			large := append(binary.AppendUvarint(nil, 1000), make([]byte, 1000)...)
			stream := append(bytes.Repeat(large, messages), ipctest.Frames("the end")...)
			for ; len(stream) > 700; stream = stream[700:] { // Never between two.
				ipctest.MustWrite(t, raw, stream[:700])
				time.Sleep(time.Second)
			}
			ipctest.MustWrite(t, raw, stream)
		}()
		tooLarge := 0
		for {
			data, err := conn.ReadMessage()
			if err == nil {
				if string(data) != "the end" || tooLarge != messages {
					t.Errorf("%q after %d messages", data, tooLarge)
				}
				break
			}
			if tooLarge++; !errors.Is(err, udsipc.ErrMessageTooLarge) {
				t.Fatal(err)
			}
		}
		conn.Close()
		raw.Close()
	})
}

// TestConn_ReadDeadline_EndsWaitForMemory ends a wait for memory like any other, one that is under way included.
func TestConn_ReadDeadline_EndsWaitForMemory(t *testing.T) {
	t.Parallel()
	const connections, size = 4, 1 << 20
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		l := ipctest.ListenOn(t, on, udsipc.WithMaxReadMemory(1<<20))
		var conns []*udsipc.Conn
		ended := make(chan error, 2*connections)
		var peers sync.WaitGroup
		defer peers.Wait()
		for range connections {
			raw := on.Dial(t)
			defer raw.Close()
			peers.Go(func() { // Ends with the connection.
				_, _ = raw.Write(append(binary.AppendUvarint(nil, size), make([]byte, size-1)...))
			})
			conn := ipctest.Accept(t, l)
			conns = append(conns, conn)
			go func() { // Ends with the deadline.
				for range 2 {
					_, err := conn.ReadMessage()
					ended <- err
				}
			}()
		}
		ipctest.Until(t, "some wait for memory", func() bool { return l.Metrics().ReadMemoryWaits > 0 })
		for _, conn := range conns {
			if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * connections {
			if err := ipctest.Await(t, "ReadMessage", ended); !ipctest.IsTimeout(err) {
				t.Error(err)
			}
		}
	})
}

// TestConn_ReadDeadline_IsApartFromTimeouts: the reader's own deadline neither hides what the
// Listener puts up with, nor passes for it.
func TestConn_ReadDeadline_IsApartFromTimeouts(t *testing.T) {
	for name, test := range map[string]struct {
		set  func(c *udsipc.Conn) // A second after the wait has begun.
		want error
		at   time.Duration
	}{
		"never": {func(c *udsipc.Conn) { _ = c.SetReadDeadline(time.Time{}) }, udsipc.ErrTooSlow, 3 * time.Second},
		"later": {
			func(c *udsipc.Conn) { _ = c.SetReadDeadline(time.Now().Add(time.Hour)) },
			udsipc.ErrTooSlow, 3 * time.Second},
		"sooner": {
			func(c *udsipc.Conn) { _ = c.SetReadDeadline(time.Now().Add(time.Second)) },
			os.ErrDeadlineExceeded, 2 * time.Second},
		"past, and never": {func(c *udsipc.Conn) {
			_ = c.SetReadDeadline(time.Unix(1, 0))
			_ = c.SetReadDeadline(time.Time{})
		}, udsipc.ErrTooSlow, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(ipctest.SimNet)
				l := ipctest.Listen(t, "x", udsipc.WithListener(n.Listen()), udsipc.WithMessageTimeout(3*time.Second))
				raw, err := n.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				ipctest.MustWrite(t, raw, ipctest.Frames("whole")[:3])
				conn := ipctest.Accept(t, l)
				began := time.Now()
				time.AfterFunc(time.Second, func() { test.set(conn) })
				_, err = conn.ReadMessage()
				if name == "past, and never" && errors.Is(err, os.ErrDeadlineExceeded) {
					_, err = conn.ReadMessage() // It has seen the first of the two before the second was set.
				}
				if took := time.Since(began); !errors.Is(err, test.want) ||
					errors.Is(err, udsipc.ErrTooSlow) != (test.want == udsipc.ErrTooSlow) ||
					took != test.at {
					t.Errorf("after %v: %v", took, err)
				}
				conn.Close()
				raw.Close()
			})
		})
	}
}
