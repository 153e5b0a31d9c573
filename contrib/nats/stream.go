// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file decides whether a stream can keep what a Publisher promises.

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// checkStream refuses a stream to which messages cannot be published, or of which it cannot be read back what it has.
func (p *Publisher) checkStream(cfg *jetstream.StreamConfig) error {
	all := p.prefix + ".>"
	t := cfg.SubjectTransform
	switch {
	case cfg.Mirror != nil:
		return fmt.Errorf("%w: stream %s is a mirror of %s", errStream, cfg.Name, cfg.Mirror.Name)
	case cfg.Sealed:
		return fmt.Errorf("%w: stream %s is sealed", errStream, cfg.Name)
	case !cfg.AllowAtomicPublish:
		return fmt.Errorf("%w: stream %s", errNoAtomic, cfg.Name)
	case cfg.NoAck:
		return fmt.Errorf("%w: stream %s acknowledges nothing (NoAck)", errStream, cfg.Name)
	case cfg.AllowMsgCounter:
		return fmt.Errorf("%w: stream %s has counters (AllowMsgCounter)", errStream, cfg.Name)
	case t != nil && (t.Source == "" || overlap(t.Source, all)):
		return fmt.Errorf("%w: stream %s stores %s under other subjects (SubjectTransform)", errStream, cfg.Name, all)
	case cfg.SubjectDeleteMarkerTTL > 0 && p.cfg.subject != nil: // A marker hides what is under other ends of a Writer.
		return fmt.Errorf("%w: stream %s has delete markers (SubjectDeleteMarkerTTL), which WithSubject excludes",
			errStream, cfg.Name)
	}
	return p.checkSubjects(cfg)
}

// checkSubjects refuses a stream without the subjects of the Writers.
func (p *Publisher) checkSubjects(cfg *jetstream.StreamConfig) error {
	probe, want := p.prefix+".w", p.prefix+".*"
	if p.cfg.subject != nil {
		probe, want = p.prefix+".w.x.y", p.prefix+".>"
	}
	for _, subject := range cfg.Subjects {
		if covers(subject, probe) {
			return nil
		}
	}
	return fmt.Errorf("%w: stream %s has %q: want %s", errSubjects, cfg.Name, cfg.Subjects, want)
}

// covers reports whether a subject with wildcards has another one, which has none.
func covers(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range f {
		switch {
		case token == ">":
			return i < len(s)
		case i >= len(s) || token != "*" && token != s[i]:
			return false
		}
	}
	return len(f) == len(s)
}

// overlap reports whether some subject matches both.
func overlap(filter, other string) bool {
	f, o := strings.Split(filter, "."), strings.Split(other, ".")
	for i := range min(len(f), len(o)) {
		switch {
		case f[i] == ">" || o[i] == ">":
			return true
		case f[i] != "*" && o[i] != "*" && f[i] != o[i]:
			return false
		}
	}
	return len(f) == len(o)
}
