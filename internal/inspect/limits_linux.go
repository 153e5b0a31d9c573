// SPDX-License-Identifier: Apache-2.0

package inspect

// This file checks the limits of the system and of the listening processes.

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

const (
	goodBacklog    = 4096      // Of net.core.somaxconn; the kernel's own default since Linux 5.4.
	sendBuffer     = 208 << 10 // That a Writer asks for on a Unix socket.
	maxConnections = 1024      // Of WithMaxConnections, by default.
	spareFiles     = 64        // That a process needs besides its connections.
)

// examineLimits checks what the kernel allows.
func (s *subject) examineLimits() {
	backlog, known := number("/proc/sys/net/core/somaxconn")
	switch {
	case known && backlog < goodBacklog:
		s.add(Note, "limits", "If many writers connect at once: sysctl net.core.somaxconn=4096, then restart the reader.",
			"net.core.somaxconn is %d: as many connections wait to be accepted", backlog)
	case known:
		s.add(OK, "limits", "", "net.core.somaxconn is %d", backlog)
	}
	buffer, known := number("/proc/sys/net/core/wmem_max")
	switch {
	case s.Kind == KindTCP:
		s.examineTCP()
	case known && buffer < sendBuffer:
		s.add(Note, "limits", "For more messages per second: sysctl net.core.wmem_max=212992.",
			"net.core.wmem_max is %d bytes: a Writer asks for %d", buffer, sendBuffer)
	case known:
		s.add(OK, "limits", "", "net.core.wmem_max is %d bytes, enough for what a Writer asks for", buffer)
	}
	for _, p := range s.Listeners {
		s.examineFiles(p)
	}
	if own, ok := ownMaxFiles(); ok && own < spareFiles {
		s.add(Note, "limits", "ulimit -n, or LimitNOFILE= of the unit.", "this shell allows only %d open files", own)
	}
}

// examineTCP tells how much of a TCP connection the kernel holds (tcp(7)).
func (s *subject) examineTCP() {
	receive := strings.Fields(readProc("/proc/sys/net/ipv4/tcp_rmem"))
	send := strings.Fields(readProc("/proc/sys/net/ipv4/tcp_wmem"))
	if len(receive) == 3 && len(send) == 3 {
		s.add(OK, "limits", "", "the kernel holds up to %s bytes of a connection for the writer (tcp_wmem), "+
			"%s for the reader (tcp_rmem)", send[2], receive[2])
	}
}

// examineFiles checks how many files a listening process may open.
func (s *subject) examineFiles(p Process) {
	const remedy = "LimitNOFILE= of the unit, or ulimit -n; or fewer connections with WithMaxConnections."
	switch {
	case p.MaxFiles == 0 || p.PID == 1:
	case p.OpenFiles >= 0 && uint64(p.OpenFiles)*10 >= p.MaxFiles*9:
		s.add(Problem, "limits", remedy, "process %d has %d of %d files open (RLIMIT_NOFILE): accepting will fail",
			p.PID, p.OpenFiles, p.MaxFiles)
	case p.MaxFiles < maxConnections+spareFiles:
		s.add(Note, "limits", remedy, "process %d may open %d files (RLIMIT_NOFILE), fewer than the %d connections "+
			"of a Reader without WithMaxConnections", p.PID, p.MaxFiles, maxConnections)
	case p.OpenFiles < 0:
		s.add(OK, "limits", "", "process %d may open %d files", p.PID, p.MaxFiles)
	default:
		s.add(OK, "limits", "", "process %d has %d of %d files open", p.PID, p.OpenFiles, p.MaxFiles)
	}
}

// number returns the number in a file.
func number(path string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(readProc(path)), 10, 64)
	return n, err == nil
}

// ownMaxFiles returns how many files this process may open.
func ownMaxFiles() (n uint64, ok bool) {
	values := strings.Fields(field([]byte(readProc("/proc/self/limits")), "Max open files"))
	if len(values) == 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(values[0], 10, 64)
	return n, err == nil
}

// tcpInodes returns the inodes of sockets that listen at an address or at all addresses, in the text of /proc/net/tcp
// or tcp6.
func tcpInodes(text, address string) (inodes []uint64) {
	const listening = "0A"
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != listening {
			continue
		}
		at, ok := parseProcAddress(fields[1])
		if !ok || at.Port() != to.Port() || !at.Addr().IsUnspecified() && at.Addr().Unmap() != to.Addr().Unmap() {
			continue
		}
		if inode, err := strconv.ParseUint(fields[9], 10, 64); err == nil {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// parseProcAddress parses HEX:PORT. The address is in words of 32 bits, each in the order of this machine.
func parseProcAddress(text string) (at netip.AddrPort, ok bool) {
	ip, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(ip)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(words)%4 != 0 {
		return at, false
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	addr, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(addr, uint16(number)), ok
}
