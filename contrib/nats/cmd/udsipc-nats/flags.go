// SPDX-License-Identifier: Apache-2.0

package main

// This file is what can be set, by flags and the environment.

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// settings are the flags.
type settings struct {
	urls, credentials, stream           string
	listen, prefix                      string
	tlsCA, tlsCert, tlsKey              string
	mode                                fs.FileMode
	peerHeader, messageIDs              bool
	maxInFlight, maxBatch               int
	readBuffer                          uint
	batchWait                           time.Duration
	ackTimeout, maxBackoff, stopTimeout time.Duration
	consumer, to, deadLetters, failures string
	maxDeliveries                       int
	metrics                             string
}

// parse returns the settings of the arguments, or else of the environment, or else the defaults. For -help and
// -version it writes what is asked for and returns flag.ErrHelp.
func parse(arguments []string, lookup func(string) (string, bool), out io.Writer) (*settings, error) {
	s := &settings{mode: 0o600}
	f := flag.NewFlagSet("udsipc-nats", flag.ContinueOnError)
	f.SetOutput(io.Discard) // The error says it.
	version := f.Bool("version", false, "write the version and exit")
	s.define(f)
	err := f.Parse(arguments)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(out, "Usage: udsipc-nats -stream NAME -prefix TOKENS")
		fmt.Fprintln(out, "       udsipc-nats -stream NAME -consumer NAME -to ADDRESS")
		fmt.Fprintln(out, "Each flag can be set by the environment, too: -ack-timeout by UDSIPC_NATS_ACK_TIMEOUT.")
		f.SetOutput(out)
		f.PrintDefaults()
		return nil, err
	case err == nil && *version:
		fmt.Fprintln(out, versionText())
		return nil, flag.ErrHelp
	case err == nil:
		err = fromEnvironment(f, lookup)
	}
	if err != nil {
		return nil, err
	}
	return s, s.check(f.Args())
}

// define defines the flags.
func (s *settings) define(f *flag.FlagSet) {
	f.StringVar(&s.urls, "nats", nats.DefaultURL, "`URLs` of the cluster, with commas")
	f.StringVar(&s.credentials, "credentials", "", "`file` with the credentials (JWT and seed)")
	f.StringVar(&s.tlsCA, "tls-ca", "", "`file` with the authorities of the servers (PEM), instead of the system's")
	f.StringVar(&s.tlsCert, "tls-cert", "", "`file` with the certificate of this client (PEM)")
	f.StringVar(&s.tlsKey, "tls-key", "", "`file` with its key (PEM)")
	f.StringVar(&s.stream, "stream", "", "the `name` of the stream")
	f.StringVar(&s.listen, "listen", "/run/udsipc-nats/udsipc-nats.sock", "the `address` of local writers")
	f.StringVar(&s.prefix, "prefix", "", "`tokens` in front of the subjects of local writers; empty: none are accepted")
	f.Var((*octal)(&s.mode), "mode", "`permissions` of the socket, in octal, unless systemd makes it")
	f.BoolVar(&s.peerHeader, "peer-header", false, "add the user, group and process of a peer as headers")
	f.BoolVar(&s.messageIDs, "message-ids", false, "give every message a Nats-Msg-Id")
	f.IntVar(&s.maxInFlight, "max-in-flight", 4, "batches that may wait for JetStream at the same time")
	f.IntVar(&s.maxBatch, "max-batch", 1000, "messages of a batch; 1: one by one, which suits a stream with one replica")
	f.UintVar(&s.readBuffer, "read-buffer", 1<<20, "`bytes` of a read, which bound a batch of one writer")
	f.DurationVar(&s.batchWait, "batch-wait", time.Millisecond, "how long 64 KiB or more of a writer may wait for more")
	f.DurationVar(&s.ackTimeout, "ack-timeout", 5*time.Second, "how long a batch waits before it is tried again")
	f.DurationVar(&s.maxBackoff, "max-backoff", 5*time.Second, "the longest pause between two tries")
	f.DurationVar(&s.stopTimeout, "stop-timeout", 10*time.Second, "how long a stop may wait for the cluster")
	f.StringVar(&s.consumer, "consumer", "", "the `name` of the consumer whose messages go to -to")
	f.StringVar(&s.to, "to", "", "the `address` of a local reader")
	f.StringVar(&s.failures, "failures", "", "the `address` at which that reader's program reports failed messages")
	f.StringVar(&s.deadLetters, "dead-letters", "", "the `subject` of messages that the local reader fails for")
	f.IntVar(&s.maxDeliveries, "max-deliveries", 5, "how often such a message is tried")
	f.StringVar(&s.metrics, "metrics", "", "the `address` at which GET /metrics returns metrics for Prometheus")
}

// fromEnvironment sets what the arguments have not set.
func fromEnvironment(f *flag.FlagSet, lookup func(string) (string, bool)) (err error) {
	given := make(map[string]bool)
	f.Visit(func(one *flag.Flag) { given[one.Name] = true })
	f.VisitAll(func(one *flag.Flag) {
		name := "UDSIPC_NATS_" + strings.ToUpper(strings.ReplaceAll(one.Name, "-", "_"))
		if value, ok := lookup(name); ok && err == nil && !given[one.Name] {
			if err = f.Set(one.Name, value); err != nil {
				err = fmt.Errorf("%s=%q: %w", name, value, err)
			}
		}
	})
	return err
}

// check finds settings that are missing or impossible, but for those that the library finds.
func (s *settings) check(arguments []string) error {
	switch {
	case len(arguments) > 0:
		return fmt.Errorf("unknown arguments: %q", arguments)
	case s.stream == "":
		return errors.New("-stream is missing")
	case s.prefix == "" && s.consumer == "":
		return errors.New("nothing to do: want -prefix, or -consumer and -to")
	case (s.consumer == "") != (s.to == ""):
		return errors.New("want -consumer and -to, or none of them")
	case s.consumer == "" && (s.failures != "" || s.deadLetters != ""):
		return errors.New("-failures and -dead-letters are for -consumer, which is missing")
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return errors.New("want -tls-cert and -tls-key, or none of them")
	case s.stopTimeout <= 0:
		return fmt.Errorf("-stop-timeout %v: want more than 0", s.stopTimeout)
	}
	return nil
}

// octal is a flag for permissions.
type octal fs.FileMode

func (o *octal) String() string { return fmt.Sprintf("%04o", uint32(*o)) }

func (o *octal) Set(text string) error {
	mode, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 12)
	if err != nil {
		return errors.New("want permissions in octal, such as 0660")
	}
	*o = octal(mode)
	return nil
}

// versionText names what was built.
func versionText() string {
	text := "udsipc-nats"
	if info, ok := debug.ReadBuildInfo(); ok {
		text += " " + info.Main.Version + " " + info.GoVersion
		for _, dep := range info.Deps {
			if dep.Path == "github.com/nats-io/nats.go" {
				text += " nats.go " + dep.Version
			}
		}
	}
	return text
}
