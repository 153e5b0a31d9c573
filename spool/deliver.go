// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"errors"

	"github.com/udsipc/udsipc/internal/disk"
)

// Deliver sends what a process that is gone has left in a directory, under its identity, and returns
// when all of it is handled or ctx ends: for ExecStopPost= of a service, for a collector that adopts what
// others have left, and for processes that live once. It accepts no messages. What stays in the
// spool is in the error, which then matches ErrLeft and that of ctx; what was dropped, has expired, was
// damaged or was refused by the reader matches ErrNotDelivered.
//
// A missing directory is fs.ErrNotExist, and not ErrLeft. While another process has it, the error
// matches ErrSpoolInUse. Root may deliver the spool of another user; the files stay that user's. A Reader
// remembers what it has handled by who connects: under another user than before, messages that are
// handled already may come again, with the same Delivery.Writer and Delivery.Seq.
func Deliver(ctx context.Context, dir, address string, opts ...Option) error {
	w, err := open(dir, address, disk.Adopt, opts)
	if err != nil {
		return err
	}
	err = w.Start()
	return errors.Join(err, w.Stop(ctx), opError("deliver", dir, w.lost(w.log.Counts())))
}
