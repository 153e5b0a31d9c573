// SPDX-License-Identifier: Apache-2.0

package udsipc

import (
	"slices"
	"testing"

	"github.com/udsipc/udsipc/internal/transport"
)

// TestReadMemory_Users_AreServedInTurn: users are served in turn, and of one user who came first.
func TestReadMemory_Users_AreServedInTurn(t *testing.T) {
	for name, test := range map[string]struct {
		users []string
		steps int
		want  []int
	}{
		"one user":                      {[]string{"a", "a", "a"}, 1, []int{0, 1, 2}},
		"one of many":                   {[]string{"a", "a", "a", "a", "b"}, 1, []int{0, 4, 1, 2, 3}},
		"three users":                   {[]string{"a", "a", "b", "a", "c", "b"}, 1, []int{0, 2, 4, 1, 5, 3}},
		"nobody is known":               {[]string{"", "", ""}, 1, []int{0, 1, 2}},
		"a message keeps its place":     {[]string{"a", "a"}, 3, []int{0, 0, 0, 1, 1, 1}},
		"also among those of two users": {[]string{"a", "a", "b"}, 2, []int{0, 2, 0, 2, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := memoryTurns(test.users, test.steps); !slices.Equal(got, test.want) {
				t.Errorf("served in the order %v, want %v", got, test.want)
			}
		})
	}
}

// memoryTurns has one connection of each of these users wait for memory, one after the other, while all of it is taken.
// Then one at a time gets some. A message needs so many steps, one after the other. It returns in which order they
// were served.
func memoryTurns(users []string, steps int) (order []int) {
	const size = 1 << 20
	b := readMemory{limit: size}
	var first, second transport.Reservation
	b.TryReserve(&first, size)
	b.Reserve(&second, size) // Beyond the limit.
	loans, turns, left := make([]transport.Reservation, len(users)),
		make([]<-chan struct{}, len(users)), make([]int, len(users))
	for i, user := range users {
		loans[i].User, left[i] = user, steps
		turns[i] = b.Reserve(&loans[i], size)
	}
	b.Release(&first, size)
	for len(order) < steps*len(users) {
		for i, turn := range turns {
			select {
			case <-turn:
			default:
				continue
			}
			order = append(order, i)
			turns[i] = nil
			if left[i]--; left[i] > 0 {
				turns[i] = b.Reserve(&loans[i], 2*size) // It waits with what it has, and is the only one who has any.
				b.Release(&loans[i], size)
			} else {
				b.Release(&loans[i], loans[i].Bytes)
			}
			break
		}
	}
	return order
}
