// SPDX-License-Identifier: Apache-2.0

package main

// This file has the flags of all commands that connect, and of those that listen: TLS, users, sizes.

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/udsipc/udsipc"
)

const (
	defaultMaxMessage = 10 << 20
	defaultMaxQueue   = 10000
	largestMessage    = 1 << 30
)

// A peerFlags has the flags for the other side: who it may be, and how large its messages.
type peerFlags struct {
	maxMessage byteSize
	plaintext  bool
	sameUser   bool
	tls        bool
	ca         string
	cert, key  string
	serverName string
	maxBackoff time.Duration
	publish    string
}

// defineCommon defines the flags that both sides have.
func (f *peerFlags) defineCommon(flags *flag.FlagSet) {
	f.maxMessage = defaultMaxMessage
	flags.Var(&f.maxMessage, "max-message-size", "the largest message, a `size` such as 64KiB; at most 1 GiB")
	flags.BoolVar(&f.plaintext, "plaintext", false, "allow TCP beyond this machine without TLS; anybody can read it")
	flags.BoolVar(&f.sameUser, "same-user", false, "accept only a peer of the same user (Unix sockets)")
	flags.StringVar(&f.publish, "publish", "", "publish the metrics under a `name`, for udsipc top")
	flags.StringVar(&f.cert, "tls-cert", "", "the certificate of this side, a PEM `file`")
	flags.StringVar(&f.key, "tls-key", "", "the key of --tls-cert, a PEM `file`")
}

// defineDial defines the flags of a side that connects.
func (f *peerFlags) defineDial(flags *flag.FlagSet) {
	f.defineCommon(flags)
	flags.BoolVar(&f.tls, "tls", false, "use TLS, with the authorities of the system unless --tls-ca is set")
	flags.StringVar(&f.ca, "tls-ca", "", "use TLS, and accept a server that one in this PEM `file` has signed")
	flags.StringVar(&f.serverName, "tls-server-name", "", "the `name` in the server's certificate; without it, the "+
		"host of ADDRESS")
	flags.DurationVar(&f.maxBackoff, "max-backoff", 10*time.Second, "the longest `duration` between two attempts to "+
		"connect; it grows from 10ms")
}

// defineListen defines the flags of a side that listens.
func (f *peerFlags) defineListen(flags *flag.FlagSet) {
	f.defineCommon(flags)
	flags.StringVar(&f.ca, "tls-ca", "", "require a certificate of clients that one in this PEM `file` has signed")
}

// options returns the options that both sides have.
func (f *peerFlags) options(server bool) ([]udsipc.Option, error) {
	if f.maxMessage > largestMessage {
		return nil, fmt.Errorf("--max-message-size %s: want at most %s", &f.maxMessage, exactBytes(largestMessage))
	}
	options := []udsipc.Option{udsipc.WithMaxMessageSize(uint64(f.maxMessage))}
	if f.plaintext {
		options = append(options, udsipc.WithPlaintext())
	}
	if f.sameUser {
		options = append(options, udsipc.WithAuthorizer(udsipc.SameUser()))
	}
	if f.publish != "" {
		options = append(options, udsipc.WithPublishedMetrics(f.publish))
	}
	if !f.tls && f.ca == "" && f.cert == "" && f.key == "" && f.serverName == "" {
		return options, nil
	}
	config, err := f.tlsConfig(server)
	if err != nil {
		return nil, err
	}
	return append(options, udsipc.WithTLS(config)), nil
}

func (f *peerFlags) tlsConfig(server bool) (*tls.Config, error) {
	config := &tls.Config{ServerName: f.serverName, MinVersion: tls.VersionTLS13}
	switch {
	case (f.cert == "") != (f.key == ""):
		return nil, errors.New("--tls-cert and --tls-key need each other")
	case server && f.cert == "":
		return nil, errors.New("--tls-ca needs --tls-cert and --tls-key: a server has a certificate")
	case f.cert != "":
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert %s: %w", f.cert, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if f.ca == "" {
		return config, nil
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--tls-ca %s: no certificate in it", f.ca)
	}
	if config.RootCAs = pool; server {
		config.RootCAs, config.ClientCAs, config.ClientAuth = nil, pool, tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// writerOptions returns the options of a side that connects.
func (f *peerFlags) writerOptions() (list []udsipc.WriterOption, err error) {
	options, err := f.options(false)
	for _, o := range options {
		list = append(list, o)
	}
	return append(list, udsipc.WithMaxBackoff(f.maxBackoff)), err
}

// readerOptions returns the options of a side that listens.
func (f *peerFlags) readerOptions() (list []udsipc.ReaderOption, err error) {
	options, err := f.options(true)
	for _, o := range options {
		list = append(list, o)
	}
	return list, err
}
