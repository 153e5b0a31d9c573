// SPDX-License-Identifier: Apache-2.0

package seam

import "context"

// A Writer is a udsipc.Writer with acknowledgements whose messages are kept elsewhere.
type Writer interface {
	// Keep tells that the program keeps the messages. Those that are left at the end are then neither
	// reported nor returned. It must be called before Start.
	Keep(k Keeper)

	// WriteFrames is WriteFrames that ignores the limits of the messages: one that the reader refuses is
	// given up in its turn, and keeps its number.
	WriteFrames(frames []byte, count int) error

	// PublishAs is PublishAs of a Listener. StartPublishing publishes the metrics of a Writer that is
	// never started, until End.
	PublishAs(kind string, snapshot func() any, gauges ...string)
	StartPublishing()

	// MessageLimit returns the largest message that this side and, once it is connected, the reader accept.
	MessageLimit() uint64

	// OwnOption returns the name of an option that was set and that means nothing for such a Writer, or "".
	OwnOption() string

	// Why returns why there is no connection: an error that matches udsipc.ErrNotConnected, or nil if there is one.
	Why() error

	// Away returns why the last attempt to connect has failed, or nil if there was none since the last
	// connection.
	Away() error

	// CloseContext returns a context that ends after WithCloseTimeout, for a Close that calls Stop.
	CloseContext() (context.Context, context.CancelFunc)

	// WatchStop reports, until ended is called, that a stop waits without a deadline. what returns for what.
	WatchStop(ctx context.Context, what func() string) (ended func())

	// Report passes an error to the error callback, and to the logger.
	Report(op, about string, err error)

	// ReportGone is Report for messages that were dropped because there was no room, have expired, or
	// could not be read.
	ReportGone(why Gone, messages uint64, about string, err error)

	// LogKept logs that messages stay elsewhere for the next start, and why they were not delivered.
	LogKept(messages uint64, about string, why error)

	// Ended returns a channel that is closed when nothing is sent any more: after End, or when a callback has
	// ended its goroutine.
	Ended() <-chan struct{}

	// End is Stop, without an error for messages that are left.
	End(ctx context.Context)
}

// A Gone is why messages will not be delivered.
type Gone int

// The values of Gone.
const (
	Dropped Gone = iota
	Expired
	Damaged
)

// A Keeper is who keeps the messages of a Writer. Its functions must not call the Writer.
type Keeper struct {
	Waiting  func() uint64 // Returns how many messages wait, for the lines of the logger.
	SetAside func()        // Called for each message that is given up, before its number is handled.
	// Called when the reader knows of a later attempt of this writer, or of messages that it has not:
	// another process has the same identity.
	Contested func()
	GoesOn    bool // Another Writer comes after this one: its end is told as that of a connection.
}
