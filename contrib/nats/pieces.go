// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file decides which messages of a group are sent now.

import "time"

// batchFiles is what a server takes for the files of an atomic batch, if the stream has one replica, on files.
const batchFiles = 3 * time.Millisecond

// singleMessages returns how many messages are stored one by one in less time than as an atomic batch.
func (p *Publisher) singleMessages(s *openedStream) int {
	switch {
	case p.cfg.single >= 0:
		return p.cfg.single
	case !s.files:
		return 0
	}
	return int(min(batchFiles/max(s.ask, 1), 64))
}

// leaveOut leaves out what the stream has. A message that may be a repetition is published alone if only the
// duplicate window can tell: an atomic batch with a repetition is refused.
func (g *group) leaveOut(allIDs bool) {
	g.messages = 0
	for i := range g.pieces {
		piece := &g.pieces[i]
		q := piece.part
		w := q.writer
		piece.skip = 0
		for piece.skip < piece.n && q.seq(piece.skip) <= w.handled {
			piece.skip++
		}
		repeats := piece.skip < piece.n && allIDs && !w.numbers &&
			(q.batch[piece.skip].Redelivered || q.seq(piece.skip) <= q.sent)
		if repeats || piece.conflicts > 1 && piece.skip < piece.n {
			if piece.n = piece.skip; g.messages == 0 {
				piece.n++
			}
			g.messages += piece.n - piece.skip
			piece.end()
			g.leave(i + 1)
			return
		}
		g.messages += piece.n - piece.skip
		piece.end()
	}
}

// takeFirst leaves all messages to later batches but the first that the stream does not have.
func (g *group) takeFirst() {
	for i := range g.pieces {
		piece := &g.pieces[i]
		if piece.n == piece.skip {
			continue
		}
		piece.n, g.messages = piece.skip+1, 1
		piece.end()
		g.leave(i + 1)
		return
	}
}

// end notes the number of the last message.
func (piece *piece) end() {
	if piece.n > 0 {
		piece.lastSeq = piece.part.seq(piece.n - 1)
	}
}

// leave leaves the pieces from i on to later batches.
func (g *group) leave(i int) {
	for j := range g.pieces[i:] {
		g.pieces[i+j].n, g.pieces[i+j].skip = 0, 0
	}
}
