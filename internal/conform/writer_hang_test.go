// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/conform"
	"github.com/udsipc/udsipc/internal/wire"
)

// helloOf returns the hello of a Writer's n-th connection.
func helloOf(n uint64) []byte {
	return wire.Hello{Writer: [16]byte{1}, Epoch: n, FirstSeq: 1}.Append(nil)
}

// TestWriter_NeverEnds: a Writer that connects again and again, or is alive and sends nothing, fails its case.
func TestWriter_NeverEnds(t *testing.T) {
	epoch := uint64(0)
	for want, write := range map[string]func(context.Context, net.Conn){
		"brought no message": func(_ context.Context, conn net.Conn) {
			epoch++
			_, _ = conn.Write(helloOf(epoch))
			_, _ = conn.Read(make([]byte, 100))
		},
		"no message within": func(ctx context.Context, conn net.Conn) {
			_, err := conn.Write(helloOf(1))
			_, _ = conn.Read(make([]byte, 100)) // The welcome.
			for err == nil && ctx.Err() == nil {
				_, err = conn.Write(bytes.Repeat(wire.Heartbeat, 10))
				time.Sleep(time.Millisecond) // The pace of the heartbeats.
			}
		},
	} {
		t.Run(want, func(t *testing.T) {
			table, err := writerTable(t, "unix", 10, func(ctx context.Context, address string) {
				conn, err := net.Dial("unix", address)
				if err != nil {
					return
				}
				defer conn.Close()
				write(ctx, conn)
			})
			if !errors.Is(err, conform.ErrFailed) || !strings.Contains(table, want) {
				t.Errorf("want a failure with %q, got %v:\n%s", want, err, table)
			}
		})
	}
}

// TestWriter_ProgramStays: a program that does not end once all its messages have arrived fails the case.
func TestWriter_ProgramStays(t *testing.T) {
	address := fmt.Sprintf("@%s.%d", t.Name(), time.Now().UnixNano())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() { // The messages come from here, and the program only stays.
		defer close(ended)
		for ctx.Err() == nil {
			conn, err := net.Dial("unix", address)
			if err != nil {
				continue
			}
			_, _ = conn.Write([]byte("\x011\x012"))
			_ = conn.(*net.UnixConn).CloseWrite()
			_, _ = conn.Read(make([]byte, 100))
			conn.Close()
		}
	}()
	var table strings.Builder
	err := conform.Writer(ctx, &table, "unix", address, conform.Options{
		Messages: 2, Timeout: time.Second, Command: []string{"sleep", "1000"},
	})
	cancel()
	<-ended
	if !errors.Is(err, conform.ErrFailed) || !strings.Contains(table.String(), "has not ended") {
		t.Errorf("want a failure of the program that stays, got %v:\n%s", err, table.String())
	}
}
