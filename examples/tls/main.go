// SPDX-License-Identifier: Apache-2.0

// Tls shows TLS without a certification authority: both sides pin one certificate that signs itself.
//
//	go run ./examples/tls                 # a Reader and a Writer in one process
//	go run ./examples/tls -create FILE    # create the certificate for two programs of your own
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
)

func main() {
	file := flag.String("create", "", "create a certificate with its key in `FILE`, and end")
	flag.Parse()
	var err error
	if *file != "" {
		err = createIdentity(*file)
	} else {
		err = run(os.Stdout)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run sends one message with the right certificate, and tries one with another.
func run(out io.Writer) error {
	dir, err := os.MkdirTemp("", "identity")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ours, err := newConfig(filepath.Join(dir, "ours.pem"))
	if err != nil {
		return err
	}
	others, err := newConfig(filepath.Join(dir, "others.pem"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	reader, err := udsipc.NewReader(func(data []byte) error {
		_, err := fmt.Fprintf(out, "received: %s\n", data)
		return err
	}, "tcp://127.0.0.1:0", udsipc.WithTLS(ours), udsipc.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	if err := reader.Start(); err != nil {
		return err
	}
	defer reader.Stop(ctx)
	address := "tcp://" + reader.Addr().String()

	writer, err := udsipc.NewWriter(address, udsipc.WithTLS(ours))
	if err != nil {
		return err
	}
	if err := writer.Start(); err != nil {
		return err
	}
	if err := errors.Join(writer.WriteMessage([]byte("hello")), writer.Stop(ctx)); err != nil {
		return err
	}
	if _, err := udsipc.Dial(ctx, address, udsipc.WithTLS(others)); errors.Is(err, udsipc.ErrHandshake) {
		fmt.Fprintln(out, "another certificate was rejected")
	}
	return nil
}

// newConfig creates a certificate and pins it.
func newConfig(file string) (*tls.Config, error) {
	if err := createIdentity(file); err != nil {
		return nil, err
	}
	return pinnedConfig(file)
}
