// SPDX-License-Identifier: Apache-2.0

package publish

// This file is the reading side: it finds the sockets and reads snapshots from them.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/socket"
)

// An Endpoint is a socket on which metrics are published. Its name tells the process.
type Endpoint struct {
	Path string
	PID  int
	UID  int    // Of the owner of the directory.
	Name string // The name that the program has given.
}

// Find returns the sockets in a directory. Names that are not of the protocol are left out.
func Find(folder string) ([]Endpoint, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	at, err := socket.OpenFolder(folder)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	names, err := at.Names(suffix)
	var list []Endpoint
	for _, name := range names {
		if pid, given, ok := parseName(name); ok {
			list = append(list, Endpoint{Path: filepath.Join(folder, name), PID: pid, UID: at.Owner(), Name: given})
		}
	}
	return list, err
}

// parseName parses PID-NUMBER-NAME.sock.
func parseName(file string) (pid int, name string, ok bool) {
	first, rest, _ := strings.Cut(strings.TrimSuffix(file, suffix), "-")
	second, name, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(first)
	_, numberErr := strconv.ParseUint(second, 10, 64)
	return pid, name, err == nil && numberErr == nil && pid > 0 && CheckName(name) == nil
}

// isGone reports whether there is no such process. In another PID namespace there may be one.
func (e Endpoint) isGone() bool {
	process, err := os.FindProcess(e.PID)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }() // It always succeeds.
	return errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// removeStale removes the socket if nobody listens on it, and the directory belongs to the user of this process.
func (e Endpoint) removeStale() {
	folder, name := filepath.Split(e.Path)
	at, err := socket.OpenFolder(filepath.Clean(folder))
	if err != nil {
		return
	}
	defer at.Close()
	_ = at.RemoveStale(name) // Whoever looks tries again.
}

// ErrStale is the error for a socket on which nobody listens. Such a socket of this user was removed.
var ErrStale = errors.New("udsipc: the process that published metrics has ended")

// Dial connects to an endpoint. The process that listens must be of the owner of the directory, or of root.
func (e Endpoint) Dial(ctx context.Context) (*Client, error) {
	folder, name := filepath.Split(e.Path)
	at, err := socket.OpenFolder(filepath.Clean(folder))
	if err != nil {
		return nil, err
	}
	defer at.Close()
	conn, err := at.Dial(ctx, name)
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = at.RemoveStale(name) // If it is another user's, that one removes it.
		return nil, fmt.Errorf("%w: %s", ErrStale, e.Path)
	}
	if err != nil {
		return nil, err
	}
	peer, err := peerOf(conn)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
	case err != nil:
		return nil, errdefs.First(err, conn.Close())
	case peer.UID != at.Owner() && peer.UID != 0:
		err := fmt.Errorf("%w: uid %d listens at %s, which belongs to uid %d",
			errdefs.ErrUnauthorized, peer.UID, e.Path, at.Owner())
		return nil, errdefs.First(err, conn.Close())
	}
	return &Client{conn: conn, lines: bufio.NewReaderSize(conn, MaxLine)}, nil
}

// A Client reads snapshots from one socket. One goroutine at a time may use it.
type Client struct {
	conn  net.Conn
	lines *bufio.Reader
	asked bool // The first snapshot has come.
}

// Next returns the next snapshot, within a time. After an error the client is of no use.
func (c *Client) Next(within time.Duration) (*Snapshot, error) {
	if err := c.conn.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	if c.asked {
		if _, err := c.conn.Write([]byte("\n")); err != nil {
			return nil, err
		}
	}
	line, err := c.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrMalformed, MaxLine)
	}
	if err != nil {
		return nil, err
	}
	c.asked = true
	return Parse(line)
}

// Close ends the connection.
func (c *Client) Close() { _ = c.conn.Close() }
