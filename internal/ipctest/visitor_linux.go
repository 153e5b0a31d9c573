// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

func init() {
	Roles["visitor"] = func() error { // Prints whether it may connect.
		conn, err := net.Dial("unix", os.Getenv("SOCKET"))
		if errors.Is(err, syscall.EACCES) {
			fmt.Println("kept out")
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(Frames("let me in")); err != nil && !errors.Is(err, syscall.EPIPE) {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		switch n, err := conn.Read(make([]byte, 1)); {
		case IsTimeout(err):
			fmt.Println("let in")
		default:
			fmt.Printf("sent away, %d bytes read\n", n)
		}
		return nil
	}
}
