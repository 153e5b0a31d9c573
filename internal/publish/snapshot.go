// SPDX-License-Identifier: Apache-2.0

package publish

// This file forms and parses a snapshot: one line of JSON.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// ErrMalformed is the error for a line that is no snapshot.
var ErrMalformed = errors.New("udsipc: malformed snapshot of metrics")

// A Snapshot is the metrics of one moment.
type Snapshot struct {
	Version    int       `json:"version"`
	PID        int       `json:"pid"`
	Executable string    `json:"executable"`
	Name       string    `json:"name"`
	Kind       string    `json:"kind"`
	Address    string    `json:"address"`
	Start      time.Time `json:"start"` // When the counters began to count.
	Time       time.Time `json:"time"`  // Of the snapshot.

	Counters  map[string]uint64  `json:"counters"`
	Gauges    map[string]int64   `json:"gauges"`
	Latencies map[string]Latency `json:"latencies"`

	Peers     []Peer `json:"peers"`
	MorePeers int    `json:"more_peers"` // How many are not in Peers.
}

// A Latency is a summary of how long something took.
type Latency struct {
	Count uint64        `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`

	SumSeconds float64  `json:"sum_seconds"`
	Buckets    []uint64 `json:"buckets"` // Times below 8.192 µs, below twice as much, and so on.
}

// A Peer is the other end of a connection.
type Peer struct {
	ID       uint64 `json:"id"`
	Address  string `json:"address,omitempty"`
	UID      int    `json:"uid"` // -1 if the transport does not tell.
	PID      int    `json:"pid"` // 0 if the transport does not tell.
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

// MaxPeers is how many peers a snapshot has.
const MaxPeers = 64

// line returns the snapshot of this moment as a line.
func (p *Publication) line() ([]byte, error) {
	s := Snapshot{
		Version: Version, PID: os.Getpid(), Name: p.cfg.Name, Kind: p.cfg.Kind, Address: p.cfg.Address,
		Start: p.begin().UTC(), Time: time.Now().UTC(),
	}
	s.Executable, _ = os.Executable() // Empty if the system does not tell.
	if err := s.setMetrics(p.cfg.Snapshot(), p.cfg.Gauges); err != nil {
		return nil, err
	}
	if p.cfg.Peers != nil {
		s.Peers, s.MorePeers = p.cfg.Peers(MaxPeers)
	}
	return s.Line()
}

// Line returns the snapshot as a line. It leaves out peers that would make it too long.
func (s Snapshot) Line() ([]byte, error) {
	if s.Peers == nil {
		s.Peers = []Peer{}
	}
	for {
		line, err := json.Marshal(s)
		if err != nil || len(line) < MaxLine {
			return append(line, '\n'), err
		}
		if len(s.Peers) == 0 {
			return nil, fmt.Errorf("%w: it has %d bytes, at most %d are possible", ErrMalformed, len(line), MaxLine)
		}
		half := len(s.Peers) / 2
		s.Peers, s.MorePeers = s.Peers[:half], s.MorePeers+len(s.Peers)-half
	}
}

// setMetrics sorts the numbers of metrics by what they are.
func (s *Snapshot) setMetrics(metrics any, gauges []string) error {
	s.Counters, s.Gauges, s.Latencies = map[string]uint64{}, map[string]int64{}, map[string]Latency{}
	text, err := json.Marshal(metrics)
	if err != nil {
		return err
	}
	return s.addObject("", text, gauges)
}

// addObject adds the fields of an object. Those of an object inside it have its name in front.
func (s *Snapshot) addObject(prefix string, text []byte, gauges []string) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	for name, value := range fields {
		name = prefix + name
		var err error
		switch {
		case bytes.Equal(value, []byte("true")):
			s.Gauges[name] = 1
		case bytes.Equal(value, []byte("false")):
			s.Gauges[name] = 0
		case value[0] == '{':
			err = s.addNested(name, value, gauges)
		case value[0] == '-' || slices.Contains(gauges, name):
			s.Gauges[name], err = strconv.ParseInt(string(value), 10, 64)
		case value[0] >= '0' && value[0] <= '9':
			s.Counters[name], err = strconv.ParseUint(string(value), 10, 64)
		}
		if err != nil {
			return fmt.Errorf("%w: %s is %s", ErrMalformed, name, value)
		}
	}
	return nil
}

// addNested adds a field that is an object: a latency, or more metrics.
func (s *Snapshot) addNested(name string, value []byte, gauges []string) error {
	if !bytes.Contains(value, []byte(`"p50_ns"`)) || bytes.Count(value, []byte("{")) > 1 {
		return s.addObject(name+"_", value, gauges)
	}
	var latency Latency
	err := json.Unmarshal(value, &latency)
	s.Latencies[name] = latency
	return err
}

// Parse parses a line. Unknown fields are ignored: a later version may have them.
func Parse(line []byte) (*Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(line, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case s.Version < Version:
		return nil, fmt.Errorf("%w: it has no version", ErrMalformed)
	case s.PID <= 0 || s.Kind == "" || s.Time.IsZero():
		return nil, fmt.Errorf("%w: it has no pid, no kind or no time", ErrMalformed)
	}
	return &s, nil
}
