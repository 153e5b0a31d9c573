// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

const activateCommand = "/usr/bin/systemd-socket-activate"

func init() {
	ipctest.Roles["service"] = serveActivated
	ipctest.Roles["successor"] = succeed
}

// serveActivated is a service: a Reader for each of the comma separated NAMES, whose own path is OWN
// and the name. Each prints what it gets, and stops at the message "stop". The whole is done TURNS
// times.
func serveActivated() error {
	for range len(os.Getenv("TURNS")) {
		if err := serveTurn(); err != nil {
			return err
		}
	}
	return nil
}

func serveTurn() error {
	var readers []*udsipc.Reader
	var busy sync.WaitGroup
	begun := make(chan struct{}) // Messages may be there before all has been said.
	for name := range strings.SplitSeq(os.Getenv("NAMES"), ",") {
		opts := []udsipc.ReaderOption{udsipc.WithSystemdName(name)}
		if os.Getenv("WITHOUT") != "" {
			opts = append(opts, udsipc.WithoutSystemd())
		}
		busy.Add(1)
		r, err := udsipc.NewReader(func(data []byte) error {
			<-begun
			fmt.Printf("%s got %s\n", name, data)
			if string(data) == "stop" {
				busy.Done()
			}
			return nil
		}, os.Getenv("OWN")+name, opts...)
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		fmt.Printf("%s listens at %v\n", name, r.Addr())
		readers = append(readers, r)
	}
	out, err := exec.Command("/usr/bin/env").Output()
	if err != nil {
		return err
	}
	fmt.Printf("LISTEN_ in a child: %d\n", bytes.Count(out, []byte("LISTEN_")))
	close(begun)
	busy.Wait()
	for _, r := range readers {
		if err := r.Stop(context.Background()); err != nil {
			return err
		}
	}
	fmt.Println("stopped")
	return nil
}

// activate returns systemd's own command, which starts the service when somebody connects.
func activate(tb testing.TB, arguments []string, environment ...string) *exec.Cmd {
	tb.Helper()
	if _, err := os.Stat(activateCommand); err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatalf("%s must be tested with: %v", activateCommand, err)
		}
		tb.Skip(err)
	}
	cmd := ipctest.Process(tb, "service")
	for _, variable := range append(environment, ipctest.RoleVariable+"=service", "GORACE=atexit_sleep_ms=0") {
		arguments = append(arguments, "--setenv="+variable) // It passes on nothing of its own but these.
	}
	cmd.Args = append(append([]string{activateCommand}, arguments...), cmd.Path)
	cmd.Path = activateCommand
	return cmd
}

