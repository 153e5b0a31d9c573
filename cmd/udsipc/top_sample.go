// SPDX-License-Identifier: Apache-2.0

package main

// This file samples the sources: it finds them, keeps a connection to each, and asks for snapshots.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/publish"
)

const (
	maxSources    = 2000 // That are asked; the others are counted.
	maxAtOnce     = 64   // Sources that are asked at the same time.
	failuresPause = 10   // Samples for which a source that does not answer is left alone.
)

type snapshotOf = publish.Snapshot

// A sampler asks all sources again and again.
type sampler struct {
	folders []string // Where to look; empty: where programs publish.
	sources map[string]*topSource
}

// A topSource is a socket with metrics.
type topSource struct {
	endpoint publish.Endpoint
	client   *publish.Client
	last     *snapshotOf
	before   *snapshotOf // The one before; nil: there is none.
	err      error       // Why it did not answer.
	pause    int         // Samples until it is asked again.
	found    bool        // In the last sample.
	crash    any         // A panic while it was asked.
}

// A sample is what was published at one moment.
type sample struct {
	time    time.Time
	rows    []*topRow
	folders []string
	notes   []string // What is wrong with a folder.
}

// where returns the folders as text.
func (s *sample) where() string {
	if len(s.folders) == 0 {
		return "any directory of this user"
	}
	return printableText(strings.Join(s.folders, ", "))
}

func newSampler() *sampler { return &sampler{sources: make(map[string]*topSource)} }

// sample asks all sources. Each has this long to answer.
func (s *sampler) sample(ctx context.Context, within time.Duration) *sample {
	taken := &sample{time: time.Now()}
	s.find(taken)
	var asking sync.WaitGroup
	slots := make(chan struct{}, maxAtOnce)
	ctx, cancel := context.WithTimeout(ctx, 10*within) // Of all together.
	defer cancel()
	for _, source := range s.sources {
		slots <- struct{}{}
		asking.Go(func() { // Ends with the answer, or when the time for it is over.
			defer func() {
				source.crash = recover() // The terminal is set back first.
				<-slots
			}()
			source.ask(ctx, within)
		})
	}
	asking.Wait()
	for path, source := range s.sources {
		if source.crash != nil {
			panic(source.crash)
		}
		if errors.Is(source.err, publish.ErrStale) || errors.Is(source.err, os.ErrNotExist) {
			source.close()
			delete(s.sources, path) // It has ended.
			continue
		}
		taken.rows = append(taken.rows, newTopRow(source))
	}
	return taken
}

// find looks which sources are there now.
func (s *sampler) find(taken *sample) {
	if taken.folders = s.folders; len(taken.folders) == 0 {
		taken.folders = publish.Folders()
	}
	for _, source := range s.sources {
		source.found = false
	}
	more := 0
	for _, folder := range taken.folders {
		found, err := publish.Find(folder)
		if err != nil && !(errors.Is(err, os.ErrNotExist) && len(s.folders) == 0) {
			taken.notes = append(taken.notes, printableText(plain(err))) // Other users name directories.
		}
		for _, endpoint := range found {
			source := s.sources[endpoint.Path]
			if source == nil && len(s.sources) >= maxSources {
				more++
				continue
			}
			if source == nil {
				source = &topSource{endpoint: endpoint}
				s.sources[endpoint.Path] = source
			}
			source.found = true
		}
	}
	if more > 0 {
		taken.notes = append(taken.notes, fmt.Sprintf("%d more sources are not shown", more))
	}
	for path, source := range s.sources {
		if !source.found {
			source.close()
			delete(s.sources, path)
		}
	}
}

// close ends all connections.
func (s *sampler) close() {
	for _, source := range s.sources {
		source.close()
	}
}

// ask gets the next snapshot.
func (s *topSource) ask(ctx context.Context, within time.Duration) {
	if s.pause > 0 {
		s.pause--
		return
	}
	s.err = s.next(ctx, within)
	switch {
	case s.err == nil || ctx.Err() != nil:
	case errors.Is(s.err, io.EOF):
		s.err = errors.New("it closes the connection without an answer")
		fallthrough
	default:
		s.close()
		s.last, s.pause = nil, failuresPause
	}
}

func (s *topSource) next(ctx context.Context, within time.Duration) (err error) {
	before := s.last
	for range 2 { // A connection that is kept may have ended meanwhile.
		kept := s.client != nil
		if !kept {
			dialCtx, cancel := context.WithTimeout(ctx, within)
			s.client, err = s.endpoint.Dial(dialCtx)
			cancel()
			if err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var now *snapshotOf
		if now, err = s.client.Next(within); err == nil {
			if before != nil && !before.Start.Equal(now.Start) {
				before = nil // Another one has the name of the socket: one of process 1 in a container.
			}
			s.before, s.last = before, now
			return nil
		}
		s.close()
		if !kept {
			return err
		}
	}
	return err
}

func (s *topSource) close() {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}
