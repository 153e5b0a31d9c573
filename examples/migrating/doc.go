// SPDX-License-Identifier: Apache-2.0

// Package migrating has the programs of docs/MIGRATING.md as examples: each does what a program in the
// documentation of another library does. The tests run them and compare their output.
package migrating
