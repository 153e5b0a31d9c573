// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin && !freebsd

package terminal

import "errors"

type state struct{}

func size(uintptr) (columns, rows int, err error) { return 0, 0, errors.ErrUnsupported }

func setKeys(uintptr) (before state, err error) { return state{}, errors.ErrUnsupported }

func set(uintptr, state) error { return errors.ErrUnsupported }
