// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/conform"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// writerTable runs writers at an address, one after another, while a suite runs, and returns the table.
func writerTable(t *testing.T, network string, messages int, write func(context.Context, string)) (string, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "c") // Shorter than TempDir: a socket's path is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address, text := filepath.Join(dir, "s"), filepath.Join(dir, "s")
	if network == "tcp" {
		l := ipctest.MustListen(t, "tcp://127.0.0.1:0")
		address, text = l.Addr().String(), "tcp://"+l.Addr().String()
		l.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			write(ctx, text)
		}
	}()
	var table strings.Builder
	err = conform.Writer(ctx, &table, network, address, conform.Options{Messages: messages, Timeout: 3 * time.Second})
	cancel()
	<-ended
	return table.String(), err
}

// TestWriter_Conforms: this module's Writer passes all cases of both modes.
func TestWriter_Conforms(t *testing.T) {
	for name, test := range map[string]struct {
		network        string
		messages, rows int
		opts           []udsipc.WriterOption
	}{
		"plain":        {"unix", 100_000, 3, nil},
		"plain, TCP":   {"tcp", 100_000, 2, nil},
		"session":      {"unix", 1_000, 18, []udsipc.WriterOption{udsipc.WithAcknowledgements()}},
		"session, TCP": {"tcp", 1_000, 18, []udsipc.WriterOption{udsipc.WithAcknowledgements()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := writerTable(t, test.network, test.messages, func(ctx context.Context, address string) {
				opts := append(test.opts, udsipc.WithWriterErrorCallback(func(error, string) {}),
					udsipc.WithMaxBackoff(100*time.Millisecond))
				w, err := udsipc.NewWriter(address, opts...)
				if err != nil {
					t.Error(err)
					return
				}
				if err := w.Start(); err != nil {
					t.Error(err)
				}
				for n := 1; n <= test.messages && err == nil; {
					if err = w.WriteMessage(fmt.Append(nil, n)); err == nil {
						n++
					} else if errors.Is(err, udsipc.ErrBufferFull) {
						_ = w.Flush(ctx) // It may report a possible loss.
						err = ctx.Err()
					}
				}
				_ = w.Stop(ctx) // Without an error unless the suite has ended.
			})
			if err != nil || strings.Count(table, " ok\n") != test.rows {
				t.Errorf("%v\n%s", err, table)
			}
		})
	}
}

// TestWriter_Mutants_AreNoticed: a Writer with one mistake fails in a case about it, and one without passes.
func TestWriter_Mutants_AreNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("these take seconds")
	}
	for _, test := range []struct {
		writerMistakes
		failing string
	}{
		{writerMistakes{}, ""},
		{writerMistakes{eager: true}, "once and in order"},
		{writerMistakes{newIdentity: true}, "status 1"},
		{writerMistakes{sameEpoch: true}, "status 1"},
		{writerMistakes{ignoresWelcome: true}, "acknowledged messages are not sent again"},
		{writerMistakes{forgets: true}, "killed before it acknowledges"},
		{writerMistakes{anyAck: true}, "message that was not sent"},
		{writerMistakes{anyLimit: true}, "a limit of 0"},
		{writerMistakes{longPrefixes: true}, "once and in order"},
	} {
		t.Run(fmt.Sprintf("%+v", test.writerMistakes), func(t *testing.T) {
			t.Parallel()
			table, err := writerTable(t, "unix", 200, func(ctx context.Context, address string) {
				w := &modelWriter{writerMistakes: test.writerMistakes, address: address}
				w.hello.Writer, w.hello.FirstSeq = wire.WriterID{byte(time.Now().UnixNano())}, 1
				w.run(ctx)
			})
			if (err != nil) != (test.failing != "") || err != nil && !errors.Is(err, conform.ErrFailed) {
				t.Errorf("error %v\n%s", err, table)
			}
			if test.failing != "" && !failed(table, test.failing) {
				t.Errorf("%q has not failed:\n%s", test.failing, table)
			}
		})
	}
}

