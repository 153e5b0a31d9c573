// SPDX-License-Identifier: Apache-2.0

//go:build !(linux || darwin || freebsd)

package disk

func bootID() (id [16]byte) { return id }