func TestActivation_PassedSocket_IsUsed(t *testing.T) {
	t.Parallel()
	t.Run("one socket without name", func(t *testing.T) {
		path, own := ipctest.SocketPath(t), ipctest.SocketPath(t)
		s := ipctest.StartService(t, activate(t, []string{"-l", path}, "NAMES=", "OWN="+own, "TURNS=1"))
		ipctest.Send(t, path, "hello", "stop")
		s.Says(" listens at " + path)
		s.Says("LISTEN_ in a child: 0")
		s.Says(" got hello")
		s.Says(" got stop")
		s.Says("stopped")
		s.Ends()
		if ipctest.Lstat(t, path) == nil {
			t.Error("the service removed systemd's socket")
		}
		ipctest.CheckEmpty(t, filepath.Dir(own))
	})
	t.Run("one socket by name", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		s := ipctest.StartService(t, activate(t, []string{"-l", path, "--fdname=mine"},
			"NAMES=mine", "OWN="+ipctest.SocketPath(t), "TURNS=1"))
		ipctest.Send(t, path, "stop")
		s.Says("mine listens at " + path)
		s.Says("LISTEN_ in a child: 0")
		s.Says("mine got stop")
		s.Says("stopped")
		s.Ends()
	})
	t.Run("TCP", func(t *testing.T) {
		address := ipctest.TcpAddress(t)
		name := strings.TrimPrefix(address, "tcp://")
		s := ipctest.StartService(t, activate(t, []string{"-l", name}, "NAMES=", "OWN="+ipctest.SocketPath(t), "TURNS=1"))
		ipctest.Send(t, address, "stop")
		s.Says(" listens at " + name)
		s.Says("LISTEN_ in a child: 0")
		s.Says(" got stop")
		s.Says("stopped")
		s.Ends()
	})
	t.Run("no such name", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		s := ipctest.StartService(t, activate(t, []string{"-l", path, "--fdname=mine"},
			"NAMES=yours", "OWN="+ipctest.SocketPath(t), "TURNS=1"))
		dialUntilThere(t, path)
		if got := s.Fails(); !strings.Contains(got, `"mine"`) || !strings.Contains(got, `"yours"`) {
			t.Errorf("%q does not say both names", got)
		}
	})
	t.Run("two sockets without choice", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		s := ipctest.StartService(t, activate(t,
			[]string{"-l", path, "-l", path + "2", "--fdname=one:two"}, "NAMES=",
			"OWN="+ipctest.SocketPath(t), "TURNS=1"))
		dialUntilThere(t, path)
		if got := s.Fails(); !strings.Contains(got, `"one"`) || !strings.Contains(got, `"two"`) ||
			!strings.Contains(got, "WithSystemdName") {
			t.Errorf("%q does not list the names and the option", got)
		}
	})
	t.Run("two Readers by name", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		s := ipctest.StartService(t, activate(t,
			[]string{"-l", path, "-l", path + "2", "--fdname=one:two"}, "NAMES=two,one",
			"OWN="+ipctest.SocketPath(t), "TURNS=1"))
		ipctest.Send(t, path, "a")
		s.Says("two listens at " + path + "2")
		s.Says("one listens at " + path)
		s.Says("LISTEN_ in a child: 0")
		s.Says("one got a")
		ipctest.Send(t, path+"2", "b", "stop")
		s.Says("two got b")
		s.Says("two got stop")
		ipctest.Send(t, path, "stop")
		s.Says("one got stop")
		s.Says("stopped")
		s.Ends()
	})
	t.Run("again in the same process", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		s := ipctest.StartService(t, activate(t, []string{"-l", path}, "NAMES=", "OWN="+ipctest.SocketPath(t), "TURNS=123"))
		for range 3 {
			ipctest.Send(t, path, "stop")
			s.Says(" listens at " + path)
			s.Says("LISTEN_ in a child: 0")
			s.Says(" got stop")
			s.Says("stopped")
		}
		s.Ends()
	})
}

// dialUntilThere connects once somebody listens at path.
func dialUntilThere(tb testing.TB, path string) {
	tb.Helper()
	ipctest.Until(tb, "somebody listens", func() bool {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return false
		}
		tb.Cleanup(func() { conn.Close() })
		return true
	})
}

