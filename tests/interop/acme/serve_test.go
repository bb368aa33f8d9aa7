package acme_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// served is a running `detour serve`, on ports that are no privileged ones: derper wants port 443.
type served struct {
	t        testing.TB
	Addr     string
	HTTPAddr string
	Dir      string
	CertDir  string
	cmd      *exec.Cmd
	output   func() string
}

// ports are what an authority has to know of a relay before it starts.
type ports struct{ tls, http int }

func pickPorts(t testing.TB) ports {
	return ports{tls: relay.FreePort(t, "127.0.0.1"), http: relay.FreePort(t, "127.0.0.1")}
}

// serve starts `detour serve` in dir (default: a new one), with an HTTP port unless p.http is 0.
func serve(t testing.TB, dir string, p ports, args ...string) *served {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	s := &served{t: t, Dir: dir, CertDir: filepath.Join(dir, "certs"), Addr: fmt.Sprintf("127.0.0.1:%d", p.tls)}
	http := "off"
	if p.http != 0 {
		http = fmt.Sprint(p.http)
		s.HTTPAddr = fmt.Sprintf("127.0.0.1:%d", p.http)
	}
	args = append([]string{"serve", "--listen", s.Addr, "--http-port", http, "--no-stun",
		"--key-file", filepath.Join(dir, "relay.key"), "--cert-dir", s.CertDir}, args...)
	s.cmd = exec.Command(relay.DetourBinary(t), args...)
	s.cmd.Env = relay.CleanEnv()
	s.cmd.Dir = dir
	s.output = relay.Background(t, s.cmd)
	eventually(t, "the relay listens", func() error {
		if !strings.Contains(s.output(), "serving on") {
			return errors.New("it does not say so")
		}
		return nil
	})
	return s
}

// stop ends the relay in order.
func (s *served) stop() {
	s.t.Helper()
	begun := time.Now()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the relay ended with: %v", err)
	}
	if took := time.Since(begun); took > relay.StopTimeout {
		s.t.Errorf("the relay took %v to end", took)
	}
}

// waitFor waits until the log has all of these.
func (s *served) waitFor(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		eventually(s.t, fmt.Sprintf("the log says %q", text), func() error {
			if !strings.Contains(s.output(), text) {
				return errors.New("not yet")
			}
			return nil
		})
	}
}

// metric is a value of the metrics page.
func (s *served) metric(name string) string {
	s.t.Helper()
	res, err := http.Get("http://" + s.HTTPAddr + "/debug/varz")
	for line := range strings.Lines(relay.Body(s.t, res, err)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return ""
}

// script writes an executable file.
func script(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
