package websocket_test

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

//go:embed browser.html
var page string

// browserTimeout covers the start of a browser on a busy machine.
const browserTimeout = 90 * time.Second

// verdict is what the page finds.
type verdict struct {
	OK      bool
	Errors  []string
	Packets int
	Largest int // message received
}

func chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium found; ./dev test installs it (the package chromium; on Ubuntu chromium-browser)")
	return ""
}

// Two WebSockets of a real browser log in and send packets to each other through the relay. The page
// cannot seal a login itself, so it gets two that are.
func TestBrowser(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	r := relay.Start(t, relay.Options{NoSTUN: true})

	login := func() map[string]string {
		priv := key.NewNode()
		info := wire.Encode(wire.ClientInfo, wire.InfoPayload(priv, r.PublicKey, wire.DefaultInfo))
		return map[string]string{
			"key":   base64.StdEncoding.EncodeToString(wire.Raw(priv.Public())),
			"login": base64.StdEncoding.EncodeToString(info),
		}
	}
	sizes := []int{0, 1, 125, 126, 1400, 32000}
	if relay.DetourOnly(t, "WebSocket messages end at 32,768 bytes") {
		sizes = append(sizes, 32769, 65536)
	}
	setup, err := json.Marshal(map[string]any{
		"url": "wss://" + r.Addr + "/derp", "serverKey": base64.StdEncoding.EncodeToString(wire.Raw(r.PublicKey)),
		"clients": []any{login(), login()}, "sizes": sizes, "messageMax": 32768,
	})
	if err != nil {
		t.Fatal(err)
	}

	verdicts := make(chan verdict, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, strings.Replace(page, "SETUP", string(setup), 1))
	})
	mux.HandleFunc("POST /verdict", func(w http.ResponseWriter, req *http.Request) {
		var v verdict
		if err := json.NewDecoder(req.Body).Decode(&v); err != nil {
			v.Errors = append(v.Errors, err.Error())
		}
		verdicts <- v
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), browserTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--no-default-browser-check", "--no-proxy-server", "--ignore-certificate-errors",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", server.URL+"/")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := relay.StartBound(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	defer func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("the browser said:\n%s", output.String())
		}
	}()

	select {
	case v := <-verdicts:
		if !v.OK || len(v.Errors) > 0 {
			t.Errorf("the page found: %v", v.Errors)
		}
		if v.Packets != 2*len(sizes) {
			t.Errorf("%d packets arrived, want %d", v.Packets, 2*len(sizes))
		}
		t.Logf("%d packets, largest message %d bytes", v.Packets, v.Largest)
	case <-ended:
		t.Fatal("the browser ended without a verdict")
	case <-ctx.Done():
		t.Fatal("no verdict came from the page")
	}
	if got := r.WantVar(t, "derp_websocket_accepts", 2); got != 2 {
		t.Errorf("derp_websocket_accepts is %v, want 2", got)
	}
}
