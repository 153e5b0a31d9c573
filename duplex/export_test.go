// SPDX-License-Identifier: Apache-2.0

package duplex

// Parse reads a message as it goes over the wire.
var Parse = parse

// Append writes one.
func Append(dst []byte, m Message) []byte { return m.appendTo(dst) }
