// SPDX-License-Identifier: Apache-2.0

package journal_test

// File systems of their own, in a namespace of mounts that ends with its process: images that are copied while a
// process writes, as a loss of power would leave them.

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
)

const fsVariable = "UDSIPC_TEST_FS" // Directory, interval of the syncs, file system, count of lives.

// errMissing is the error of a process that cannot do its test here.
var errMissing = errors.New("missing here")

// images has the file systems: the size of an image in MiB, and the command that makes one.
var images = map[string]struct {
	size    int64
	command []string
}{
	"ext4":  {16, []string{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"}},
	"xfs":   {300, []string{"mkfs.xfs", "-q"}},
	"btrfs": {128, []string{"mkfs.btrfs", "-q"}},
}

func init() {
	ipctest.Roles["image"] = func() error {
		var dir, kind string
		var sync int64
		var lives uint64
		if _, err := fmt.Sscan(os.Getenv(fsVariable), &dir, &sync, &kind, &lives); err != nil {
			return err
		}
		return copyImages(dir, kind, time.Duration(sync), lives)
	}
}

// inNamespace runs a role in a namespace of mounts of its own, with a tmpfs of a size at a directory.
func inNamespace(t *testing.T, role, size, arguments string) {
	t.Helper()
	dir := t.TempDir()
	cmd := ipctest.Process(t, role, fsVariable+"="+strings.TrimSpace(dir+" "+arguments))
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(cmd.Env, "UDSIPC_TEST_TMPFS="+size)
	output, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM) || strings.Contains(string(output), errMissing.Error()):
		t.Skipf("%v: %s", err, output)
	case err != nil:
		t.Fatalf("%v: %s", err, output)
	}
	t.Logf("%s", output)
}

// mountTmpfs mounts one at a directory, in the namespace of this process.
func mountTmpfs(dir string) error {
	err := syscall.Mount("udsipc", dir, "tmpfs", 0, "size="+os.Getenv("UDSIPC_TEST_TMPFS"))
	if err != nil {
		return fmt.Errorf("a tmpfs is %w: %w", errMissing, err)
	}
	return nil
}

// TestFileSystem_Image_IsRecovered: with a sync before each return nothing is lost; else nothing comes twice or out
// of order. A life of the machine ends with the image that the next one begins with.
func TestFileSystem_Image_IsRecovered(t *testing.T) {
	for kind := range images {
		for _, sync := range []time.Duration{0, time.Millisecond} {
			if sync != 0 && kind != "ext4" && ipctest.InSoak(1, 0) == 1 {
				continue // For the sake of time.
			}
			t.Run(kind+" "+sync.String(), func(t *testing.T) {
				t.Parallel()
				inNamespace(t, "image", "2g", fmt.Sprintf("%d %s %d", sync, kind, ipctest.InSoak(5, 200)))
			})
		}
	}
}

// copyImages lets processes write to a file system in an image. Each is stopped, and the next one begins with a copy of
// the image, which has what had reached the device.
func copyImages(dir, kind string, sync time.Duration, lives uint64) error {
	if err := mountTmpfs(dir); err != nil {
		return err
	}
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	if err := errors.Join(os.Mkdir(mount, 0o700), makeImage(kind, image)); err != nil {
		return err
	}
	l := life{filepath.Join(mount, "spool"), filepath.Join(dir, "store"), sync, 0, 0, sync != 0}
	accepted := map[uint64]bool{}
	random := rand.New(rand.NewPCG(uint64(len(kind)), uint64(sync)))
	for ; l.number < lives; l.number++ {
		l.boot++
		if err := mountImage(image, mount); err != nil {
			return err
		}
		err := l.stop(random.IntN(l.most()), accepted, func() error { return copyWhole(image, image+".next") })
		if err != nil {
			return fmt.Errorf("life %d: %w", l.number, err)
		}
		if err := errors.Join(syscall.Unmount(mount, 0), os.Rename(image+".next", image)); err != nil {
			return err
		}
	}
	if err := mountImage(image, mount); err != nil {
		return err
	}
	l.boot++
	s, err := l.drain()
	if err != nil {
		return err
	}
	fmt.Printf("%d accepted, %d stored\n", len(accepted), len(s.Serials))
	if sync != 0 {
		accepted = nil // What was not synced may be missing.
	}
	return errors.Join(s.Check(accepted), syscall.Unmount(mount, 0))
}

// makeImage makes an image with a file system.
func makeImage(kind, image string) error {
	file, err := os.Create(image)
	if err == nil {
		err = errors.Join(file.Truncate(images[kind].size<<20), file.Close())
	}
	if err != nil {
		return err
	}
	command := images[kind].command
	output, err := exec.Command(command[0], append(command[1:], image)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s is %w: %w: %s", command[0], errMissing, err, output)
	}
	return nil
}

func mountImage(image, mount string) error {
	output, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput()
	if err != nil {
		return fmt.Errorf("a loop device or the file system is %w: %w: %s", errMissing, err, output)
	}
	return nil
}

// stop begins a life, stops it after so many accepted messages, and kills it after a call.
func (l life) stop(after int, accepted map[uint64]bool, call func() error) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), ipctest.RoleVariable+"=log", lifeVariable+"="+l.String())
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	var called error
	ipctest.CollectSerials(output, accepted, after, func() {
		called = cmd.Process.Signal(syscall.SIGSTOP)
		var status syscall.WaitStatus
		_, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		called = errors.Join(called, err)
		if called == nil && status.Stopped() {
			called = call()
		}
		called = errors.Join(called, cmd.Process.Kill())
	})
	if err := cmd.Wait(); err != nil && said.Len() > 0 {
		return fmt.Errorf("%w: %s", err, &said)
	}
	return called
}

// copyWhole copies a file with its holes, until nothing was written to it meanwhile.
func copyWhole(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	for range 100 {
		target, err := os.Create(to)
		if err != nil {
			return err
		}
		first, err := copyData(target, source)
		again, err2 := copyData(nil, source)
		if err := errors.Join(err, err2, target.Close()); err != nil || first == again {
			return err
		}
	}
	return errors.New("the image does not come to rest")
}

// copyData copies what is not a hole, and returns a sum of it.
func copyData(to *os.File, from *os.File) (sum uint64, err error) {
	const seekData, seekHole = 3, 4
	table := crc64.MakeTable(crc64.ECMA)
	size, err := from.Seek(0, io.SeekEnd)
	if err == nil && to != nil {
		err = to.Truncate(size)
	}
	b := make([]byte, 1<<20)
	for end := int64(0); err == nil; {
		var at int64
		if at, err = from.Seek(end, seekData); err != nil {
			if errors.Is(err, syscall.ENXIO) {
				return sum, nil // Nothing but a hole is left.
			}
			break
		}
		if end, err = from.Seek(at, seekHole); err != nil {
			break
		}
		for at < end && err == nil {
			piece := b[:min(int64(len(b)), end-at)]
			if _, err = from.ReadAt(piece, at); err == nil && to != nil {
				_, err = to.WriteAt(piece, at)
			}
			sum = crc64.Update(sum, table, fmt.Append(piece, at))
			at += int64(len(piece))
		}
	}
	return sum, err
}
