// SPDX-License-Identifier: Apache-2.0

// Package spool has a Writer whose queue is on the disk. A message for which WriteMessage returned nil
// is not lost when the process is killed, or while the reader is away for days. If the machine loses
// power, what was written in the last second may be lost; WithSync(0) waits for the disk before
// WriteMessage returns. A message whose WriteMessage had not returned when the process was killed may
// be there or not, once.
//
//	writer, err := spool.NewWriter("/var/lib/app/spool", "/run/app/collector.sock")
//	err = writer.Start()
//	defer writer.Close()               // Delivers what it can; the rest goes out at the next start.
//	err = writer.WriteMessage(message) // nil: it survives this process.
//
// Messages are sent with acknowledgements, and leave the disk when the reader's handler has returned.
// They have numbers that go on over restarts: a reader that stores Delivery.Writer and Delivery.Seq
// with the effect of a message handles each exactly once. Delivery.Redelivered tells that a message may
// have been sent before.
//
// The directory belongs to one process at a time. Deliver sends what a process that is gone has left.
// docs/SPOOL.md has the promises in a table, the costs of each setting, and what to do with damaged files.
package spool
