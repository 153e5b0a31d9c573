// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/udsipc/udsipc"
)

// A store stands for a database: what one transaction changes is there whole, or not at all.
type store struct {
	mu      sync.Mutex
	rows    []string
	highest map[udsipc.WriterID]uint64
}

// insert adds a row in a transaction, unless a message with this number was added before.
func (s *store) insert(writer udsipc.WriterID, seq uint64, row string) error {
	s.mu.Lock() // BEGIN
	defer s.mu.Unlock()
	if seq <= s.highest[writer] { // SELECT highest FROM writers WHERE id = writer
		return nil // Handled before the reader was killed.
	}
	s.rows = append(s.rows, row) // INSERT INTO rows
	s.highest[writer] = seq      // UPDATE writers SET highest = seq WHERE id = writer
	return nil                   // COMMIT
}

// What a reader handled just before it was killed comes again. A handler that stores the number of the
// message together with its effect makes that exactly once.
func ExampleDelivery() {
	db := &store{highest: map[udsipc.WriterID]uint64{}}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "jobs.sock")

	reader, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		return db.insert(d.Writer, d.Seq, string(d.Data)) // An error means: offer it again.
	}, path, udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
		fmt.Printf("gave up on message %d: %v\n", d.Seq, err)
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := reader.Start(); err != nil {
		fmt.Println(err)
		return
	}
	writer, err := udsipc.NewWriter(path, udsipc.WithAcknowledgements())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := writer.Start(); err != nil {
		fmt.Println(err)
		return
	}
	for _, job := range []string{"resize a.png", "resize b.png"} {
		if err := writer.WriteMessage([]byte(job)); err != nil {
			fmt.Println(err)
		}
	}
	if err := writer.Flush(context.Background()); err != nil { // Waits until both are handled.
		fmt.Println(err)
	}
	fmt.Println(db.rows, writer.Metrics().Acknowledged)

	if err := writer.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	if err := reader.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: [resize a.png resize b.png] 2
}

// A reader over TCP that wants certificates of its own authority, and takes its own from files that may
// be renewed while it runs: the callback is asked at each connection.
func ExampleWithTLS() {
	authority, err := os.ReadFile("/etc/app/authority.pem")
	if err != nil {
		fmt.Println(err)
		return
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair("/etc/app/collector.pem", "/etc/app/collector.key")
			return &certificate, err
		},
	}
	reader, err := udsipc.NewReader(func(data []byte) error { return nil }, "tcp://0.0.0.0:7100", udsipc.WithTLS(config),
		udsipc.WithAuthorizer(func(p udsipc.Peer) error {
			if name := p.TLS.VerifiedChains[0][0].Subject.CommonName; name != "agent" {
				return fmt.Errorf("%q is not an agent", name)
			}
			return nil
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reader.Start())
}

// A socket that everybody may open, for members of one group and for this user.
func ExampleWithAuthorizer() {
	const adm = 4
	reader, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
		fmt.Printf("uid %d: %s\n", d.Peer.Credentials.UID, d.Data)
		return nil
	}, "/run/app/audit.sock", udsipc.WithSocketMode(0o666),
		udsipc.WithAuthorizer(udsipc.AnyOf(udsipc.SameUser(), udsipc.AllowGIDs(adm))))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reader.Start())
}