func TestActivation_OtherProcess_IsIgnored(t *testing.T) {
	path := ipctest.SocketPath(t)
	s := ipctest.StartService(t, ipctest.Process(t, "service", "NAMES=", "OWN="+path, "TURNS=1",
		"LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=x"))
	ipctest.Send(t, path, "stop")
	s.Says(" listens at " + path)
	s.Says("LISTEN_ in a child: 3") // They are not this process's to clear.
	s.Says(" got stop")
	s.Says("stopped")
	s.Ends()
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

// passing returns a process in a role that gets file as its descriptor 3, as systemd passes one.
func passing(tb testing.TB, role string, file *os.File, environment ...string) *exec.Cmd {
	tb.Helper()
	cmd := ipctest.Process(tb, role, environment...)
	cmd.Args = []string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	return cmd
}

func TestActivation_WrongDescriptorKind_IsError(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		name string
		says []string
		make func(tb testing.TB) *os.File
	}{
		{"datagram socket", []string{"descriptor 3", "datagram socket", "ListenStream="}, func(tb testing.TB) *os.File {
			conn, err := net.ListenPacket("unixgram", ipctest.SocketPath(tb))
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { conn.Close() })
			return ipctest.FileOf(tb, conn.(*net.UnixConn))
		}},
		{"packet socket", []string{"descriptor 3", "sequenced packets"}, func(tb testing.TB) *os.File {
			l, err := net.Listen("unixpacket", ipctest.SocketPath(tb))
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { l.Close() })
			return ipctest.FileOf(tb, l.(*net.UnixListener))
		}},
		{"regular file", []string{"descriptor 3", "regular file"}, func(tb testing.TB) *os.File {
			file, err := os.Create(filepath.Join(tb.TempDir(), "file"))
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { file.Close() })
			return file
		}},
		{"stream that does neither", []string{"descriptor 3", "neither listens nor is connected"},
			func(tb testing.TB) *os.File {
				fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
				if err != nil {
					tb.Fatal(err)
				}
				file := os.NewFile(uintptr(fd), "socket")
				tb.Cleanup(func() { file.Close() })
				return file
			}},
		{"pipe", []string{"descriptor 3", "a pipe"}, func(tb testing.TB) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { r.Close(); w.Close() })
			return r
		}},
		// The Go runtime may have opened something in its place by then.
		{"closed", []string{"descriptor 3", " is "}, func(testing.TB) *os.File { return nil }},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			s := ipctest.StartService(t, passing(t, "service", kind.make(t), "NAMES=", "OWN="+path, "TURNS=1"))
			got := s.Fails()
			for _, part := range kind.says {
				if !strings.Contains(got, part) {
					t.Errorf("%q does not say %q", got, part)
				}
			}
			ipctest.CheckEmpty(t, filepath.Dir(path))
		})
		t.Run(kind.name+" is ignored WithoutSystemd", func(t *testing.T) {
			path := ipctest.SocketPath(t)
			s := ipctest.StartService(t, passing(t, "service", kind.make(t), "NAMES=", "OWN="+path,
				"TURNS=1", "WITHOUT=systemd"))
			ipctest.Send(t, path, "stop")
			s.Says(" listens at " + path)
			s.Says("LISTEN_ in a child: 2")
			s.Says(" got stop")
			s.Says("stopped")
			s.Ends()
		})
	}
}

// succeed is one of several processes that serve the same socket one after another: it expects the
// numbers from FIRST on, and stops after some, or at "end". It prints the number it expects next.
func succeed() error {
	var next uint64
	if _, err := fmt.Sscan(os.Getenv("FIRST"), &next); err != nil {
		return err
	}
	enough := next + 5000
	last := os.Getenv("LAST") != ""
	wrong := make(chan error, 1)
	ready, done := sync.OnceFunc(func() { fmt.Println("ready") }), make(chan struct{})
	finish := sync.OnceFunc(func() { close(done) })
	r, err := udsipc.NewReader(func(data []byte) error {
		ready()
		if string(data) == "end" {
			finish()
			return nil
		}
		if got := binary.BigEndian.Uint64(data); got != next {
			select {
			case wrong <- fmt.Errorf("got message %d, want %d", got, next):
			default:
			}
		}
		if next++; next == enough && !last {
			finish()
		}
		return nil
	}, os.Getenv("OWN"))
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	<-done
	if err := r.Stop(context.Background()); err != nil {
		return err
	}
	fmt.Println(next)
	select {
	case err := <-wrong:
		return err
	default:
		return nil
	}
}

