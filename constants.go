// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file makes sure, when it is compiled, that constants of different files fit each other. Each line is an
// error of the compiler if its condition is false: no constant of type uint64 is negative.

// Buffers. A pooled buffer has the size of its class, so that a size that is asked for by name must be one.
const (
	_ = uint64(0 - freeSize&(freeSize-1))
	_ = uint64(freeSize - minBufferSize)
	_ = uint64(moveOnWait - freeSize)                        // What is moved for a wait ends in a buffer that costs nothing, or is large.
	_ = uint64(minBufferSize - tooLargeHead - maxHeaderSize) // The smallest buffer has room for what a TooLargeError shows.
)

// Frames. A length that is believed fits an int of 32 bits with its prefix, and a queue has room for the prefix of
// its largest message.
const (
	_ = int32(maxMessageLimit + maxHeaderSize)
	_ = uint64(maxHeaderRoom - maxHeaderSize)
)

// Batches. One write takes as many chunks as a batch may have bytes, and stays within what a Reader that has said
// goodbye puts up with.
const (
	_ = uint64(maxVector*chunkSize - batchSize)
	_ = uint64(maxGraceBytes - 2*batchSize)
	_ = uint64(batchSize - stallPiece)
)

// Greetings. Whatever has to be there whole before it can be parsed fits the buffer that it is read into.
const (
	_ = uint64(backSize - maxHeaderSize - maxGreeting)
	_ = uint64(len(lastWords{}.buf) - 1 - maxHeaderSize - maxGreeting)
)

// Times. What one end waits for, the other one does sooner.
const (
	_ = uint64(lastWordsWait - goodbyeWait)
	_ = uint64(minSilence/beatsPerSilence - pokeAfter) // An interrupted write costs no heartbeat.
)
