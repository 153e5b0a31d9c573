// SPDX-License-Identifier: Apache-2.0

// Package journal keeps the messages of a spool in the segments of a disk, from the write until they
// are handled, over the ends of processes.
//
// Open finds what is left and decides whether the identity goes on. Append writes messages; when it
// returns nil, they survive the process, with Config.Sync 0 the machine too. Next reads them back in
// order, Handled tells up to which number they may go. A segment is removed when its last message is
// handled. Close writes down where the next process goes on.
//
// The numbers of an identity go up and are never used twice for different messages. They jump where
// messages were damaged or dropped. Messages of a former identity come first. Before the first message
// of an identity is sent, Welcomed tells what the reader knows of it, and finds out whether this is an
// older copy of the spool.
//
// Append, Sync, Handled, Counts and Close may be called by many goroutines, Next and Welcomed by one.
// The Log keeps no slice of its callers. It starts no goroutine: the first to come writes for all who
// wait, and a timer syncs.
package journal

import (
	"crypto/rand"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/latency"
	"github.com/udsipc/udsipc/internal/segment"
)

// The errors of a Log. A full disk is disk.ErrFull, damage is segment.ErrDamaged.
var (
	// ErrFull is returned by Append when the messages would exceed a bound, or the disk is full.
	ErrFull = errors.New("udsipc: spool is full")
	// ErrAhead is returned by Handled for a number that no message has yet: the reader knows a later
	// state of this spool than there is on the disk.
	ErrAhead = errors.New("udsipc: reader is ahead of the spool")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("udsipc: spool is closed")
)

// Config has the settings of a Log. The zero value of each means what its comment says.
type Config struct {
	MaxBytes    int64         // Bound of all segments together; 0 is no bound.
	MinFree     uint64        // What Append leaves free of the file system. It asks each 4 MiB, and each second.
	MaxAge      time.Duration // A segment whose last message is older is dropped, if found by its file time; 0 is never.
	SegmentSize int64         // A new segment is begun before one gets larger; 0 is 16 MiB.
	DropOldest  bool          // Drop the oldest segment if there is no room, instead of ErrFull.
	Sync        time.Duration // How long a message may stay unsynced; 0 is not at all, negative is forever.

	Boot      [16]byte                // The boot of the machine; zeros: every unclean end is one of the machine.
	Now       func() time.Time        // Nil is time.Now.
	NewWriter func() segment.WriterID // Nil is random.

	// OnDamage is called for damage that is found; OnSyncError when a sync failed that no caller waits
	// for, or the state could not be written. Both may be nil. They must not call the Log.
	OnDamage    func(Damage)
	OnSyncError func(error)
	// OnGone is called for messages that have expired, or were dropped to make room. It may be nil, must not wait
	// and must not call the Log.
	OnGone func(messages uint64, expired bool)
}

// A Damage is a part of a segment that cannot be read.
type Damage struct {
	Name     string // Name of the segment. It is kept as Name with ".bad" behind it: the last 16 of them are.
	Writer   segment.WriterID
	From, To uint64 // The messages from From to below To are missing.
	Bytes    int64  // Length of the part.
	Err      error
}

