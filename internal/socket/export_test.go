// SPDX-License-Identifier: Apache-2.0

package socket

// Parts returns the parts of an address, and how it is written.
func Parts(text string) (network, name, written string, file bool, err error) {
	a, err := Parse(text)
	return a.network, a.name, a.String(), a.IsFile(), err
}
