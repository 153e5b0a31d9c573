// SPDX-License-Identifier: Apache-2.0

// Command udsipc sends, receives, calls and looks at what programs with the library udsipc exchange:
//
//	udsipc send ADDRESS      lines, frames or files, from the standard input or files
//	udsipc listen ADDRESS    to lines, JSON or frames, on the standard output or in a file
//	udsipc top               what running Readers and Writers do, live
//	udsipc doctor ADDRESS    who listens, what is wrong, what to do
//	udsipc help              all commands, and the help of each
//
// Install it with:
//
//	go install github.com/udsipc/udsipc/cmd/udsipc@latest
//
// Every command is a row of one table (main.go), with its help, its flags and its function. The texts of the
// help, the completions of shells and the man page come from that table.
package main
