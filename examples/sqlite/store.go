// SPDX-License-Identifier: Apache-2.0

package main

// This file is the database.

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net/url"
	"time"

	"github.com/udsipc/udsipc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The key makes it exactly once. What was committed just before the collector was killed comes again,
// with the same writer and number.
const schema = `
CREATE TABLE IF NOT EXISTS events (
	writer BLOB    NOT NULL,
	seq    INTEGER NOT NULL,
	body   TEXT    NOT NULL CHECK (json_valid(body)),
	PRIMARY KEY (writer, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letters (
	writer BLOB    NOT NULL,
	seq    INTEGER NOT NULL,
	body   BLOB    NOT NULL,
	cause  TEXT    NOT NULL,
	PRIMARY KEY (writer, seq)
) WITHOUT ROWID;`

// ON CONFLICT names the key, so that it does not also pass over what CHECK refuses.
const (
	insertEvent = `INSERT INTO events (writer, seq, body) VALUES (?, ?, ?) ON CONFLICT (writer, seq) DO NOTHING`
	insertDead  = `INSERT INTO dead_letters (writer, seq, body, cause) VALUES (?, ?, ?, ?)
		ON CONFLICT (writer, seq) DO NOTHING`
)

// retryPause is the pause before a transaction is tried again that failed for no fault of its events.
const retryPause = 100 * time.Millisecond

// A store is an open database.
type store struct {
	db     *sql.DB
	insert *sql.Stmt
	run    [8]byte // Tells this process from others.
}

func openStore(file string) (*store, error) {
	settings := url.Values{
		"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)"},
		"_txlock": {"immediate"}, // Another process that writes delays BEGIN, instead of failing COMMIT.
	}
	db, err := sql.Open("sqlite", "file:"+file+"?"+settings.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &store{db: db}
	_, _ = rand.Read(s.run[:]) // It never fails.
	if _, err = db.Exec(schema); err == nil {
		s.insert, err = db.Prepare(insertEvent)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	return s, nil
}

func (s *store) Close() error { return errors.Join(s.insert.Close(), s.db.Close()) }

// handle stores a batch. It tries again while the database cannot be written (a full disk, a lock), until the Reader is
// stopped; the writers keep their events. What the database refuses for what it is, also as a dead letter, is the
// Reader's to report.
func (s *store) handle(ctx context.Context, batch []udsipc.Delivery) error {
	for {
		err := s.store(batch)
		if err == nil || isRefusal(err) {
			return err
		}
		log.Printf("%d events wait: %v", len(batch), err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return err
		}
	}
}

// store stores a batch in one transaction: an event that is refused becomes a dead letter. That takes some
// milliseconds, so nothing interrupts it: a context that can end costs a goroutine for each statement.
func (s *store) store(batch []udsipc.Delivery) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // It does nothing after Commit.
	insert := tx.Stmt(s.insert)
	for i := range batch {
		d := &batch[i]
		// string copies the event, which is the handler's only until it returns.
		_, err := insert.Exec(s.writer(d), int64(d.Seq), string(d.Data))
		if isRefusal(err) { // It has changed nothing.
			body := append([]byte{}, d.Data...) // Not nil, which is NULL.
			_, err = tx.Exec(insertDead, s.writer(d), int64(d.Seq), body, err.Error())
		}
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// writer returns what tells the messages of a sender from those of others. A writer without acknowledgements has no
// identity, and counts anew with each connection, which has a number in this process.
func (s *store) writer(d *udsipc.Delivery) []byte {
	if d.Writer != (udsipc.WriterID{}) {
		return d.Writer[:]
	}
	return binary.BigEndian.AppendUint64(s.run[:len(s.run):len(s.run)], d.Peer.ID)
}

// isRefusal reports whether the database refuses an event for what it is.
func isRefusal(err error) bool {
	var refused *sqlite.Error
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code() & 0xff { // The rest is the extended code.
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}
