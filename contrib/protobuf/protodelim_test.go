// SPDX-License-Identifier: Apache-2.0

package protobuf_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/contrib/protobuf"
)

// delimited is the number of messages of each direction. The first one is empty, and the sizes of their
// prefixes are one and two bytes.
const delimited = 10_000

// numbered returns message n.
func numbered(n int) *durationpb.Duration {
	return &durationpb.Duration{Seconds: int64(n), Nanos: int32(n % 7)}
}

// TestReader_Protodelim_IsRead: what protodelim writes to a connection is what a Reader hands over.
func TestReader_Protodelim_IsRead(t *testing.T) {
	path, got, closed := filepath.Join(t.TempDir(), "s"), 0, make(chan struct{})
	handler := codec.Handler(protobuf.Codec[*durationpb.Duration](), func(m *durationpb.Duration) error {
		if !proto.Equal(m, numbered(got)) {
			t.Errorf("message %d is %v", got, m)
		}
		if got++; got == delimited {
			close(closed)
		}
		return nil
	})
	r, err := udsipc.NewReader(handler, path, udsipc.WithReaderErrorCallback(func(err error, _ string) { t.Error(err) }))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriter(conn)
	for n := range delimited {
		if _, err := protodelim.MarshalTo(out, numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Flush(), conn.Close()); err != nil {
		t.Fatal(err)
	}
	<-closed
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if m := r.Metrics(); m.Received != delimited || m.Errors != 0 {
		t.Errorf("%+v", m)
	}
}

// TestWriter_Protodelim_Reads: what a Writer sends is what protodelim reads, and nothing counts as lost.
func TestWriter_Protodelim_Reads(t *testing.T) {
	for network, address := range map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"} {
		t.Run(network, func(t *testing.T) {
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			read := make(chan error, 1)
			go func() { read <- readDelimited(l) }() // Ends with the connection.
			target := network + "://" + l.Addr().String()
			if network == "unix" {
				target = address
			}
			w, err := udsipc.NewWriter(target)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Start(); err != nil {
				t.Fatal(err)
			}
			out := codec.NewWriter(w, protobuf.Codec[*durationpb.Duration]())
			for n := range delimited {
				if err := out.Write(numbered(n)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-read; err != nil {
				t.Error(err)
			}
			if m := w.Metrics(); m.Sent != delimited || m.PossiblyLost != 0 {
				t.Errorf("%+v", m)
			}
		})
	}
}

// readDelimited reads delimited messages from one connection, up to its end, and closes it.
func readDelimited(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for n := range delimited {
		m := &durationpb.Duration{}
		if err := protodelim.UnmarshalFrom(in, m); err != nil {
			return err
		}
		if !proto.Equal(m, numbered(n)) {
			return errors.New(m.String())
		}
	}
	if err := protodelim.UnmarshalFrom(in, &durationpb.Duration{}); err != io.EOF {
		return errors.Join(errors.New("more than was written"), err)
	}
	return nil
}
