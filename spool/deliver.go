// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"errors"
	"slices"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/segment"
)

// Deliver sends what a process that is gone has left in a directory, under its identity, and returns
// when all of it is handled or ctx ends: for ExecStopPost= of a service, for a collector that adopts what
// others have left, and for processes that live once. It accepts no messages. What stays in the
// spool is in the error, which then matches ErrLeft and that of ctx; what was dropped, has expired, was
// damaged or was refused by the reader matches ErrNotDelivered. A directory without a spool stays as it is.
//
// A missing directory is fs.ErrNotExist, and not ErrLeft. While another process has it, the error
// matches ErrSpoolInUse. Root may deliver the spool of another user; the files stay that user's. A Reader
// remembers what it has handled by who connects: under another user than before, messages that are
// handled already may come again, with the same Delivery.Writer and Delivery.Seq.
func Deliver(ctx context.Context, dir, address string, opts ...Option) error {
	w, err := open(dir, address, adopt, opts)
	switch {
	case errors.Is(err, errNothingLeft):
		return nil
	case err != nil:
		return err
	}
	err = w.Start()
	return errors.Join(err, w.Stop(ctx), opError(udsipc.OpSpool, dir, w.lost(w.log.Counts())))
}

// errNothingLeft is for a directory without messages.
var errNothingLeft = errors.New("udsipc: no process has left anything")

// adopt opens the directory of a process that is gone. One without segments stays as it is.
func adopt(path string) (disk.Disk, error) {
	d, err := disk.Adopt(path)
	if err != nil {
		return nil, err
	}
	entries, err := d.List()
	if err == nil && !slices.ContainsFunc(entries, func(e disk.Entry) bool {
		_, _, ok := segment.ParseName(e.Name)
		return ok
	}) {
		err = errNothingLeft
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}
