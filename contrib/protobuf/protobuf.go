// SPDX-License-Identifier: Apache-2.0

package protobuf

import (
	"google.golang.org/protobuf/proto"

	"github.com/udsipc/udsipc/codec"
)

// Codec returns the codec of a message type. M is the pointer type of the generated code, the one
// that proto.Marshal takes:
//
//	requests := protobuf.Codec[*pb.Request]()
//
// A nil value is encoded as an empty message. Decode returns a new message, which keeps nothing of
// its data. Codec panics if M is an interface, such as proto.Message: that does not tell which
// message to make.
func Codec[M proto.Message]() codec.Codec[M] {
	var none M
	if any(none) == nil {
		panic("udsipc/protobuf: Codec of an interface: name a generated type, such as *pb.Request")
	}
	kind := none.ProtoReflect().Type()
	return codec.Of(func(dst []byte, v M) ([]byte, error) {
		return proto.MarshalOptions{}.MarshalAppend(dst, v)
	}, func(data []byte) (M, error) {
		v := kind.New().Interface().(M)
		return v, proto.Unmarshal(data, v)
	})
}
