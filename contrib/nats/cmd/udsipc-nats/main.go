// SPDX-License-Identifier: Apache-2.0

// Udsipc-nats joins the processes of a machine with a NATS JetStream cluster.
//
//	udsipc-nats -nats nats://n1:4222,nats://n2:4222 -stream EVENTS -prefix events
//	udsipc-nats -nats nats://n1:4222 -stream JOBS -consumer web7 -to /run/worker/worker.sock
//
// The first form publishes what local Writers send to -listen: each message once, in the order of its
// Writer. The second one sends the messages of a consumer to a local Reader. Both may be used together.
//
// Each flag can also be set by the environment: UDSIPC_NATS_ and its name in capitals (-ack-timeout:
// UDSIPC_NATS_ACK_TIMEOUT). Under systemd it takes the socket named udsipc-nats, tells when it is ready,
// and hands its connections to the next process on SIGUSR2 (RestartKillSignal=).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})))
	s, err := parse(os.Args[1:], os.LookupEnv)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err == nil {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM, handOver)
		err = s.run(signals)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// withoutTime leaves the time to the journal.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

// settings are the flags.
type settings struct {
	urls, credentials, stream           string
	listen, prefix                      string
	mode                                uint
	peerHeader, messageIDs              bool
	maxInFlight                         int
	readBuffer                          uint
	batchWait                           time.Duration
	ackTimeout, maxBackoff, stopTimeout time.Duration
	consumer, to, deadLetters           string
	maxDeliveries                       int
	metrics                             string
}

// parse returns the settings of the arguments, or else of the environment, or else the defaults.
func parse(arguments []string, lookup func(string) (string, bool)) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("udsipc-nats", flag.ContinueOnError)
	f.StringVar(&s.urls, "nats", nats.DefaultURL, "`URLs` of the cluster, with commas")
	f.StringVar(&s.credentials, "credentials", "", "`file` with the credentials (JWT and seed)")
	f.StringVar(&s.stream, "stream", "", "the `name` of the stream")
	f.StringVar(&s.listen, "listen", "/run/udsipc-nats/udsipc-nats.sock", "the `address` of local writers")
	f.StringVar(&s.prefix, "prefix", "", "`tokens` in front of the subjects of local writers; empty: none are accepted")
	f.UintVar(&s.mode, "mode", 0o600, "permissions of the socket, unless systemd makes it")
	f.BoolVar(&s.peerHeader, "peer-header", false, "add the user, group and process of a peer as headers")
	f.BoolVar(&s.messageIDs, "message-ids", false, "give every message a Nats-Msg-Id")
	f.IntVar(&s.maxInFlight, "max-in-flight", 4, "batches that may wait for JetStream at the same time")
	f.UintVar(&s.readBuffer, "read-buffer", 1<<20, "`bytes` of a read, which bound a batch of one writer")
	f.DurationVar(&s.batchWait, "batch-wait", 0, "how long a message may wait for others of its batch")
	f.DurationVar(&s.ackTimeout, "ack-timeout", 5*time.Second, "how long a batch waits before it is tried again")
	f.DurationVar(&s.maxBackoff, "max-backoff", 5*time.Second, "the longest pause between two tries")
	f.DurationVar(&s.stopTimeout, "stop-timeout", 10*time.Second, "how long a stop may take")
	f.StringVar(&s.consumer, "consumer", "", "the `name` of the consumer whose messages go to -to")
	f.StringVar(&s.to, "to", "", "the `address` of a local reader")
	f.StringVar(&s.deadLetters, "dead-letters", "", "the `subject` of messages that the local reader does not take")
	f.IntVar(&s.maxDeliveries, "max-deliveries", 5, "how often such a message is tried")
	f.StringVar(&s.metrics, "metrics", "", "the `address` at which GET /metrics returns metrics for Prometheus")
	var err error
	f.VisitAll(func(one *flag.Flag) {
		name := "UDSIPC_NATS_" + strings.ToUpper(strings.ReplaceAll(one.Name, "-", "_"))
		if value, ok := lookup(name); ok && err == nil {
			if err = f.Set(one.Name, value); err != nil {
				err = fmt.Errorf("%s=%q: %w", name, value, err)
			}
		}
	})
	if err == nil {
		err = f.Parse(arguments)
	}
	switch {
	case err != nil:
		return nil, err
	case f.NArg() > 0:
		return nil, fmt.Errorf("unknown arguments: %q", f.Args())
	case s.stream == "":
		return nil, errors.New("-stream is missing")
	case s.prefix == "" && s.consumer == "":
		return nil, errors.New("nothing to do: want -prefix, or -consumer and -to")
	case (s.consumer == "") != (s.to == ""):
		return nil, errors.New("want -consumer and -to, or none of them")
	}
	return s, nil
}