// writerMistakes are what is wrong with a modelWriter.
type writerMistakes struct {
	eager          bool // Sends before the welcome.
	newIdentity    bool // Is another writer on each connection.
	sameEpoch      bool // Does not count its connections.
	ignoresWelcome bool // Begins at the first message that it holds.
	forgets        bool // Takes sent messages for handled ones.
	anyAck         bool // Accepts each acknowledgement.
	anyLimit       bool // Accepts each welcome.
	longPrefixes   bool // Writes prefixes of two bytes.
}

// A modelWriter is a small Writer with sessions, of the numbers from 1 to 200.
type modelWriter struct {
	writerMistakes
	address string
	hello   wire.Hello
	in      []byte
	conn    net.Conn
}

const modelMessages = 200

func (w *modelWriter) run(ctx context.Context) {
	for w.hello.FirstSeq <= modelMessages && ctx.Err() == nil {
		conn, err := net.Dial("unix", w.address)
		if err != nil {
			continue // The suite is not there yet, or is over.
		}
		w.conn, w.in = conn, nil
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		w.connected()
		stop()
		conn.Close()
	}
}

func (w *modelWriter) connected() {
	if !w.sameEpoch || w.hello.Epoch == 0 {
		w.hello.Epoch++
	}
	if w.newIdentity {
		w.hello.Writer[1]++
	}
	w.hello.LastSentSeq = max(w.hello.LastSentSeq, w.hello.FirstSeq-1)
	_, _ = w.conn.Write(w.hello.Append(nil))
	if w.eager {
		w.send(w.hello.FirstSeq)
	}
	answer, ok := w.welcome()
	if !ok {
		return
	}
	w.hello.FirstSeq = max(w.hello.FirstSeq, answer.Handled+1)
	if !w.eager {
		first := answer.Handled + 1
		if w.ignoresWelcome {
			first = 1
		}
		w.send(first)
	}
	w.acks(answer.Handled)
}

func (w *modelWriter) send(first uint64) {
	var b []byte
	for n := first; n <= modelMessages; n++ {
		text := fmt.Append(nil, n)
		if w.longPrefixes {
			b = append(append(b, byte(len(text))|0x80, 0), text...)
		} else {
			b = wire.AppendFrame(b, text)
		}
	}
	w.hello.LastSentSeq = modelMessages
	_, _ = w.conn.Write(b)
	if w.forgets {
		w.hello.FirstSeq = modelMessages
	}
}

func (w *modelWriter) more() bool {
	b := make([]byte, 1000)
	n, _ := w.conn.Read(b)
	w.in = append(w.in, b[:n]...)
	return n > 0
}

func (w *modelWriter) welcome() (answer wire.Welcome, ok bool) {
	for {
		for bytes.HasPrefix(w.in, wire.Heartbeat) {
			w.in = w.in[2:]
		}
		answer, size, err := wire.ParseWelcome(w.in)
		if w.anyLimit && err != nil && bytes.HasPrefix(w.in, []byte{5, 1, 0, 0, 0, 0}) {
			w.in = w.in[6:]
			return answer, true
		}
		if err != nil || size > 0 {
			w.in = w.in[size:]
			return answer, err == nil && answer.Status == wire.StatusWelcome
		}
		if !w.more() {
			return answer, false
		}
	}
}

func (w *modelWriter) acks(last uint64) {
	for {
		handled, alive, size, err := wire.ParseAck(w.in)
		switch {
		case err != nil && !w.anyAck:
			return
		case size == 0:
			if !w.more() {
				return
			}
			continue
		case alive:
		case handled == 0:
			_ = w.conn.(*net.UnixConn).CloseWrite()
		case (handled <= last || handled > modelMessages) && !w.anyAck:
			return
		default:
			last = handled
			w.hello.FirstSeq = handled + 1
			if handled >= modelMessages {
				_ = w.conn.(*net.UnixConn).CloseWrite()
			}
		}
		w.in = w.in[size:]
	}
}
