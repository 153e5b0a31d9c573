// SPDX-License-Identifier: Apache-2.0

package wire

// This file is what the tests of the wire format see of it beside what is exported.

// PrefixSize is the length in bytes of the prefix of a message of n bytes.
var PrefixSize = prefixSize

// SessionPreface is how a session begins.
var SessionPreface = sessionPreface
