// SPDX-License-Identifier: Apache-2.0

package publish

import "net"

// Serve serves one client.
func Serve(p *Publication, conn net.Conn) {
	p.clients.Add(1)
	p.serve(conn)
}

// Run serves the clients of a listener until it is closed, or p is stopped.
func Run(p *Publication, listener net.Listener) {
	p.goOn()
	p.run(listener, "")
}
