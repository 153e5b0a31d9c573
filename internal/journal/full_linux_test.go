// SPDX-License-Identifier: Apache-2.0

package journal_test

// A file system that becomes full.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/wire"
)

func init() {
	ipctest.Roles["full file system"] = func() error { return fillFileSystem(os.Getenv(fsVariable)) }
}

// TestFileSystem_Full_RefusesWhole: on a tmpfs of 2 MiB.
func TestFileSystem_Full_RefusesWhole(t *testing.T) {
	inNamespace(t, "full file system", "2m", "")
}

// fillFileSystem fills a tmpfs with messages of several sizes, opens when nothing is left, and makes room.
func fillFileSystem(dir string) error {
	if err := mountTmpfs(dir); err != nil {
		return err
	}
	ballast := filepath.Join(dir, "ballast")
	accepted, next := 0, uint64(1)
	for round := range 20 {
		config := journal.Config{Sync: time.Duration(round%3 - 1), SegmentSize: 300 << 10, Boot: [16]byte{1}}
		err := withLog(dir, config, func(log *journal.Log) error {
			for _, size := range []int{1 + 70_001*round%200_000, 3000, 10} {
				frame := wire.AppendFrame(nil, bytes.Repeat([]byte{byte(size)}, size))
				var err error
				for ; err == nil; accepted++ {
					_, err = log.Append(frame, 1)
				}
				accepted--
				if !errors.Is(err, journal.ErrFull) || !errors.Is(err, disk.ErrFull) {
					return fmt.Errorf("on a full disk: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("the disk was not full: %w", err)
		}
		err = withLog(dir, config, func(log *journal.Log) error {
			if _, err := log.Append(wire.AppendFrame(nil, make([]byte, 8000)), 1); !errors.Is(err, journal.ErrFull) {
				return fmt.Errorf("with nothing left: %w", err)
			}
			next, err = handleFrom(log, next)
			if err == nil && int(next) != accepted+1 {
				err = fmt.Errorf("%d messages were handled, %d accepted", next-1, accepted)
			}
			return err
		})
		if err := errors.Join(err, os.Remove(ballast)); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	fmt.Printf("%d messages\n", accepted)
	return nil
}

// withLog opens a log, and closes it.
func withLog(dir string, config journal.Config, do func(*journal.Log) error) error {
	d, err := disk.Open(filepath.Join(dir, "spool"))
	if err != nil {
		return err
	}
	defer d.Close()
	log, _, err := journal.Open(d, config)
	if err != nil {
		return err
	}
	return errors.Join(do(log), log.Close())
}

// handleFrom handles all that is there, from a number on, and returns the number behind it. It knows what it
// has handled.
func handleFrom(log *journal.Log, next uint64) (uint64, error) {
	for {
		b, err := log.Next()
		if err == io.EOF {
			return next, nil
		}
		if err != nil || b.First > next {
			return next, fmt.Errorf("message %d, want %d: %w", b.First, next, err)
		}
		next = max(next, b.First+uint64(b.Count))
		if err := log.Handled(b.Writer, next-1, 0); err != nil {
			return next, err
		}
	}
}
