// SPDX-License-Identifier: Apache-2.0

package rpc

// This file has the metadata of calls: values that travel beside the request, such as the context of a trace.

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
)

// Metadata are values that go with a call or a stream, beside its request. A client sets them with
// WithMetadata, mostly in an interceptor (Client.Use). The handler finds them in its CallInfo. Keys and
// values are any bytes: up to 64 values, 8 KiB together.
type Metadata map[string]string

// The largest size of encoded metadata, in bytes, and the largest number of values.
const (
	maxMetadata       = 8 << 10
	maxMetadataValues = 64
)

// metadataCost is about how many bytes a value takes in a map, beside its own.
const metadataCost = 80

// outgoing is the metadata of a context, and their encoding.
type outgoing struct {
	values  Metadata
	encoded string
}

type metadataKey struct{}

// WithMetadata returns a context whose calls and streams carry m, and the metadata that ctx has already; of a key that
// both have, the value of m. A server that does not know metadata fails such calls with CodeUnknownMethod.
// Notifications have no context, and carry none.
func WithMetadata(ctx context.Context, m Metadata) context.Context {
	all := Metadata{}
	maps.Copy(all, outgoingOf(ctx).values)
	maps.Copy(all, m)
	var b []byte
	for _, key := range slices.Sorted(maps.Keys(all)) {
		for _, text := range [...]string{key, all[key]} {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	}
	return context.WithValue(ctx, metadataKey{}, outgoing{all, string(b)})
}

// outgoingOf returns the metadata of the calls of a context.
func outgoingOf(ctx context.Context) outgoing {
	o, _ := ctx.Value(metadataKey{}).(outgoing)
	return o
}

// OutgoingMetadata returns the metadata that the calls and streams of ctx carry, as a copy; nil without any. An
// interceptor sees by it how much space is left.
func OutgoingMetadata(ctx context.Context) Metadata { return maps.Clone(outgoingOf(ctx).values) }

// checkCall returns the encoded metadata of a call, or why it must not be sent: they are too large, or its method is no
// name.
func checkCall(ctx context.Context, method string) (metadata string, err error) {
	if strings.IndexByte(method, 0) >= 0 {
		return "", errorf(CodeInvalidArgument, "the name of a method has a zero byte: %.100q", method)
	}
	out := outgoingOf(ctx)
	if n := len(out.encoded); n > maxMetadata {
		return "", errorf(CodeInvalidArgument, "%s: %d bytes of metadata, the limit is %d", method, n, maxMetadata)
	}
	if n := len(out.values); n > maxMetadataValues {
		return "", errorf(CodeInvalidArgument, "%s: %d values of metadata, the limit is %d", method, n, maxMetadataValues)
	}
	return out.encoded, nil
}

// parseMetadata decodes metadata. It does not keep b.
func parseMetadata(b []byte) (Metadata, *Error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > maxMetadata {
		return nil, errorf(CodeInvalidArgument, "%d bytes of metadata, the limit is %d", len(b), maxMetadata)
	}
	m, r := Metadata{}, fieldReader{rest: b}
	for n := 0; len(r.rest) > 0; n++ {
		if n == maxMetadataValues {
			return nil, errorf(CodeInvalidArgument, "more than %d values of metadata", maxMetadataValues)
		}
		key := string(r.text())
		m[key] = string(r.text())
	}
	if r.bad {
		return nil, errorf(CodeInvalidArgument, "malformed metadata of %d bytes", len(b))
	}
	return m, nil
}
