// SPDX-License-Identifier: Apache-2.0

package conform

// This file has the cases of a session that a reader refuses, and of a reader that is killed.

import (
	"bytes"

	"github.com/udsipc/udsipc/internal/wire"
)

var refusalCases = []readerCase{
	{"refusal", "a hello of another version is answered with the own one", refusalVersion},
	{"refusal", "malformed hellos are not answered", refusalMalformed},
	{"refusal", "a wrong session preface is a malformed length", refusalPreface},
	{"refusal", "a connection that ends within the hello", refusalPart},
}

var processCases = []readerCase{
	{"process", "a reader that is killed and comes again", processKilled},
}

func refusalVersion(t *readerTest) {
	preface := newHello().Append(nil)[:12]
	for _, text := range []string{
		"15 02 00112233445566778899aabbccddeeff 01 01 00 00",
		"01 02",
		"01 00", // The version of no writer: a question.
		"03 ff7f 00",
	} {
		p := t.dial()
		p.write(append(bytes.Clone(preface), fromHex(text)...))
		b := p.awaitEnd()
		for bytes.HasPrefix(b, wire.Heartbeat) {
			b = b[len(wire.Heartbeat):]
		}
		if !bytes.Equal(b, fromHex("05 01 01 00 00 00")) {
			failf("the reply to the hello %s is % x, want a welcome of version 1 and status 1, 05 01 01 00 00 00", text, b)
		}
	}
	t.stillServes()
}

func refusalMalformed(t *readerTest) {
	preface := newHello().Append(nil)[:12]
	for _, text := range []string{
		"15 01 00112233445566778899aabbccddeeff 00 01 00 00", // Epoch 0.
		"15 01 00112233445566778899aabbccddeeff 01 00 00 00", // First 0.
		"15 01 00112233445566778899aabbccddeeff 01 0a 08 00", // Sent below first-1.
		"16 01 00112233445566778899aabbccddeeff 01 01 00 00 00",
		"14 01 00112233445566778899aabbccddeeff 01 01 00",
		"27 01 00112233445566778899aabbccddeeff 01 80808080808080808001 80808080808080808001 00",
		"00",
		"8101",
	} {
		p := t.dial()
		p.write(append(bytes.Clone(preface), fromHex(text)...))
		if b := p.awaitEnd(); len(b) > 0 {
			failf("the reply to the malformed hello %s is % x, want none", text, b)
		}
	}
	t.stillServes()
}

func refusalPreface(t *readerTest) {
	p := t.dial()
	p.write(fromHex("f5e4f3e9f0e3ade1e3ebe5ff 15 01"))
	p.expectReport(wire.CloseMalformed, 1)
	t.stillServes()
}

func refusalPart(t *readerTest) {
	hello := newHello().Append(nil)
	for size := 1; size < len(hello); size++ {
		p := t.dial()
		p.write(hello[:size])
		p.closeWrite()
		p.awaitEnd()
		p.close()
	}
	t.stillServes()
}

func processKilled(t *readerTest) {
	if t.process == nil {
		skipf("the reader was not started here: a command")
	}
	h := newHello()
	p, _ := t.open(h)
	p.send(t.messages(1, 10)...)
	p.awaitAck(10)
	p.send(t.messages(11, 500)...)
	t.process.kill()
	if t.handled != nil {
		t.handled.drop()
	}
	if err := t.start(); err != nil {
		failf("%v", err)
	}
	if err := t.awaitReader(); err != nil {
		failf("%v", err)
	}
	p, w := t.open(again(h, 11, 500))
	if w.Handled != 10 && w.Handled > 500 {
		failf("handled is %d, want 10 to 500", w.Handled)
	}
	p.send(t.messages(int(w.Handled)+1, 510)...)
	p.awaitAck(510)
	var want []delivery
	for n := int(w.Handled) + 1; n <= 510; n++ {
		flag := byte('r')
		if n > 500 {
			flag = '-'
		}
		if w.Handled > 10 {
			flag = '?' // It has kept its state: then it knows.
		}
		want = append(want, delivered(t.message(n, 10+n%7), flag))
	}
	t.expect(want...)
}
