// SPDX-License-Identifier: Apache-2.0

//go:build !zmq

package contender

var zeroMQ = Contender{
	Name:    "ZeroMQ, libzmq",
	Missing: "built without -tags zmq, which needs libzmq (Debian: libzmq3-dev)",
}
