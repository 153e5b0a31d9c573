// SPDX-License-Identifier: Apache-2.0

package systemd

// This file reads which directories the process may use while it runs.

import (
	"os"
	"strings"
)

// RuntimeDirectories returns the directory of the user's session (XDG_RUNTIME_DIR, pam_systemd(8)) and the first
// one of the service (RuntimeDirectory=, systemd.exec(5)). Each is empty if it is not set.
func RuntimeDirectories() (session, service string) {
	service, _, _ = strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return os.Getenv("XDG_RUNTIME_DIR"), service
}
