// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package main

import "os"

func lockFile(*os.File) error { return nil }

func syncDir(string) error { return nil }
