// SPDX-License-Identifier: Apache-2.0

// Udsipc-nats joins the processes of a machine with a NATS JetStream cluster.
//
//	udsipc-nats -nats nats://n1:4222,nats://n2:4222 -stream EVENTS -prefix events
//	udsipc-nats -nats nats://n1:4222 -stream JOBS -consumer web7 -to /run/worker/worker.sock
//
// The first form publishes what local Writers send to -listen: each message once, in the order of its
// Writer. The second one sends the messages of a consumer to a local Reader. Both may be used together.
// With -failures, the program of that Reader tells which messages it has failed for (package failures).
//
// Each flag can also be set by the environment: UDSIPC_NATS_ and its name in capitals (-ack-timeout:
// UDSIPC_NATS_ACK_TIMEOUT). Under systemd it takes the socket named udsipc-nats, tells when it is ready,
// and hands its connections to the next process on SIGUSR2 (RestartKillSignal=). It stops on SIGTERM and
// SIGINT; a second one ends it at once. It exits with 0 after a stop, 1 after a failure, and 2 if it was
// called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})))
	s, err := parse(os.Args[1:], os.LookupEnv, os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "udsipc-nats: %v\nudsipc-nats -help lists what can be set\n", err)
		os.Exit(2)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, handOver)
	if err := s.run(signals); err != nil {
		fmt.Fprintln(os.Stderr, "udsipc-nats:", err)
		if errors.As(err, new(settingError)) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// A settingError is what the library says of a setting.
type settingError struct{ error }

func (e settingError) Unwrap() error { return e.error }

// withoutTime leaves the time to the journal.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

// run runs until a signal comes.
func (s *settings) run(signals <-chan os.Signal) error {
	d := &daemon{settings: s, failed: make(chan error, 4)}
	var err error
	var last lastCause
	if d.js, err = s.connect(d.failed, &last); err != nil {
		return err
	}
	defer d.js.Conn().Close()
	ended := make(chan struct{})
	defer close(ended)
	go watch(d.js.Conn(), &last, ended)
	if err := d.start(); err != nil {
		return err
	}
	if d.reader == nil { // It would do this.
		go d.beat(ended)
	}
	got := os.Signal(syscall.SIGTERM)
	select {
	case got = <-signals:
		signal.Reset(os.Interrupt, syscall.SIGTERM) // A second one does not wait.
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
	failures     *udsipc.Reader // Of reports to forwarder.
	endForwarder context.CancelFunc
	forwarded    chan error
	metrics      *metricsServer
	failed       chan error // It cannot go on. There is room for one error of each part.
}

func (d *daemon) start() (err error) {
	if d.consumer != "" {
		if err = d.newForwarder(); err != nil {
			return settingError{err}
		}
	}
	if d.prefix != "" {
		if err = d.newReader(); err != nil {
			return settingError{err}
		}
	}
	if d.settings.metrics != "" { // All that has metrics is there, and nothing runs yet.
		if d.metrics, err = serveMetrics(d.settings.metrics, d.snapshot); err != nil {
			return err
		}
	}
	if d.failures != nil {
		if err = d.failures.Start(); err != nil {
			return err
		}
	}
	if d.forwarder != nil {
		d.startForwarder()
	}
	if d.reader != nil {
		return d.startReader()
	}
	return nil
}

func (d *daemon) newReader() error {
	opts := []natsbridge.PublisherOption{
		natsbridge.WithMaxInFlight(d.maxInFlight), natsbridge.WithMaxBatch(d.maxBatch),
		natsbridge.WithAckTimeout(d.ackTimeout), natsbridge.WithMaxBackoff(d.maxBackoff),
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
	d.reader, err = udsipc.NewBatchReader(d.publisher.Handle, d.listen, d.readerOptions(d.listen,
		udsipc.WithSystemdName("udsipc-nats"), udsipc.WithReadBufferSize(uint32(min(d.readBuffer, math.MaxUint32))),
		udsipc.WithHungTimeout(-1), // A handler waits for the cluster, however long that is away.
		udsipc.WithMaxBatchWait(d.batchWait), udsipc.WithBatchWaitFrom(64<<10),
	)...)
	return err
}

// readerOptions are those of all Readers, and further ones.
func (d *daemon) readerOptions(address string, opts ...udsipc.ReaderOption) []udsipc.ReaderOption {
	if opts = append(opts, udsipc.WithInactivityTimeout(0)); strings.HasPrefix(address, "/") {
		opts = append(opts, udsipc.WithSocketMode(d.mode))
	}
	return opts
}

func (d *daemon) startReader() error {
	if err := d.reader.Start(); err != nil {
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

func (d *daemon) newForwarder() (err error) {
	opts := []natsbridge.ForwarderOption{natsbridge.WithMaxDeliveries(d.maxDeliveries)}
	if d.deadLetters != "" {
		opts = append(opts, natsbridge.WithDeadLetters(d.deadLetters))
	}
	d.forwarder, err = natsbridge.NewForwarder(d.js, d.stream, d.consumer, d.to, opts...)
	if err != nil || d.settings.failures == "" {
		return err
	}
	d.failures, err = udsipc.NewDeliveryReader(d.forwarder.HandleFailure, d.settings.failures, d.readerOptions(
		d.settings.failures, udsipc.WithSystemdName("udsipc-nats-failures"), udsipc.WithoutNotifications())...)
	return err
}

func (d *daemon) startForwarder() {
	var ctx context.Context
	ctx, d.endForwarder = context.WithCancel(context.Background())
	d.forwarded = make(chan error, 1)
	go func() { // Ends with ctx.
		err := d.forwarder.Run(ctx)
		if ctx.Err() == nil {
			d.failed <- fmt.Errorf("-consumer, -to: %w", err)
		}
		d.forwarded <- err
	}()
}

// stop stops, or hands the connections of local writers to the next process. What waits for the cluster, or for
// the local reader, is no failure of it: nothing is lost.
func (d *daemon) stop(ctx context.Context, got os.Signal) error {
	var errs []error
	if d.forwarder != nil {
		d.endForwarder()
	}
	if d.reader != nil {
		errs = append(errs, d.stopReader(ctx, got))
	}
	if d.forwarder != nil {
		if err := <-d.forwarded; err != nil {
			slog.Warn("udsipc-nats: stopped while messages waited for the local reader; JetStream sends them again",
				"cause", err)
		}
	}
	if d.failures != nil { // The Forwarder has waited for the local Reader, which may report until then.
		last, cancel := context.WithTimeout(context.Background(), 2*time.Second) // ctx may have ended.
		defer cancel()
		errs = append(errs, d.failures.Stop(last))
	}
	if d.metrics != nil {
		errs = append(errs, d.metrics.close())
	}
	return errors.Join(errs...)
}

// stopReader stops the Reader of local writers.
func (d *daemon) stopReader(ctx context.Context, got os.Signal) error {
	end, before := d.reader.Stop, d.reader.Metrics().Discarded
	if got == handOver {
		end = d.reader.HandOver
	}
	err := end(ctx)
	if lost := d.reader.Metrics().Discarded - before; !errors.Is(err, context.DeadlineExceeded) || lost > 0 {
		return err // Of writers without acknowledgements, if some are lost.
	}
	slog.Warn("udsipc-nats: stopped while messages waited for the cluster; their writers keep them and connect again",
		"cause", err)
	return nil
}
