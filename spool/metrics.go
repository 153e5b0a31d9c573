// SPDX-License-Identifier: Apache-2.0

package spool

// This file is what a program can ask about a Writer: a snapshot, which marshals to JSON.

import (
	"time"

	"github.com/udsipc/udsipc"
)

// Metrics is a snapshot of a Writer, of one moment:
//
//	Accepted + Found = Sent + Undelivered + Dropped + Expired + Damaged + Queued
//
// Each message is in exactly one of these. All counts begin with NewWriter.
type Metrics struct {
	Accepted    uint64 `json:"accepted"`    // Messages for which a write returned nil.
	Found       uint64 `json:"found"`       // Messages that NewWriter found, left by earlier processes.
	Sent        uint64 `json:"sent"`        // Messages that the reader has handled.
	Undelivered uint64 `json:"undelivered"` // Messages that the reader refuses; handed to udsipc.WithUndelivered.
	Dropped     uint64 `json:"dropped"`     // Messages that OverflowDropOldest dropped.
	Expired     uint64 `json:"expired"`     // Messages that WithMaxAge dropped.
	Damaged     uint64 `json:"damaged"`     // Messages that cannot be read.
	Queued      uint64 `json:"queued"`      // Messages on the disk, not handled.

	QueuedBytes   uint64        `json:"queued_bytes"`   // Size of the files with messages.
	Segments      uint64        `json:"segments"`       // Their number.
	OldestAge     time.Duration `json:"oldest_age_ns"`  // How long the oldest message waits; 0 without one.
	UnsyncedBytes uint64        `json:"unsynced_bytes"` // What a loss of power may take, of files with Queued.
	DamagedBytes  uint64        `json:"damaged_bytes"`  // Size of what cannot be read.

	Refused  uint64 `json:"refused"`   // Messages for which a write returned ErrSpoolFull, or failed.
	TooLarge uint64 `json:"too_large"` // Messages for which a write returned udsipc.ErrMessageTooLarge.
	Known    uint64 `json:"known"`     // Messages of Sent that the reader knew already at a start.

	Identities uint64                `json:"identities_given_up"` // How often ErrIdentity was reported.
	SyncErrors uint64                `json:"sync_errors"`         // Syncs of a file that failed.
	SyncTime   udsipc.LatencySummary `json:"sync_time"`           // Of each sync of a file.

	// Of the connections. These begin anew with each run of numbers: after damage, dropped segments, and with
	// another identity.
	Writer udsipc.WriterMetrics `json:"writer"`
}

// Metrics returns a snapshot. It may be called at any time.
func (w *Writer) Metrics() Metrics {
	c := w.log.Counts()
	m := Metrics{
		Accepted: c.Accepted, Found: c.Found, Sent: c.Sent, Undelivered: c.Undelivered, Dropped: c.Dropped,
		Expired: c.Expired, Damaged: c.Damaged, Queued: c.Messages,
		QueuedBytes: uint64(c.Bytes), Segments: uint64(c.Segments), UnsyncedBytes: uint64(c.Unsynced),
		DamagedBytes: c.DamagedBytes, Refused: w.refused.Load(), TooLarge: w.tooLarge.Load(), Known: c.Known,
		Identities: c.Renewed, SyncErrors: c.SyncErrors, SyncTime: udsipc.LatencySummary(c.SyncTimes),
	}
	if m.Queued > 0 && !c.Oldest.IsZero() {
		m.OldestAge = max(0, time.Since(c.Oldest))
	}
	if s := w.delivery.current.Load(); s != nil {
		m.Writer = s.writer.Metrics()
	}
	return m
}
