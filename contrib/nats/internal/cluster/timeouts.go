// SPDX-License-Identifier: Apache-2.0

package cluster

// This file makes servers notice sooner that another one is away. Their own times (4 to 9 s until an election)
// are no options, and would be most of the time of a test of faults.

import (
	"time"
	_ "unsafe" // For go:linkname.

	_ "github.com/nats-io/nats-server/v2/server"
)

// MaxElection is the longest time after which a server of StartProcesses that hears nothing of a leader
// wants to be one.
const MaxElection = 1500 * time.Millisecond

//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
var minElectionTimeout time.Duration

//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var maxElectionTimeout time.Duration

//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
var hbInterval time.Duration

//go:linkname lostQuorumInterval github.com/nats-io/nats-server/v2/server.lostQuorumInterval
var lostQuorumInterval time.Duration

//go:linkname lostQuorumCheck github.com/nats-io/nats-server/v2/server.lostQuorumCheck
var lostQuorumCheck time.Duration

//go:linkname streamCatchupStartInterval github.com/nats-io/nats-server/v2/server.streamCatchupStartInterval
var streamCatchupStartInterval time.Duration

// shortTimeouts keeps the proportions of the server's own times.
func shortTimeouts() {
	minElectionTimeout, maxElectionTimeout = MaxElection/2, MaxElection
	hbInterval = MaxElection / 8
	streamCatchupStartInterval = MaxElection
	lostQuorumInterval, lostQuorumCheck = 10*hbInterval, 10*hbInterval
}
