// SPDX-License-Identifier: Apache-2.0

package duplex

// Parse is all that the tests see of what is private.
var Parse = parse