// connect connects to the cluster, for as long as it takes.
func (s *settings) connect() (jetstream.JetStream, error) {
	opts := []nats.Option{
		nats.Name("udsipc-nats"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(time.Second),
		nats.PingInterval(10 * time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // They are told once.
	}
	if s.credentials != "" {
		opts = append(opts, nats.UserCredentials(s.credentials))
	}
	nc, err := nats.Connect(s.urls, opts...)
	if err != nil {
		return nil, err
	}
	return jetstream.New(nc)
}

// run runs until a signal comes.
func (s *settings) run(signals <-chan os.Signal) error {
	js, err := s.connect()
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	d := &daemon{settings: s, js: js}
	if err := d.start(); err != nil {
		return err
	}
	got := os.Signal(syscall.SIGTERM)
	select {
	case got = <-signals:
	case err = <-d.failed:
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.stopTimeout)
	defer cancel()
	return errors.Join(err, d.stop(ctx, got))
}

// A daemon is what runs.
type daemon struct {
	*settings
	js           jetstream.JetStream
	publisher    *natsbridge.Publisher
	reader       *udsipc.Reader
	forwarder    *natsbridge.Forwarder
	endForwarder context.CancelFunc
	forwarded    chan error
	metrics      *metricsServer
	failed       chan error // It cannot go on.
}

func (d *daemon) start() (err error) {
	d.failed = make(chan error, 1)
	if d.settings.metrics != "" {
		if d.metrics, err = serveMetrics(d.settings.metrics, d.snapshot); err != nil {
			return err
		}
	}
	if d.consumer != "" {
		if err = d.startForwarder(); err != nil {
			return err
		}
	}
	if d.prefix != "" {
		return d.startReader()
	}
	return nil
}

// never is a time that no handler takes. A handler waits for the cluster however long that is away, and the
// watchdog must not take it for hung.
const never = 10 * 365 * 24 * time.Hour

func (d *daemon) startReader() error {
	opts := []natsbridge.PublisherOption{
		natsbridge.WithMaxInFlight(d.maxInFlight), natsbridge.WithAckTimeout(d.ackTimeout),
		natsbridge.WithMaxBackoff(d.maxBackoff),
	}
	if d.peerHeader {
		opts = append(opts, natsbridge.WithHeader(natsbridge.PeerHeader))
	}
	if d.messageIDs {
		opts = append(opts, natsbridge.WithMessageIDs())
	}
	var err error
	if d.publisher, err = natsbridge.NewPublisher(d.js, d.stream, d.prefix, opts...); err != nil {
		return err
	}
	readerOpts := []udsipc.ReaderOption{
		udsipc.WithSystemdName("udsipc-nats"), udsipc.WithReadBufferSize(uint32(d.readBuffer)),
		udsipc.WithHungTimeout(never), udsipc.WithInactivityTimeout(0), udsipc.WithMaxBatchWait(d.batchWait),
	}
	if strings.HasPrefix(d.listen, "/") {
		readerOpts = append(readerOpts, udsipc.WithSocketMode(os.FileMode(d.mode)))
	}
	if d.reader, err = udsipc.NewBatchReader(d.publisher.Handle, d.listen, readerOpts...); err != nil {
		return err
	}
	if err = d.reader.Start(); err != nil {
		return err
	}
	go func() { // Ends with the Reader.
		<-d.reader.Done()
		if err := d.reader.Err(); err != nil {
			d.failed <- err
		}
	}()
	return nil
}

func (d *daemon) startForwarder() (err error) {
	opts := []natsbridge.ForwarderOption{natsbridge.WithMaxDeliveries(d.maxDeliveries)}
	if d.deadLetters != "" {
		opts = append(opts, natsbridge.WithDeadLetters(d.deadLetters))
	}
	if d.forwarder, err = natsbridge.NewForwarder(d.js, d.stream, d.consumer, d.to, opts...); err != nil {
		return err
	}
	var ctx context.Context
	ctx, d.endForwarder = context.WithCancel(context.Background())
	d.forwarded = make(chan error, 1)
	go func() { d.forwarded <- d.forwarder.Run(ctx) }() // Ends with ctx.
	return nil
}

// stop stops, or hands the connections of local writers to the next process.
func (d *daemon) stop(ctx context.Context, got os.Signal) error {
	var errs []error
	if d.reader != nil {
		end := d.reader.Stop
		if got == handOver {
			end = d.reader.HandOver
		}
		errs = append(errs, end(ctx))
	}
	if d.forwarder != nil {
		d.endForwarder()
		errs = append(errs, <-d.forwarded)
	}
	if d.metrics != nil {
		errs = append(errs, d.metrics.close())
	}
	return errors.Join(errs...)
}
