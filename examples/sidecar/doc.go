// SPDX-License-Identifier: Apache-2.0

// Package sidecar has a pod for Kubernetes and a file for Docker Compose: a collector in one container, writers in
// others, and a Unix socket in a directory that they share. Its tests read both files with the types of Kubernetes and
// Compose, and run what is in them in namespaces as containers have them.
package sidecar
