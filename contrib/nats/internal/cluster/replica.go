// SPDX-License-Identifier: Apache-2.0

package cluster

// This file asks each server for what it has of a stream: servers do not compare that themselves.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/nats-io/nats-server/v2/server"
)

// A Replica is what a server has of a stream.
type Replica struct {
	Messages, First, Last uint64
}

// Replicas returns what each server has of a stream of the global account. It is the same for all of them when
// nothing is on its way.
func (p *Processes) Replicas(ctx context.Context, stream string) (all []Replica, err error) {
	for _, n := range p.Nodes {
		r, err := replica(ctx, n.HTTPPort, stream)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

func replica(ctx context.Context, port int, stream string) (Replica, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d/jsz?streams=true", port)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return Replica{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return Replica{}, err
	}
	defer answer.Body.Close()
	var info server.JSInfo
	if err := json.NewDecoder(answer.Body).Decode(&info); err != nil {
		return Replica{}, err
	}
	for _, account := range info.AccountDetails {
		for i := range account.Streams {
			if s := &account.Streams[i]; s.Name == stream {
				return Replica{Messages: s.State.Msgs, First: s.State.FirstSeq, Last: s.State.LastSeq}, nil
			}
		}
	}
	return Replica{}, fmt.Errorf("no stream %s", stream)
}
