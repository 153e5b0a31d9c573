// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

var versionCommand = command{
	name:    "version",
	summary: "show the version of the program, and what it was built with",
	help: `The version is that of the module, as go install has it. A build of a working
copy has the revision instead, and a package for Debian its own version.`,
	examples: []example{{"udsipc --version", "the same"}},
	setup: func(*flag.FlagSet) runner {
		return func(_ context.Context, e *env) int {
			return e.writeText(version() + "\n")
		}
	},
}

// packaged is the version of the package that has the program, which the linker sets (scripts/deb).
var packaged string

// version returns the version of the program in one line.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "udsipc (unknown version) " + runtime.Version()
	}
	if packaged != "" {
		return fmt.Sprintf("udsipc %s %s %s/%s", packaged, info.GoVersion, runtime.GOOS, runtime.GOARCH)
	}
	text := "udsipc " + info.Main.Version
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && info.Main.Version == "(devel)":
			text += " " + setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			text += " (modified)"
		}
	}
	return fmt.Sprintf("%s %s %s/%s", text, info.GoVersion, runtime.GOOS, runtime.GOARCH)
}