// TestActivation_Restarts_KeepSocket has several processes serve one socket in turn, as systemd
// restarts a service, while a Writer runs at full speed.
func TestActivation_Restarts_KeepSocket(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	const processes = 4
	path, own := ipctest.SocketPath(t), ipctest.SocketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := ipctest.FileOf(t, l)
	w := ipctest.StartWriter(t, path, udsipc.WithOverflow(udsipc.OverflowBlock))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	written := make(chan uint64, 1)
	go func() { // Ends with ctx.
		var n uint64
		for ; w.WriteMessageContext(ctx, ipctest.Number(n, int(n%2000))) == nil; n++ {
		}
		written <- n
	}()
	var next, total uint64
	for i := range processes {
		environment := []string{"FIRST=" + fmt.Sprint(next), "OWN=" + own}
		last := i == processes-1
		if last {
			environment = append(environment, "LAST=yes")
		}
		s := ipctest.StartService(t, passing(t, "successor", file, environment...))
		s.Says("ready")
		if last {
			cancel()
			total = ipctest.Await(t, "the end of writing", written)
			ipctest.MustWriteMessage(t, w, "end")
		}
		if _, err := fmt.Sscan(ipctest.Await(t, "the next number", s.Lines), &next); err != nil {
			t.Fatal(err)
		}
		s.Ends()
	}
	ipctest.Stop(t, w)
	if m := w.Metrics(); next != total || m.Sent != total+1 || m.PossiblyLost != 0 {
		t.Errorf("%d messages handled of %d written: %+v", next, total, m)
	}
	if ipctest.Lstat(t, path) == nil {
		t.Error("the socket is gone")
	}
	ipctest.CheckEmpty(t, filepath.Dir(own))
}

func TestActivation_NameWithoutSystemd_UsesAddress(t *testing.T) {
	path := ipctest.SocketPath(t)
	r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithSystemdName("nobody passed this"))
	if got := r.Addr().String(); got != path {
		t.Errorf("listens at %q, want %q", got, path)
	}
}

func init() {
	ipctest.Roles["passed"] = func() error { // Starts a Reader on what was passed, and says how that went.
		var opts []udsipc.ReaderOption
		if os.Getenv("PLAINTEXT") != "" {
			opts = append(opts, udsipc.WithPlaintext())
		}
		r, err := udsipc.NewReader(ipctest.Ignore, os.Getenv("ADDRESS"), opts...)
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return r.Stop(ctx)
	}
}

// TestActivation_PlaintextBeyondLoopback_IsError: a socket of systemd's is no way around WithTLS.
func TestActivation_PlaintextBeyondLoopback_IsError(t *testing.T) {
	for name, test := range map[string]struct {
		listen, plaintext string
		accepted, refused bool // accepted: as with Accept=yes.
	}{
		"everywhere":                 {listen: "0.0.0.0:0", refused: true},
		"everywhere, and wanted":     {listen: "0.0.0.0:0", plaintext: "1"},
		"loopback":                   {listen: "127.0.0.1:0"},
		"a connection":               {listen: outerAddress(), accepted: true, refused: true},
		"a connection, and wanted":   {listen: outerAddress(), accepted: true, plaintext: "1"},
		"a connection over loopback": {listen: "127.0.0.1:0", accepted: true},
	} {
		t.Run(name, func(t *testing.T) {
			if test.listen == "" {
				t.Skip("this machine has no address but loopback")
			}
			l, err := net.Listen("tcp", test.listen)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			file := ipctest.FileOf(t, l.(*net.TCPListener))
			if test.accepted {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				if conn, err = l.Accept(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				file = ipctest.FileOf(t, conn.(*net.TCPConn))
			}
			output, err := passing(t, "passed", file, "ADDRESS="+ipctest.SocketPath(t),
				"PLAINTEXT="+test.plaintext).CombinedOutput()
			refused := strings.Contains(string(output), "plaintext over a network")
			if refused != test.refused || refused == (err == nil) {
				t.Errorf("%v: %s", err, output)
			}
		})
	}
}

// outerAddress is one of this machine that is not loopback, with any port; empty if there is none.
func outerAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			return net.JoinHostPort(ip.IP.String(), "0")
		}
	}
	return ""
}
