// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is what an answer of the cluster means.

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The errors of a stream that is not as a Publisher needs it. They are reported (WithStateCallback), and
// tried again: an operator may mend it.
var (
	errNoAtomic = errors.New("natsbridge: the stream does not allow atomic batches (AllowAtomicPublish)")
	errSubjects = errors.New("natsbridge: the stream does not have the subjects")
	errStream   = errors.New("natsbridge: the stream cannot be used")
	errForeign  = errors.New("natsbridge: another program publishes under the subjects of a writer, or its last " +
		"message was removed")
	errTooLarge  = errors.New("natsbridge: message too large")
	errSubject   = errors.New("natsbridge: invalid subject")
	errRetracted = errors.New("natsbridge: a handler has returned")
	errUnsettled = errors.New("natsbridge: an earlier batch has no answer")
	errNoAck     = errors.New("natsbridge: invalid acknowledgement")
	errCallback  = errors.New("natsbridge: the function of WithSubject or WithHeader has failed")
)

// A verdict is what is done after a try.
type verdict int

const (
	stored    verdict = iota
	refused           // The message will never be accepted.
	retracted         // It was not sent to its end.
	smaller           // The server takes smaller batches.
	conflict          // The stream has something else than was thought.
	full              // The stream, or a disk, has no space.
	away              // Nothing is known, or no one answers.
	wrong             // The stream, or a permission, is not as it must be.
)

// Codes of errors of the JetStream API.
const (
	codeDuplicateInBatch = 10201
	codeDuplicateInRaft  = 10158
	codeWrongLast        = 10071
	codeWrongLastRaft    = 10164
	codeTooLarge         = 10054
	codeHeaderTooLarge   = 10097
	codeStoreFailed      = 10077
	codeNoResources      = 10023
	codeAccountResources = 10002
	codeMemoryResources  = 10028
	codeStorageResources = 10047
	codeIncompleteBatch  = 10176
	codeBatchTooLarge    = 10199
	codeTooManyBatches   = 10210
)

// judge decides what an error means.
func judge(err error) verdict {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return stored
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, errSubject), errors.Is(err, errTooLarge),
		errors.Is(err, nats.ErrBadHeaderMsg), errors.Is(err, errCallback):
		return refused
	case errors.Is(err, errRetracted), errors.Is(err, errUnsettled):
		return retracted
	case errors.As(err, &api):
		return judgeCode(api)
	case errors.Is(err, errNoAtomic), errors.Is(err, errSubjects), errors.Is(err, errForeign), errors.Is(err, errStream),
		errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, nats.ErrAuthorization),
		errors.Is(err, nats.ErrConnectionClosed):
		return wrong
	}
	return away
}

func judgeCode(api *jetstream.APIError) verdict {
	switch api.ErrorCode {
	case codeDuplicateInBatch, codeDuplicateInRaft, codeWrongLast, codeWrongLastRaft:
		return conflict
	case codeBatchTooLarge:
		return smaller
	case codeTooLarge, codeHeaderTooLarge:
		return refused
	case codeStoreFailed, codeNoResources, codeAccountResources, codeMemoryResources, codeStorageResources:
		return full
	case codeIncompleteBatch, codeTooManyBatches:
		return away
	}
	if api.Code >= 500 { // Of the moment: no leader, a server that starts.
		return away
	}
	return wrong
}

// causeOf returns what tells causes apart: not the numbers in their texts.
func causeOf(err error) string {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return strconv.Itoa(int(api.ErrorCode)) + api.Description
	}
	for _, known := range []error{
		errNoAtomic, errSubjects, errForeign, nats.ErrNoResponders, nats.ErrTimeout, nats.ErrDisconnected,
		nats.ErrConnectionClosed, nats.ErrPermissionViolation, nats.ErrAuthorization,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

// A pubAck is the answer to a batch, or to a message.
type pubAck struct {
	Stream    string              `json:"stream"`
	Seq       uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Batch     string              `json:"batch"`
	Count     int                 `json:"count"`
	Error     *jetstream.APIError `json:"error"`
}

// parseAck returns the answer of a stream.
func parseAck(data []byte, stream string) (pubAck, error) {
	var a pubAck
	switch err := json.Unmarshal(data, &a); {
	case err != nil:
		return a, fmt.Errorf("%w: %q: %w", errNoAck, data, err)
	case a.Error != nil:
		return a, a.Error
	case a.Stream != stream || a.Seq == 0:
		return a, fmt.Errorf("%w: %q: want one of the stream %q", errNoAck, data, stream)
	}
	return a, nil
}
