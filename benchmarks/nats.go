// SPDX-License-Identifier: Apache-2.0

package main

// NATS core: a broker of its own on loopback, a publisher and a subscriber. It drops what a
// subscriber cannot take, so the publisher never gets more than a window ahead.

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	natsCredit  = 1 << 20 // Bytes.
	natsCredits = 8
)

func openNATS(tb testing.TB, receive func([]byte)) (func([]byte) error, func() error) {
	broker, err := server.NewServer(
		&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		tb.Fatal(err)
	}
	broker.Start()
	tb.Cleanup(func() {
		broker.Shutdown()
		broker.WaitForShutdown()
	})
	if !broker.ReadyForConnections(10 * time.Second) {
		tb.Fatal("the broker did not start")
	}

	credits := make(chan struct{}, natsCredits)
	subscriber, received := connectNATS(tb, broker), 0
	subscription, err := subscriber.Subscribe("stream", func(m *nats.Msg) {
		receive(m.Data)
		if received += len(m.Data); received >= natsCredit {
			received = 0
			<-credits
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := subscription.SetPendingLimits(-1, -1); err != nil {
		tb.Fatal(err)
	}
	if err := subscriber.Flush(); err != nil { // The broker knows the subscription from here on.
		tb.Fatal(err)
	}

	publisher, sent := connectNATS(tb, broker), 0
	send := func(data []byte) error {
		if sent += len(data); sent >= natsCredit {
			sent = 0
			credits <- struct{}{}
		}
		return publisher.Publish("stream", data)
	}
	return send, publisher.Flush
}

func connectNATS(tb testing.TB, broker *server.Server) *nats.Conn {
	tb.Helper()
	conn, err := nats.Connect(broker.ClientURL(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		tb.Errorf("NATS: %v", err)
	}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(conn.Close)
	return conn
}
