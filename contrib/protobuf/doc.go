// SPDX-License-Identifier: Apache-2.0

// Package protobuf is the codec of protocol buffers: two functions of their own library.
package protobuf
