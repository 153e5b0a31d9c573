// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/rpc"
)

// The exit codes of call for an error of the method: callExits and its code, or callUserExit.
const (
	callExits    = 10
	callUserExit = 30
)

// callEnding is how long the end of a call waits for a server that does not read: it would learn of a cancellation.
const callEnding = 250 * time.Millisecond

var callCommand = command{
	name:     "call",
	summary:  "call a method of a server of package rpc",
	operands: "ADDRESS METHOD [REQUEST]",
	help: `The request is JSON, or "-" for the standard input; without one it is empty. The
response is written as a line. With --raw, the request is any bytes, and the
response is written as it is.

With --stream, METHOD is a stream method: its messages are written as they come,
each as a line, or with --raw as a frame. With --input, each line of the
standard input is sent to it.

The exit code has the code of the error, and the standard error its text. The
first interrupt cancels a call, and ends a stream.`,
	examples: []example{
		{`udsipc call /run/app.sock stat '{"path":"/etc"}'`, "a call with a request"},
		{"udsipc call --timeout 2s /run/app.sock health", "one without a request, for a health check"},
		{"udsipc call --stream /run/app.sock watch", "messages, until an interrupt"},
	},
	exits: callExitCodes(),
	setup: func(flags *flag.FlagSet) runner {
		f := &callFlags{}
		f.define(flags)
		return f.run
	},
}

// callExitCodes returns the table of exit codes.
func callExitCodes() []exit {
	list := []exit{
		{exitOK, "the method has returned a response, or the stream has ended in order"},
		{exitFailed, "the input cannot be read, or the output cannot be written"},
		{exitUsage, "the arguments cannot be; nothing was called"},
	}
	for code := rpc.CodeUnknown; code <= rpc.CodeStopped; code++ {
		what := code.String()
		if code == rpc.CodeUnknown {
			what = "the method's error has no code"
		}
		list = append(list, exit{callExits + int(code), what})
	}
	return append(list, exit{callUserExit, "a code of the server's own (1000 or more); the text has it"})
}

// callFlags has the flags of call.
type callFlags struct {
	peer       peerFlags
	raw        bool
	stream     bool
	input      bool
	wait       bool
	idempotent bool
	timeout    time.Duration
}

func (f *callFlags) define(flags *flag.FlagSet) {
	f.peer.defineDial(flags)
	flags.BoolVar(&f.raw, "raw", false, "bytes instead of JSON and lines")
	flags.BoolVar(&f.stream, "stream", false, "open a stream, and write its messages as they come")
	flags.BoolVar(&f.input, "input", false, "with --stream, send the lines of the standard input")
	flags.BoolVar(&f.wait, "wait", false, "wait for a server that is away, instead of failing at once")
	flags.BoolVar(&f.idempotent, "idempotent", false, "call again after a disconnect: the method allows that")
	flags.DurationVar(&f.timeout, "timeout", 0, "the deadline of the call or the stream, a `duration` such as 500ms; 0 "+
		"is none")
}

func (f *callFlags) check(args []string) error {
	switch {
	case f.input && !f.stream:
		return errors.New("--input needs --stream")
	case f.idempotent && f.stream:
		return errors.New("--idempotent and --stream exclude each other")
	case f.input && len(args) > 2 && args[2] == "-":
		return errors.New(`--input and the request "-" both read the standard input`)
	case f.timeout < 0:
		return fmt.Errorf("--timeout %v: want 0 or more", f.timeout)
	}
	return nil
}

