// SPDX-License-Identifier: Apache-2.0

// Package failures is for a program whose Reader gets messages of a JetStream consumer through a bridge
// (natsbridge.Forwarder, udsipc-nats). A Reporter tells the bridge which messages the handler has failed for.
// The bridge then does not acknowledge them: it gives them back to JetStream with growing delays, and after
// the last try makes them dead letters of the cluster.
//
//	reporter, err := failures.NewReporter("/run/udsipc-nats/failures.sock")
//	...
//	r, err := udsipc.NewReader(handle, address,
//		udsipc.WithMaxRedeliveries(0), udsipc.WithDeadLetter(reporter.Report))
//
// The program needs no connection to NATS. Without a Reporter, a message that the Reader gives up counts as
// handled in the cluster, too.
package failures

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/udsipc/udsipc"
)

// reportTimeout bounds Report.
const reportTimeout = 10 * time.Second

// maxReason bounds the text of an error, in bytes.
const maxReason = 1024

// A Reporter reports failures to a bridge. Its methods may be called from any goroutine. Stop it after the
// Reader.
type Reporter struct{ writer *udsipc.Writer }

// NewReporter returns a Reporter to the address at which the bridge takes failures. It starts with its first
// report; the bridge need not be there. Options of the Writer may be added, such as WithAuthorizer.
func NewReporter(address string, opts ...udsipc.WriterOption) (*Reporter, error) {
	own := []udsipc.WriterOption{udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock)}
	w, err := udsipc.NewWriter(address, append(opts[:len(opts):len(opts)], own...)...)
	if err != nil {
		return nil, err
	}
	return &Reporter{writer: w}, nil
}

// Report is for udsipc.WithDeadLetter. It returns when the bridge knows of the failure, because the message is
// acknowledged then. After 10 s it gives up and logs it (slog.Default): if the bridge has ended, JetStream sends
// the message again nevertheless; else the message counts as handled.
func (r *Reporter) Report(d *udsipc.Delivery, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	if err := r.ReportContext(ctx, d, cause); err != nil {
		slog.Error("failures: the bridge does not learn of a failed message; it may count as handled",
			"seq", d.Seq, "failure", cause, "cause", err)
	}
}

// ReportContext is Report with a context instead of 10 s, and returns the error.
func (r *Reporter) ReportContext(ctx context.Context, d *udsipc.Delivery, cause error) error {
	if err := r.writer.Start(); err != nil { // No effect if it runs.
		return err
	}
	if err := r.writer.WriteMessageContext(ctx, appendReport(nil, d, cause)); err != nil {
		return err
	}
	return r.writer.Flush(ctx)
}

// Stop sends what is queued and stops. If ctx ends first, it returns an error.
func (r *Reporter) Stop(ctx context.Context) error { return r.writer.Stop(ctx) }

// Close is Stop with a time limit (udsipc.WithCloseTimeout).
func (r *Reporter) Close() error { return r.writer.Close() }

// A Failure is a report. On the wire it is a message: the 16 bytes of Writer, 8 bytes of Seq with the most
// significant first, and Reason in UTF-8.
type Failure struct {
	Writer udsipc.WriterID // Of the Forwarder.
	Seq    uint64          // udsipc.Delivery.Seq
	Reason string
}

var errReport = errors.New("failures: invalid report")

// appendReport appends a report without the control characters of an error's text.
func appendReport(b []byte, d *udsipc.Delivery, cause error) []byte {
	b = append(b, d.Writer[:]...)
	b = binary.BigEndian.AppendUint64(b, d.Seq)
	text := ""
	if cause != nil {
		text = cause.Error()
	}
	return append(b, line(text)...)
}

// line returns the start of a text as one line.
func line(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// Parse parses a report.
func Parse(data []byte) (Failure, error) {
	var f Failure
	if len(data) < len(f.Writer)+8 {
		return f, fmt.Errorf("%w: %d bytes: want %d or more", errReport, len(data), len(f.Writer)+8)
	}
	n := copy(f.Writer[:], data)
	f.Seq = binary.BigEndian.Uint64(data[n:])
	f.Reason = line(string(data[n+8:]))
	return f, nil
}
