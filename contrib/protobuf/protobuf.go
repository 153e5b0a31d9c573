// SPDX-License-Identifier: Apache-2.0

package protobuf

import (
	"google.golang.org/protobuf/proto"

	"github.com/udsipc/udsipc/codec"
)

// Codec returns the codec of a message type; M is what the generated code gives a pointer to:
//
//	requests := protobuf.Codec[pb.Request]()
//
// Values are *M. What Decode returns keeps nothing of its data.
func Codec[M any, P interface {
	*M
	proto.Message
}]() codec.Codec[P] {
	return codec.Of(func(dst []byte, v P) ([]byte, error) {
		return proto.MarshalOptions{}.MarshalAppend(dst, v)
	}, func(data []byte) (P, error) {
		v := P(new(M))
		return v, proto.Unmarshal(data, v)
	})
}
