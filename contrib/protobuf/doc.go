// SPDX-License-Identifier: Apache-2.0

// Package protobuf is the codec of protocol buffers, for packages codec and rpc of udsipc:
//
//	var Stat = rpc.NewMethod("stat", protobuf.Codec[*pb.StatRequest](), protobuf.Codec[*pb.StatResponse]())
//
// The bytes between a Writer and a Reader are those of Protocol Buffers' delimited stream. So a program
// in any language needs no udsipc to talk to one that does: Go's protodelim.MarshalTo, Java's
// writeDelimitedTo and C++'s SerializeDelimitedToOstream write to a Reader, and protodelim.UnmarshalFrom,
// parseDelimitedFrom and ParseDelimitedFromZeroCopyStream read what a Writer sends. That holds for plain
// mode, without WithAcknowledgements. Package rpc has a protocol of its own (docs/PROTOCOL.md).
package protobuf
