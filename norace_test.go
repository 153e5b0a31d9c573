// SPDX-License-Identifier: Apache-2.0

//go:build !race

package udsipc_test

const raceEnabled = false
