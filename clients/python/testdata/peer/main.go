// SPDX-License-Identifier: Apache-2.0

// Peer is the Go side of the tests of the Python client: a Reader, a Writer or a server of rpc, which runs until
// its standard input ends or a signal kills it.
//
//	peer read [-tls FILE] [-limit N] [-fail N] [-die N] ADDRESS
//	peer write [-tls FILE] [-acks] [-count N] [-size N] ADDRESS
//	peer rpc [-tls FILE] ADDRESS
//	peer cert FILE
//
// It writes "ready", then what happens, a line each.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
)

// settings are the flags of all commands.
type settings struct {
	address string
	config  *tls.Config
	limit   uint64
	fail    int
	die     int
	acks    bool
	count   int
	size    int
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: peer read|write|rpc|cert …")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var s settings
	identity := flags.String("tls", "", "the certificate of both sides, with its private key")
	flags.Uint64Var(&s.limit, "limit", 10<<20, "the largest message, in bytes")
	flags.IntVar(&s.fail, "fail", 0, "how many times the handler fails")
	flags.IntVar(&s.die, "die", 0, "after how many messages the process kills itself")
	flags.BoolVar(&s.acks, "acks", false, "open sessions")
	flags.IntVar(&s.count, "count", 0, "how many messages to send")
	flags.IntVar(&s.size, "size", 0, "the least size of a message, in bytes")
	check(flags.Parse(os.Args[2:]))
	s.address = flags.Arg(0)
	if *identity != "" {
		config, err := pinned(*identity)
		check(err)
		s.config = config
	}
	switch os.Args[1] {
	case "read":
		read(&s)
	case "write":
		write(&s)
	case "rpc":
		serve(&s)
	case "cert":
		check(create(s.address))
	default:
		log.Fatalf("no command %q", os.Args[1])
	}
}

// read prints each message: its number, whether it is redelivered, and its first bytes.
func read(s *settings) {
	var calls atomic.Int64
	handler := func(_ context.Context, d *udsipc.Delivery) error {
		// Printed before the message counts as handled: a killed process has told all that it has handled.
		fmt.Printf("%d %t %.100s\n", d.Seq, d.Redelivered, d.Data)
		n := calls.Add(1)
		if n == int64(s.die) {
			kill()
		}
		if n <= int64(s.fail) {
			return errors.New("failed on purpose")
		}
		return nil
	}
	options := []udsipc.ReaderOption{
		udsipc.WithMaxMessageSize(s.limit), udsipc.WithReaderErrorCallback(func(err error, _ string) { log.Print(err) }),
	}
	if s.config != nil {
		options = append(options, udsipc.WithTLS(s.config))
	}
	reader, err := udsipc.NewDeliveryReader(handler, s.address, options...)
	check(err)
	check(reader.Start())
	fmt.Println("ready", reader.Addr())
	wait()
	fmt.Println("end", reader.Stop(context.Background()))
}

// write sends the numbers from 1 to count.
func write(s *settings) {
	options := []udsipc.WriterOption{
		udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithWriterErrorCallback(func(err error, _ string) { log.Print(err) }),
	}
	if s.acks {
		options = append(options, udsipc.WithAcknowledgements())
	}
	if s.config != nil {
		options = append(options, udsipc.WithTLS(s.config))
	}
	writer, err := udsipc.NewWriter(s.address, options...)
	check(err)
	check(writer.Start())
	fmt.Println("ready")
	for i := 1; i <= s.count; i++ {
		check(writer.WriteMessage(fmt.Appendf(nil, "%-*d", s.size, i)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	fmt.Println("flushed", writer.Flush(ctx))
	err = writer.Stop(ctx)
	m := writer.Metrics()
	fmt.Println("end", m.Sent, m.Acknowledged, m.PossiblyLost, err)
}

// kill ends this process at once.
func kill() {
	process, err := os.FindProcess(os.Getpid())
	check(err)
	check(process.Kill())
	select {}
}

// wait returns when the standard input ends.
func wait() { _, _ = io.Copy(io.Discard, os.Stdin) }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
