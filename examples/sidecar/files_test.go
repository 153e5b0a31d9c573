// SPDX-License-Identifier: Apache-2.0

package sidecar_test

// This file tests pod.yaml and compose.yaml.

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func pod(t *testing.T) (p core.Pod) {
	t.Helper()
	text, err := os.ReadFile("pod.yaml")
	if err == nil {
		err = yaml.UnmarshalStrict(text, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// of returns how a container of the pod runs.
func of(t *testing.T, p core.Pod, c core.Container) container {
	t.Helper()
	user := c.SecurityContext
	if user.RunAsGroup == nil || *user.RunAsUser == 0 || *user.AllowPrivilegeEscalation ||
		!slices.Equal(user.Capabilities.Drop, []core.Capability{"ALL"}) {
		t.Errorf("the container %s has too many privileges", c.Name)
	}
	result := container{uid: uint32(*user.RunAsUser), gid: uint32(*user.RunAsGroup)}
	for _, group := range p.Spec.SecurityContext.SupplementalGroups {
		result.groups = append(result.groups, uint32(group))
	}
	return result
}

// prepare runs the command of the init container, with its capabilities.
func (m machine) prepare(t *testing.T, c core.Container) {
	t.Helper()
	const script = `mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir /run/app && mount --bind "$1" /run/app &&
		exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+chown "$2" "$3" "$4"`
	added := c.SecurityContext.Capabilities.Add
	if !slices.Equal(added, []core.Capability{"CHOWN"}) || len(c.Command) != 3 {
		t.Fatalf("the init container has %v and %q", added, c.Command)
	}
	dir := filepath.Join(m.root, filepath.Dir(address))
	args := append([]string{"--mount", "sh", "-c", script, "sh", dir}, c.Command...)
	if output, err := exec.Command("unshare", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

// TestPod_TwoUsers_ShareDirectory runs the containers of the pod: what one user sends, the other appends to its file.
func TestPod_TwoUsers_ShareDirectory(t *testing.T) {
	m, p := newMachine(t), pod(t)
	directory, collector, app := p.Spec.InitContainers[0], p.Spec.InitContainers[1], p.Spec.Containers[0]
	if *collector.RestartPolicy != core.ContainerRestartPolicyAlways {
		t.Error("the collector is no sidecar")
	}
	output, err := m.run(t, of(t, p, collector), "", collector.Args...)
	if err == nil || !strings.Contains(output, "may replace") {
		t.Errorf("a reader takes a directory that others may write to: %v: %s", err, output)
	}
	m.prepare(t, directory)
	end := m.listen(t, of(t, p, collector), collector.Args...)
	probe := collector.StartupProbe.Exec.Command
	if output, err := m.run(t, of(t, p, collector), "", probe[1:]...); err != nil || probe[0] != program {
		t.Errorf("%q: %v: %s", probe, err, output)
	}
	writer := of(t, p, app)
	if output, err := m.run(t, writer, "one\ntwo\n", app.Args...); err != nil {
		t.Errorf("%v: %s", err, output)
	}
	writer.groups = nil
	if m.doctor(t, writer, address) == nil {
		t.Error("a user outside the group can connect")
	}
	end()
	text, err := os.Open(filepath.Join(m.root, file))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	got := lines(t, text)
	if len(got) != 2 || got[1].Data != "two" || got[1].Peer != (peer{UID: 10002, GID: 10002}) {
		t.Errorf("the file has %+v", got)
	}
}

// TestCompose_Volume_HasPermissions: the file is one of Compose, and its volume belongs to the collector.
func TestCompose_Volume_HasPermissions(t *testing.T) {
	text, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  t.TempDir(),
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text}},
	}, func(o *loader.Options) { o.SetProjectName("app", true) })
	if err != nil {
		t.Fatal(err)
	}
	p := pod(t)
	for name, want := range map[string]core.Container{"collector": p.Spec.InitContainers[1], "app": p.Spec.Containers[0]} {
		service := project.Services[name]
		if !slices.Equal(service.CapDrop, []string{"ALL"}) || !service.ReadOnly || len(service.GroupAdd) != 1 {
			t.Errorf("%s has too many privileges", name)
		}
		for _, arg := range service.Command {
			if !slices.Contains(want.Args, arg) {
				t.Errorf("%s: the pod has no argument %q", name, arg)
			}
		}
	}
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	output, err := exec.Command("unshare", "--mount", "sh", "-c",
		`mount --make-rprivate / && mount -t tmpfs -o "$1" tmpfs "$2" && stat --format='%a %u:%g' "$2"`, "sh",
		project.Volumes["run"].DriverOpts["o"], t.TempDir()).CombinedOutput()
	if err != nil || strings.TrimSpace(string(output)) != "2750 10001:20000" {
		t.Errorf("the volume is %s, %v", output, err)
	}
}
