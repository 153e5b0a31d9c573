// SPDX-License-Identifier: Apache-2.0

// Spool streams numbered messages from a writer process to a reader process, kills each of them twenty
// times with SIGKILL on the way, and checks that every message was handled once and in order.
//
//	go run ./examples/spool [-kills 20]
//
// The writer keeps its messages in a spool (package spool). The reader stores the number of each message
// together with its effect (store.go). The program ends with a table and "Each message was handled once,
// in order", or says what is wrong and has a status other than 0.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// The program starts itself again in one of these roles. They are an environment variable, so that no
// argument is mistaken for one.
const (
	roleVariable = "UDSIPC_SPOOL_ROLE"
	roleWriter   = "writer"
	roleReader   = "reader"
)

// limit is how long all of it may take.
const limit = 2 * time.Minute

func main() {
	kills := flag.Int("kills", 20, "how often each process is killed")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var err error
	switch role := os.Getenv(roleVariable); role {
	case roleWriter, roleReader:
		err = child(ctx, role, flag.Args())
	default:
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err = show(ctx, *kills, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "spool:", err)
		os.Exit(1)
	}
}

// child is one of the two processes, until its input ends: so it never outlives the one that started it.
func child(ctx context.Context, role string, args []string) error {
	if len(args) != 3 {
		return errors.New("a process takes a directory, a socket and the count of its starts")
	}
	dir, address := args[0], args[1]
	start, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() { // Ends with the input, or with the process.
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	if role == roleWriter {
		return write(ctx, filepath.Join(dir, "spool"), address, start, os.Stdout)
	}
	return read(ctx, filepath.Join(dir, "handled"), address, os.Stdout)
}

// show runs the two processes and prints the result.
func show(ctx context.Context, kills int, out io.Writer) error {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &run{dir: dir, socket: filepath.Join(dir, "s"), kills: kills, began: time.Now(),
		pause: func() time.Duration { return rand.N(400 * time.Millisecond) }}
	if r.executable, err = os.Executable(); err != nil {
		return err
	}
	fmt.Fprintf(out, "A writer with its spool in %s\nsends numbered messages to a reader. Each is killed %d times.\n",
		filepath.Join(dir, "spool"), kills)
	if err := r.conduct(ctx, out); err != nil {
		return err
	}
	var records []record
	stored, err := openStore(filepath.Join(dir, "handled"), func(one record) { records = append(records, one) })
	if err != nil {
		return err
	}
	defer stored.file.Close()
	return r.report(out, records)
}
