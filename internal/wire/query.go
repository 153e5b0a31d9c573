// SPDX-License-Identifier: Apache-2.0

package wire

// This file is how a program asks a reader which version of the session it supports, without being a writer.

import "fmt"

// queryVersion is the version of no hello: it asks for the version of the reader.
const queryVersion = 0

// AppendVersionQuery appends a session preface and a hello that asks a reader for its version.
func AppendVersionQuery(dst []byte) []byte {
	return AppendFrame(append(dst, sessionPreface...), []byte{queryVersion})
}

// ParseVersionReply parses the reply to a query at the start of b: the version that the reader supports.
func ParseVersionReply(b []byte) (version uint64, err error) {
	body, size, err := parseHandshakeFrame(b)
	if err != nil {
		return 0, err
	}
	f := fieldReader{rest: body, wrapErr: ErrHandshakeFormat}
	version, status := f.number(), Status(f.number())
	if f.err == nil && (size != len(b) || status != StatusVersion) {
		f.err = fmt.Errorf("%w: % x is no reply to the question for the version", ErrHandshakeFormat, b)
	}
	return version, f.err
}
