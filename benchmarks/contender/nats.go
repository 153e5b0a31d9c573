// SPDX-License-Identifier: Apache-2.0

package contender

// NATS core: a broker in the process of the receiver, reached over loopback. The broker drops
// messages that a subscriber does not take in time, so the subscriber grants credit and the
// publisher waits for it.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	natsCredit  = 1 << 20 // Bytes.
	natsCredits = 8
	natsLargest = 8 << 20 // The default is 1 MiB.
)

func (end End) natsURL() string { return filepath.Join(end.Dir, "nats") }

func listenNATS(end End, receive func([]byte)) (io.Closer, error) {
	broker, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, MaxPayload: natsLargest, NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, err
	}
	broker.Start()
	stop := func() error { broker.Shutdown(); broker.WaitForShutdown(); return nil }
	if !broker.ReadyForConnections(10 * time.Second) {
		stop()
		return nil, fmt.Errorf("the NATS broker did not start")
	}
	conn, err := subscribe(end, broker.ClientURL(), receive)
	if err != nil {
		stop()
		return nil, err
	}
	if err := os.WriteFile(end.natsURL(), []byte(broker.ClientURL()), 0o600); err != nil {
		return nil, err
	}
	return closers{func() error { conn.Close(); return nil }, stop}, nil
}

func subscribe(end End, url string, receive func([]byte)) (*nats.Conn, error) {
	conn, err := connectNATS(end, url)
	if err != nil {
		return nil, err
	}
	received := 0
	subscription, err := conn.Subscribe("stream", func(m *nats.Msg) {
		receive(m.Data)
		if received += len(m.Data); received >= natsCredit {
			received = 0
			if err := conn.Publish("credit", nil); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				end.Fail(err)
			}
		}
	})
	if err == nil {
		err = subscription.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = conn.Flush() // The broker knows the subscription from here on.
	}
	return conn, err
}

type natsSender struct {
	conn    *nats.Conn
	credits chan struct{} // One for each natsCredit bytes that may be sent.
	sent    int
}

func dialNATS(end End) (Sender, error) {
	url, err := os.ReadFile(end.natsURL())
	if err != nil {
		return nil, err
	}
	conn, err := connectNATS(end, string(url))
	if err != nil {
		return nil, err
	}
	s := &natsSender{conn: conn, credits: make(chan struct{}, natsCredits)}
	for range natsCredits {
		s.credits <- struct{}{}
	}
	if _, err := conn.Subscribe("credit", func(*nats.Msg) { s.credits <- struct{}{} }); err != nil {
		return nil, err
	}
	return s, conn.Flush()
}

func (s *natsSender) Send(data []byte) error {
	if s.sent += len(data); s.sent >= natsCredit {
		s.sent = 0
		<-s.credits
	}
	return s.conn.Publish("stream", data)
}

func (s *natsSender) Flush() error { return s.conn.Flush() }
func (s *natsSender) Close() error { s.conn.Close(); return nil }

func connectNATS(end End, url string) (*nats.Conn, error) {
	return nats.Connect(url, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		end.Fail(fmt.Errorf("NATS: %w", err))
	}))
}
