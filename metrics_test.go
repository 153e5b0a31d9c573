// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
)

// TestLink_Metrics_AccountForMessagesAndConnections over an outage.
func TestLink_Metrics_AccountForMessagesAndConnections(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	link := ipctest.StartLink(t, path, func([]byte) {}, udsipc.WithMaxBufferedWrites(2), udsipc.WithMaxMessageSize(100))
	ipctest.Until(t, "an attempt fails", func() bool { return link.Metrics().DialErrors > 0 })
	if err := errors.Join(link.WriteMessage([]byte("a")), link.WriteMessage([]byte("b"))); err != nil {
		t.Fatal(err)
	}
	if err := link.WriteMessage([]byte("c")); !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(err)
	}
	if err := link.WriteMessage(bytes.Repeat([]byte("d"), 101)); !errors.Is(err, udsipc.ErrMessageTooLarge) {
		t.Error(err)
	}
	m := link.Metrics()
	if m.Accepted != 2 || m.Queued != 2 || m.Refused != 1 || m.TooLarge != 1 || m.OldestAge <= 0 || m.Connected {
		t.Errorf("without a connection: %+v", m)
	}
	l := ipctest.Listen(t, path)
	for messages := 2; messages >= 0; messages -= 2 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for range messages {
			if _, err := conn.ReadMessage(); err != nil {
				t.Error(err)
			}
		}
		ipctest.Until(t, "it is connected", func() bool { return link.Metrics().Connected })
		conn.Close()
	}
	ipctest.Until(t, "both are lost", func() bool { return link.Metrics().LostConnections == 2 })
	l.Close()
	m = link.Metrics()
	if m.Sent != 2 || m.Queued != 0 || m.OldestAge != 0 || m.Connections < 2 || m.Accepted != m.Sent+m.Queued {
		t.Errorf("%+v", m)
	}
	if b, err := json.Marshal(m); err != nil || !bytes.Contains(b, []byte(`"oldest_age_ns":0`)) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestLink_Metrics_ControlIsDropped_CountersGrow: what concerned the connection that has ended leaves the queue, and no
// counter shrinks.
func TestLink_Metrics_ControlIsDropped_CountersGrow(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	l := ipctest.MustListen(t, path)
	link := ipctest.StartLink(t, path, func([]byte) {})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for link.Metrics().Queued < 3 {
		if _, err := seam.OfLink(link).SendControl(make([]byte, 50_000)); err != nil {
			t.Fatal(err)
		}
	}
	before := link.Metrics()
	l.Close()
	conn.Close() // With unread bytes: nothing more is taken.
	ipctest.Until(t, "it is lost", func() bool { return link.Metrics().LostConnections == 1 })
	after := link.Metrics()
	if after.Accepted != before.Accepted || after.Sent != after.Accepted || after.Queued+after.Dropped != 0 {
		t.Errorf("%+v, before %+v", after, before)
	}
}

// TestLink_Metrics_GracefulStop_LosesNoConnection: over TCP the peer ends the connection before Stop does.
func TestLink_Metrics_GracefulStop_LosesNoConnection(t *testing.T) {
	t.Parallel()
	l := ipctest.Listen(t, ipctest.TcpAddress(t))
	link := ipctest.StartLink(t, "tcp://"+l.Addr().String(), func([]byte) {})
	conn := ipctest.Accept(t, l)
	if err := link.WriteMessage([]byte("x")); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // Ends with the connection.
		defer close(ended)
		for err := error(nil); err == nil; {
			_, err = conn.ReadMessage()
		}
		conn.Close()
	}()
	ipctest.Stop(t, link)
	<-ended
	if m := link.Metrics(); m.LostConnections != 0 || m.Connections != 1 || m.Sent != 1 {
		t.Errorf("%+v", m)
	}
}

// TestWriter_OldestAge_GrowsUntilAcknowledged: a message that the reader has, and for which its handler
// has not returned, is the oldest one.
func TestWriter_OldestAge_GrowsUntilAcknowledged(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	began, end := make(chan struct{}), make(chan struct{})
	ipctest.StartReader(t, func([]byte) error {
		close(began)
		<-end
		return nil
	}, path)
	w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements())
	if err := w.WriteMessage([]byte("slow")); err != nil {
		t.Fatal(err)
	}
	<-began
	first := w.Metrics()
	ipctest.Until(t, "it grows older", func() bool { return w.Metrics().OldestAge > first.OldestAge })
	close(end)
	if err := w.Flush(t.Context()); err != nil || first.OldestAge <= 0 {
		t.Errorf("%v, %v", first.OldestAge, err)
	}
	m := w.Metrics()
	if m.OldestAge != 0 || m.AckTime.Count != 1 || m.AckTime.SumSeconds <= 0 {
		t.Errorf("%+v", m)
	}
	if last := len(m.AckTime.Buckets) - 1; m.AckTime.Max < udsipc.LatencyBound(last) && m.AckTime.Buckets[last] != 1 {
		t.Errorf("%+v", m.AckTime)
	}
}
