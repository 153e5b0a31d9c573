// SPDX-License-Identifier: Apache-2.0

// Spoolrelay keeps the messages of writers without a disk: it acknowledges each when its own spool has it on
// the disk, and sends it on to a collector, which may be away for days.
//
//	spoolrelay DIRECTORY LISTEN-ADDRESS COLLECTOR-ADDRESS
//
// The writers use WithAcknowledgements, and need nothing else. A message that the relay sends begins with the
// ID of its writer and its number there (16 and 8 bytes). A collector that stores these two with the effect
// handles each message once: parse takes them apart. The Writer and Seq of the Delivery are those of the
// relay, which gets a message twice if it is killed before it has acknowledged it.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: spoolrelay DIRECTORY LISTEN-ADDRESS COLLECTOR-ADDRESS")
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := relay(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

// relay relays until ctx ends. What the collector has not got then stays in the spool.
func relay(ctx context.Context, dir, listen, collector string) error {
	w, err := spool.NewWriter(dir, collector,
		spool.WithSync(0), // Its writers forget a message when it is acknowledged.
		spool.WithWriter(udsipc.WithMaxBackoff(time.Second)))
	if err != nil {
		return err
	}
	return errors.Join(w.Start(), collect(ctx, w, listen), w.Close()) // What is left goes out at the next start.
}

// collect puts what arrives into the spool. A batch costs one write and one sync.
func collect(ctx context.Context, w *spool.Writer, listen string) error {
	r, err := udsipc.NewBatchReader(func(ctx context.Context, batch []udsipc.Delivery) error {
		messages := make([][]byte, len(batch))
		for i := range batch {
			messages[i] = wrap(&batch[i])
		}
		return write(ctx, w, messages)
	}, listen, udsipc.WithSharedBatches(), udsipc.WithMaxMessageSize(10<<20-prefixSize)) // A collector takes 10 MiB.
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// retryPause is the pause after an error of the disk.
const retryPause = 100 * time.Millisecond

// write writes messages, and tries again after an error of the disk. An error would tell the Reader that
// something is wrong with the messages, and they would become dead letters.
func write(ctx context.Context, w *spool.Writer, messages [][]byte) error {
	for {
		err := w.WriteMessagesContext(ctx, messages) // A full spool holds the writers up.
		if err == nil || errors.Is(err, udsipc.ErrMessageTooLarge) || errors.Is(err, udsipc.ErrStopped) {
			return err
		}
		log.Printf("%d messages wait: %v", len(messages), err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return err
		}
	}
}

const prefixSize = 16 + 8

// wrap returns a message with its writer and its number.
func wrap(d *udsipc.Delivery) []byte {
	b := make([]byte, 0, prefixSize+len(d.Data))
	b = append(b, d.Writer[:]...)
	b = binary.BigEndian.AppendUint64(b, d.Seq)
	return append(b, d.Data...)
}

// parse is what a collector does with a message of the relay. data lies in message.
func parse(message []byte) (writer udsipc.WriterID, seq uint64, data []byte, err error) {
	if len(message) < prefixSize {
		return writer, 0, nil, fmt.Errorf("a message of %d bytes is not one of a relay", len(message))
	}
	copy(writer[:], message)
	return writer, binary.BigEndian.Uint64(message[16:]), message[prefixSize:], nil
}