func (f *callFlags) run(ctx context.Context, e *env) int {
	if err := f.check(e.args); err != nil {
		return e.usage(err)
	}
	request, err := f.request(ctx, e)
	switch {
	case errors.As(err, &outputError{}), errors.Is(err, context.Canceled):
		return e.callResult(err)
	case err != nil:
		return e.usage(err)
	}
	options, err := f.peer.writerOptions()
	if err != nil {
		return e.usage(err)
	}
	client, err := rpc.NewClient(e.args[0], append(options, udsipc.WithLogger(e.console().logger()))...)
	if err != nil {
		return e.usage(err)
	}
	if !f.wait {
		client.SetFailFast()
	}
	if err := client.Start(); err != nil {
		return e.fail(err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(e.force, callEnding)
		defer cancel()
		_ = client.Stop(ending) // The call has its result already.
	}()
	calling := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		calling, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	if f.stream {
		err = f.openStream(ctx, calling, e, client, request)
	} else {
		err = f.call(calling, e, client, request)
	}
	return e.callResult(err)
}

// request returns the bytes of the request.
func (f *callFlags) request(ctx context.Context, e *env) ([]byte, error) {
	if len(e.args) < 3 {
		return nil, nil
	}
	request := []byte(e.args[2])
	if e.args[2] == "-" {
		in := newInput(ctx, e.stdin)
		defer in.close()
		var err error
		if request, err = io.ReadAll(io.LimitReader(in, int64(f.peer.maxMessage)+1)); err != nil {
			return nil, outputError{err}
		}
		if in.ended || ctx.Err() != nil {
			return nil, fmt.Errorf("interrupted before the end of the request: %w", context.Canceled)
		}
	}
	if !f.raw && uint64(len(request)) <= uint64(f.peer.maxMessage) && !json.Valid(request) {
		return nil, errors.New("the request is not JSON (--raw takes any bytes)")
	}
	return request, nil
}

func (f *callFlags) call(ctx context.Context, e *env, client *rpc.Client, request []byte) error {
	call := client.Call
	if f.idempotent {
		call = client.CallIdempotent
	}
	response, err := call(ctx, e.args[1], request)
	if err != nil {
		return err
	}
	if !f.raw && len(response) > 0 {
		response = append(response, '\n')
	}
	return e.output(response)
}

// An outputError is an error of the standard output or input.
type outputError struct{ error }

func (err outputError) Unwrap() error { return err.error }

// output writes to the standard output. A terminal shows what a peer has sent, but obeys none of it.
func (e *env) output(text []byte) error {
	if e.isTerminal(e.stdout) {
		text = appendVisible(nil, text)
	}
	if _, err := e.stdout.Write(text); err != nil {
		return outputError{err}
	}
	return nil
}

// openStream opens a stream, sends it the input, and writes its messages. The end of interrupted is an end in order.
func (f *callFlags) openStream(interrupted, ctx context.Context, e *env, client *rpc.Client, request []byte) error {
	stream, err := client.OpenStream(ctx, e.args[1], request)
	if err != nil {
		return err
	}
	defer stream.Close()
	sent := make(chan error, 1)
	go func() { // Ends with the input, or with the stream.
		err := f.sendInput(ctx, e, stream)
		if sent <- err; err != nil {
			_ = stream.Close()
		}
	}()
	for {
		message, err := stream.Receive()
		if err != nil {
			return streamResult(interrupted, err, sent)
		}
		if err := e.output(f.format(message)); err != nil {
			return err
		}
	}
}

// streamResult returns why a stream has ended: an error of the input, or that of the stream. The end of interrupted is
// none, and neither is that the method needs no more of the input.
func streamResult(interrupted context.Context, err error, sent <-chan error) error {
	select {
	case sendErr := <-sent:
		if sendErr != nil {
			return sendErr
		}
	default:
	}
	if err == io.EOF || interrupted.Err() != nil {
		return nil
	}
	return err
}

func (f *callFlags) format(message []byte) []byte {
	if f.raw {
		return append(binary.AppendUvarint(nil, uint64(len(message))), message...)
	}
	return append(message[:len(message):len(message)], '\n')
}

// sendInput sends the lines of the standard input, and ends the sending direction.
func (f *callFlags) sendInput(ctx context.Context, e *env, stream *rpc.ClientStream) error {
	if !f.input {
		return stream.CloseSend()
	}
	in := newInput(ctx, e.stdin)
	defer in.close()
	d := newDivider(in, uint64(f.peer.maxMessage))
	for {
		line, err := d.line()
		if err == io.EOF {
			return stream.CloseSend()
		}
		if err != nil {
			return outputError{err}
		}
		if err := stream.Send(line); err != nil {
			return nil // Receive tells why.
		}
	}
}

// callResult reports an error and returns the exit code for it.
func (e *env) callResult(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.As(err, &outputError{}) && isBrokenPipe(err) { // Not the pipe of a connection.
		e.brokenPipe = true
		return exitFailed
	}
	e.logf("%s", plain(err))
	if errors.As(err, &outputError{}) {
		return exitFailed
	}
	if code := rpc.CodeOf(err); code < rpc.CodeFirstUser {
		return callExits + int(code)
	}
	return callUserExit
}
