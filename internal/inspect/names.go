// SPDX-License-Identifier: Apache-2.0

package inspect

// This file turns numbers and certificates into names.

import (
	"crypto/x509"
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// User returns a user as text: the number, and the name if there is one.
func User(uid int) string {
	if found, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("uid %d (%s)", uid, found.Username)
	}
	return fmt.Sprintf("uid %d", uid)
}

// group returns a group as text.
func group(gid int) string {
	if found, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return fmt.Sprintf("gid %d (%s)", gid, found.Name)
	}
	return fmt.Sprintf("gid %d", gid)
}

// names returns for whom a certificate is.
func names(c *x509.Certificate) string {
	list := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	if len(list) == 0 {
		list = append(list, c.Subject.CommonName)
	}
	return strconv.Quote(strings.Join(list, ", "))
}
