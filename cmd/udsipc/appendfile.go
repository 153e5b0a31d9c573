// SPDX-License-Identifier: Apache-2.0

package main

// This file is the file of listen --append: whole messages, on the disk when write returns, rotated.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// appendFlags has the flags of listen for its file.
type appendFlags struct {
	path   string
	size   byteSize
	period time.Duration
	keep   int
	sync   bool
}

func (f *appendFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.path, "append", "", "append to this `file`, and acknowledge when the disk has it; mode 0640")
	flags.Var(&f.size, "rotate-size", "rename the file to FILE.TIME before it is larger than this `size`")
	flags.DurationVar(&f.period, "rotate-every", 0, "rename the file to FILE.TIME with the first message after each "+
		"multiple of a `duration`, such as 24h, since 1970 in UTC")
	flags.IntVar(&f.keep, "keep", 0, "remove all but the newest `number` of renamed files; 0 keeps all")
	flags.BoolVar(&f.sync, "sync", true, "with --sync=false, acknowledge when the kernel has it: a power failure may "+
		"lose it")
}

func (f *appendFlags) check() error {
	switch {
	case f.path == "" && (f.size > 0 || f.period != 0 || f.keep != 0 || !f.sync):
		return errors.New("--rotate-size, --rotate-every, --keep and --sync need --append")
	case f.period < 0:
		return fmt.Errorf("--rotate-every %v: want 0 or more", f.period)
	case f.keep < 0:
		return fmt.Errorf("--keep %d: want 0 or more", f.keep)
	case f.keep > 0 && f.size == 0 && f.period == 0:
		return errors.New("--keep needs --rotate-size or --rotate-every")
	}
	return nil
}

// open returns the output that the flags ask for.
func (f *appendFlags) open(e *env, console *console, raw bool) (output, error) {
	if f.path == "" {
		return stream{e.stdout}, nil
	}
	a := &appendFile{flags: f, log: console.logf, raw: raw, now: time.Now, toDisk: (*os.File).Sync}
	if err := a.open(); err != nil {
		return nil, err
	}
	return a, nil
}

// An appendFile is a file with whole messages. Only one process has it.
type appendFile struct {
	flags *appendFlags
	log   func(format string, args ...any)
	raw   bool // Frames, not lines.

	now    func() time.Time     // The clock,
	toDisk func(*os.File) error // and fsync(2), for tests.

	file    *os.File
	path    string // Of the file: where --append points, if that is a symbolic link.
	period  int64  // That of the last write, since 1970, in units of --rotate-every.
	reopens atomic.Bool
}

// open opens the file, removes what is no whole message from its end, and locks it.
func (a *appendFile) open() error {
	file, err := openLocked(a.flags.path, openAppend)
	if err != nil {
		return err
	}
	if a.path, err = filepath.EvalSymlinks(a.flags.path); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := a.repair(file); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", a.flags.path, strippedPath(err)), file.Close())
	}
	info, err := file.Stat()
	if err == nil {
		err = a.syncDir() // The file may be new.
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	a.file, a.period = file, a.periodOf(info.ModTime())
	if info.Size() == 0 {
		a.period = a.periodOf(a.now())
	}
	return nil
}

func (a *appendFile) write(ctx context.Context, console *console, text []byte) error {
	return retryFull(ctx, console, a.flags.path, func() error { return a.append(text) })
}

func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
}

// openLocked opens a file and locks it for this process. What is not a regular file has no disk to wait for.
func openLocked(path string, open func(path string) (*os.File, error)) (*os.File, error) {
	for {
		file, err := open(path)
		if err != nil {
			return nil, err
		}
		info, err := file.Stat()
		switch {
		case err != nil:
			return nil, errors.Join(err, file.Close())
		case !info.Mode().IsRegular():
			return nil, errors.Join(fmt.Errorf("%s: not a regular file; without --append, listen writes to the "+
				"standard output", path), file.Close())
		}
		if err := lockFile(file); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: another process writes to it: %w", path, err), file.Close())
		}
		if now, err := os.Stat(path); err == nil && os.SameFile(now, info) {
			return file, nil
		}
		if err := file.Close(); err != nil { // It was renamed meanwhile, perhaps by the process that had the lock.
			return nil, err
		}
	}
}

// append writes messages and waits for the disk. After an error the file is as before, as far as that is possible.
func (a *appendFile) append(text []byte) error {
	if a.reopens.Swap(false) || a.file == nil {
		if err := a.renew(); err != nil {
			return err
		}
	}
	before, err := a.rotate(len(text))
	if err != nil {
		return err
	}
	if _, err = a.file.Write(text); err == nil && a.flags.sync {
		err = a.toDisk(a.file)
	}
	if err == nil {
		return nil
	}
	if cut := a.file.Truncate(before); cut != nil {
		a.reopen() // That repairs it, or fails.
		return errors.Join(err, cut)
	}
	return err
}

// rotate renames the file if it is time for that, and returns the size of the one to append to.
func (a *appendFile) rotate(more int) (size int64, err error) {
	info, err := a.file.Stat()
	if err != nil {
		return 0, err
	}
	now := a.now()
	period := a.periodOf(now)
	large := a.flags.size > 0 && uint64(info.Size())+uint64(more) > uint64(a.flags.size)
	if info.Size() == 0 {
		a.period = period
		return 0, nil
	}
	if !large && period == a.period {
		return info.Size(), nil
	}
	if err := renameRotated(a.path, now); err != nil && !errors.Is(err, fs.ErrNotExist) { // Somebody has removed it.
		return 0, err
	}
	if err := a.renew(); err != nil {
		return 0, err
	}
	if err := removeRotated(a.path, a.flags.keep); err != nil {
		a.log("%v", err) // The file goes on.
	}
	return 0, nil
}

// renew opens the file anew, by its name.
func (a *appendFile) renew() error {
	if a.file != nil {
		if err := a.file.Close(); err != nil {
			a.log("%v", err) // What was acknowledged is on the disk.
		}
		a.file = nil
	}
	return a.open()
}

func (a *appendFile) reopen() { a.reopens.Store(true) }

func (a *appendFile) close() {
	if a.file != nil {
		_ = a.file.Close() // All that was acknowledged is on the disk.
	}
}

// periodOf returns the number of the period of --rotate-every that a time is in.
func (a *appendFile) periodOf(t time.Time) int64 {
	if a.flags.period <= 0 {
		return 0
	}
	return t.UnixNano() / int64(a.flags.period)
}

// repair moves what stands behind the last whole message to a file beside it.
func (a *appendFile) repair(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	whole := wholeLines
	if a.raw {
		whole = wholeFrames
	}
	end, err := whole(file, info.Size())
	if err != nil || end == info.Size() {
		return err
	}
	torn, err := openLocked(a.path+".torn", openAppend)
	if err != nil {
		return err
	}
	_, err = io.Copy(torn, io.NewSectionReader(file, end, info.Size()-end))
	if err == nil && !a.raw {
		_, err = torn.WriteString("\n")
	}
	if err = errors.Join(err, torn.Sync(), torn.Close()); err != nil {
		return err
	}
	a.log("%s: its last %s were no whole message, and are in %s now", a.flags.path,
		plural(uint64(info.Size()-end), "byte"), torn.Name())
	return errors.Join(file.Truncate(end), file.Sync())
}
