// SPDX-License-Identifier: Apache-2.0

package inspect

// This file finds out which processes hold a listening socket, as far as /proc shows them (proc(5)).

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// processOf returns what /proc shows of a process.
func processOf(pid int) Process {
	p := Process{PID: pid, UID: -1, OpenFiles: -1}
	dir := fmt.Sprintf("/proc/%d", pid)
	name, _ := os.ReadFile(dir + "/comm") // Empty if the process has ended.
	p.Name = printable(strings.TrimSpace(string(name)))
	executable, _ := os.Readlink(dir + "/exe") // Not permitted for others' processes.
	p.Executable = printable(executable)
	if status, err := os.ReadFile(dir + "/status"); err == nil {
		if uids := strings.Fields(field(status, "Uid:")); len(uids) > 1 {
			p.UID, _ = strconv.Atoi(uids[1]) // The effective one.
		}
	}
	cgroup, _ := os.ReadFile(dir + "/cgroup")
	p.Unit = unitOf(string(cgroup))
	if limits, err := os.ReadFile(dir + "/limits"); err == nil {
		if values := strings.Fields(field(limits, "Max open files")); len(values) > 0 {
			p.MaxFiles, _ = strconv.ParseUint(values[0], 10, 64) // 0 for no limit.
		}
	}
	if files, err := os.ReadDir(dir + "/fd"); err == nil {
		p.OpenFiles = len(files)
	}
	return p
}

// field returns the rest of the line that begins with name.
func field(text []byte, name string) string {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(rest)
		}
	}
	return ""
}

// unitOf returns the unit of systemd in the text of /proc/PID/cgroup: the last part of a path that is one.
func unitOf(cgroup string) (unit string) {
	for line := range strings.Lines(cgroup) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
				unit = part
			}
		}
	}
	return printable(unit)
}

// printable returns a name that another user may have chosen, without control characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// examineListeners adds the processes that hold the listening socket.
func (s *subject) examineListeners() {
	inodes := s.inodes()
	s.Listening = s.Listening || len(inodes) > 0
	hidden := 0
	for pid, links := range openSockets(inodes, &hidden) {
		if !slices.ContainsFunc(s.Listeners, func(p Process) bool { return p.PID == pid }) && links > 0 {
			s.Listeners = append(s.Listeners, processOf(pid))
		}
	}
	slices.SortFunc(s.Listeners, func(a, b Process) int { return a.PID - b.PID })
	for i := range s.Listeners {
		s.describe(&s.Listeners[i])
	}
	s.examineBacklog(inodes)
	switch {
	case len(s.Listeners) == 0 && hidden > 0:
		s.add(Note, "listener", "Run this as root to see all processes.", "the process is not to be seen by this user")
	case len(s.Listeners) == 0:
		s.add(Note, "listener", "It may be in a container, or on another machine: look there.",
			"no process of this PID namespace holds the socket")
	}
	if s.Kind == KindFile && len(inodes) > 1 {
		s.add(Note, "listener", "Stop the older program: nobody can reach its socket any more.",
			"%d sockets were bound to this path and still listen; the file is that of the last one", len(inodes))
	}
}

// describe adds a finding about a process.
func (s *subject) describe(p *Process) {
	text := fmt.Sprintf("process %d", p.PID)
	switch {
	case p.PID == 1:
		s.add(OK, "listener", "", "systemd (process 1) holds the socket: it starts the service when a writer connects")
		return
	case p.Name == "":
		s.add(Note, "listener", "", "process %d called listen and has ended; another one has its socket", p.PID)
		return
	}
	text += fmt.Sprintf(" (%s) of %s", p.Name, User(p.UID))
	if p.Unit != "" {
		text += ", unit " + p.Unit + ","
	}
	if p.Listens {
		text += " listens"
	} else {
		text += " has the socket open"
	}
	s.add(OK, "listener", "", "%s", text)
}

// inodes returns the inodes of the sockets that listen at the address.
func (s *subject) inodes() []uint64 {
	if s.Kind != KindTCP {
		return unixInodes(readProc("/proc/net/unix"), s.name)
	}
	return append(tcpInodes(readProc("/proc/net/tcp"), s.remote), tcpInodes(readProc("/proc/net/tcp6"), s.remote)...)
}

// readProc returns a file of /proc, or nothing.
func readProc(path string) string {
	text, _ := os.ReadFile(path) // Without it nothing is found.
	return string(text)
}

// unixInodes returns the inodes of listening stream sockets with a name, in the text of /proc/net/unix.
func unixInodes(text, name string) (inodes []uint64) {
	const acceptsConnections, stream = "00010000", "0001"
	absolute, _ := filepath.Abs(name)
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		fields, bound := splitUnix(scanner.Text())
		if fields[3] != acceptsConnections || fields[4] != stream || bound != name && bound != absolute {
			continue
		}
		if inode, err := strconv.ParseUint(fields[6], 10, 64); err == nil {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// splitUnix returns the fields of a line of /proc/net/unix, and the name after them, which may have spaces of its own.
func splitUnix(line string) (fields [7]string, name string) {
	for i := range fields {
		fields[i], line, _ = strings.Cut(strings.TrimLeft(line, " "), " ")
	}
	return fields, line
}

// openSockets returns for each process how many of these sockets it has open. hidden counts processes that this user
// may not look into.
func openSockets(inodes []uint64, hidden *int) map[int]int {
	found := map[int]int{}
	if len(inodes) == 0 {
		return found
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		pid, err := strconv.Atoi(filepath.Base(dir))
		files, listErr := os.ReadDir(dir + "/fd")
		if err != nil || listErr != nil {
			if os.IsPermission(listErr) {
				*hidden++
			}
			continue
		}
		for _, file := range files {
			link, _ := os.Readlink(dir + "/fd/" + file.Name())
			text, ok := strings.CutPrefix(link, "socket:[")
			inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
			if ok && err == nil && slices.Contains(inodes, inode) {
				found[pid]++
			}
		}
	}
	return found
}
