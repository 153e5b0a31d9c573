// SPDX-License-Identifier: Apache-2.0

// Package sloghandler has log/slog log to another process: each record is a message of a
// udsipc.Writer, in JSON or as text.
//
//	writer, err := udsipc.NewWriter("/run/log.sock")
//	err = writer.Start()
//	slog.SetDefault(slog.New(sloghandler.NewJSON(writer, nil)))
//
// Logging does not wait for the collector: records wait in the queue of the Writer while the collector
// is away. A record that the queue refuses is dropped and counted (Handler.Dropped). Stop or Close the
// Writer at the end of the program: that sends the records of the queue.
package sloghandler