// A Log is the messages on one disk. Open makes one.
type Log struct {
	disk   disk.Disk
	config Config

	// io is held by who writes: Append for a group, the repair after a failed sync, Close.
	io           sync.Mutex
	closed       bool
	opened       uint32           // The count of starts of Open; later ones are names of this process.
	confirmed    uint32           // Messages in segments of later starts were never sent; see Welcomed.
	welcomed     segment.WriterID // The identity that was welcomed last by this process; zero is none.
	sealed       bool             // Append is over.
	hints        hints
	savedHandled segment.Handled // What the file has.
	files        int             // No more finished segments have an open file.
	stateSaved   bool            // Whether the state on the disk is the last one of this process.
	free         freeSpace

	// syncing is held by who syncs segments; only one at a time does.
	syncing sync.Mutex

	// mu guards what is below. No I/O is done with it but closing files.
	mu        sync.Mutex
	writer    segment.WriterID
	next      uint64 // Number of the next message; changed by the holder of io.
	start     uint32
	segments  []*part  // Oldest first.
	finished  int64    // Size of all of them but the last; see sumLocked.
	active    *part    // The last one, if this process may append to it.
	group     *group   // The group that waits for io, if there is one.
	spare     []*group // Groups for reuse.
	spareFrom uint64   // The next number when the timer has last run.
	handled   segment.Handled
	stopped   bool        // No timer is started any more.
	ended     bool        // All files are closed.
	failure   error       // Of a sync; until what it left is written again.
	unnamed   bool        // A segment was begun, and its name may not survive the machine.
	timer     *time.Timer // Runs while there is something to sync or to write down.
	syncTimer *time.Timer // Runs while there is something to sync, if the interval is longer than that of the other one.
	counts    Counts
	syncTimes latency.Histogram
	cursor    cursor
	changed   chan struct{} // Closed when messages leave; nil if nobody waits.
	arrived   chan struct{} // One slot: there is something to read.
	room      chan struct{} // Closed when room was made; nil if nobody waits.

	sentBefore map[segment.WriterID]uint64 // Set by Open,
	lostEnd    bool                        // and whether a last segment cannot be read at all.
}

// Start is what Open found and decided.
type Start struct {
	Writer  segment.WriterID // The identity of new messages.
	Next    uint64           // Number of the first new message.
	Starts  uint32           // Count of starts, on the disk already.
	Renewed bool             // Whether the identity is a new one.
	Found   uint64           // Count of messages that were left.
}

// A part is a segment with what the Log knows of it.
type part struct {
	name       string
	start      uint32 // The one of its name.
	writer     segment.WriterID
	first, end uint64    // The messages from first to below end.
	from       uint64    // Those before it were handled when they were found: End does not count them.
	size       int64     // What of the file counts: whole batches.
	synced     int64     // What of it survives the machine,
	syncedEnd  uint64    // and the number behind that.
	begun      time.Time // When its first message was written; of a found one as late as modified.
	modified   time.Time // When its last message was written.
	file       disk.File // Open while it may have to be synced.
	failed     bool      // A sync has failed. It is never synced again.
	gaps       []gap     // The numbers in it that are missing, in order.
	found      []Damage  // What Next has met in it.
	damaged    bool      // It is kept when it is removed.
	removed    bool
}

// A gap is a range of missing numbers from from to below to.
type gap struct{ from, to uint64 }

// messages returns how many messages of a part have a number from from on.
func (p *part) messages(from uint64) uint64 {
	from = max(from, p.first)
	if from >= p.end {
		return 0
	}
	n := p.end - from
	for _, g := range p.gaps {
		if low, high := max(from, g.from), min(g.to, p.end); low < high {
			n -= high - low
		}
	}
	return n
}

// unhandledLocked returns the first number of a part that is not handled.
func (l *Log) unhandledLocked(p *part) uint64 {
	if p.writer == l.handled.Writer && l.handled.Number >= p.first {
		return min(l.handled.Number+1, p.end)
	}
	return p.first
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.SegmentSize == 0 {
		c.SegmentSize = 16 << 20
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = math.MaxInt64
	}
	c.SegmentSize = min(c.SegmentSize, max(c.MaxBytes/4, segment.HeaderSize))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewWriter == nil {
		c.NewWriter = func() (id segment.WriterID) {
			rand.Read(id[:]) // It never fails.
			return id
		}
	}
	return c
}

// Arrived returns a channel with one slot. It has a value after Next returned no batch and one came.
func (l *Log) Arrived() <-chan struct{} { return l.arrived }

// Room returns a channel that is closed when room is made. Get it before the Append that may fail.
func (l *Log) Room() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return l.room
}

// roomLocked tells those who wait that there is room.
func (l *Log) roomLocked() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}
