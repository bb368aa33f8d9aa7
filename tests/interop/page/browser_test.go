package page_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// patience covers the start of a browser and everything else on a busy machine.
const patience = 90 * time.Second

// browser is one Chromium for all tests of this package, driven over a pipe with the DevTools protocol.
type browser struct {
	cmd     *exec.Cmd
	profile string
	output  strings.Builder
	ended   chan struct{}

	mu      sync.Mutex
	in      *os.File
	lastID  int
	waiting map[int]chan message
	tabs    map[string]*tab
}

type message struct {
	ID        int                       `json:"id,omitempty"`
	Method    string                    `json:"method,omitempty"`
	SessionID string                    `json:"sessionId,omitempty"`
	Params    json.RawMessage           `json:"params,omitempty"`
	Result    json.RawMessage           `json:"result,omitempty"`
	Error     *struct{ Message string } `json:"error,omitempty"`
}

// theBrowser starts it for the first test that wants one.
var theBrowser = sync.OnceValues(startBrowser)

// started is the browser to end, once there is one.
var started *browser

func stopBrowser() {
	if started != nil {
		started.stop()
	}
}

func startBrowser() (*browser, error) {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return nil, errors.New("no Chromium found; ./dev test installs it (the package chromium; on Ubuntu chromium-browser)")
	}
	profile, err := os.MkdirTemp("", "page")
	if err != nil {
		return nil, err
	}
	b := &browser{profile: profile, ended: make(chan struct{}), waiting: map[int]chan message{}, tabs: map[string]*tab{}}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b.in = ourOut
	b.cmd = exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--no-default-browser-check", "--no-proxy-server", "--hide-scrollbars", "--font-render-hinting=none",
		"--host-resolver-rules=MAP rebinding.example 127.0.0.1",
		"--user-data-dir="+profile, "--remote-debugging-pipe")
	b.cmd.ExtraFiles = []*os.File{theirIn, theirOut} // Descriptors 3 and 4.
	b.cmd.Stdout, b.cmd.Stderr = &b.output, &b.output
	err = relay.StartBound(b.cmd)
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		return nil, err
	}
	started = b
	go b.read(ourIn)
	go func() { b.cmd.Wait(); close(b.ended) }()
	return b, nil
}

// stop ends the browser with all of its processes, and removes its profile.
func (b *browser) stop() {
	b.call("", "Browser.close", nil, nil)
	select {
	case <-b.ended:
	case <-time.After(patience):
		b.cmd.Process.Kill()
		<-b.ended
	}
	os.RemoveAll(b.profile)
}

func (b *browser) read(from *os.File) {
	defer from.Close()
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			break
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		answer, event := b.waiting[m.ID], b.tabs[m.SessionID]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		if answer != nil {
			answer <- m
		} else if event != nil {
			event.take(m)
		}
	}
}

func (b *browser) call(session, method string, params, result any) error {
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	if params == nil {
		text = []byte("{}")
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.lastID++
	m := message{ID: b.lastID, Method: method, SessionID: session, Params: text}
	b.waiting[m.ID] = answer
	line, err := json.Marshal(m)
	if err == nil {
		_, err = b.in.Write(append(line, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			return json.Unmarshal(m.Result, result)
		}
		return nil
	case <-b.ended:
		return fmt.Errorf("%s: the browser has ended:\n%s", method, b.output.String())
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer", method)
	}
}

// tab is a page in a browser context of its own: with storage that no other tab has.
type tab struct {
	t       testing.TB
	b       *browser
	session string
	// allowed are parts of console messages that the test provokes.
	allowed []string

	mu       sync.Mutex
	problems []string // console errors, exceptions, violations of the page's policy
	requests []string // URLs
}

type tabOptions struct {
	width, height int
	phone, dark   bool
	language      string // default "en-US"
	scale         float64
}

// open opens a tab at url. At the end of the test there must have been no error in it and no request
// that left the page's origin.
func open(t testing.TB, url string, o tabOptions) *tab {
	t.Helper()
	b, err := theBrowser()
	if err != nil {
		t.Fatal(err)
	}
	p := &tab{t: t, b: b}
	var context struct{ BrowserContextID string }
	var target struct{ TargetID string }
	var session struct{ SessionID string }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.call("", "Target.createBrowserContext", nil, &context))
	t.Cleanup(func() {
		b.call("", "Target.disposeBrowserContext", map[string]any{"browserContextId": context.BrowserContextID}, nil)
	})
	must(b.call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": context.BrowserContextID}, &target))
	must(b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session))
	p.session = session.SessionID
	b.mu.Lock()
	b.tabs[p.session] = p
	b.mu.Unlock()
	t.Cleanup(func() { p.check(url) })
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		p.call(domain+".enable", nil, nil)
	}
	if o.width == 0 {
		o.width, o.height = 1280, 900
	}
	if o.language == "" {
		o.language = "en-US"
	}
	if o.scale == 0 {
		o.scale = 1
	}
	scheme := "light"
	if o.dark {
		scheme = "dark"
	}
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": o.width, "height": o.height, "deviceScaleFactor": o.scale, "mobile": o.phone}, nil)
	p.call("Emulation.setUserAgentOverride", map[string]any{"userAgent": "test", "acceptLanguage": o.language}, nil)
	p.media(scheme)
	p.call("Page.navigate", map[string]any{"url": url}, nil)
	return p
}

func (p *tab) call(method string, params, result any) {
	p.t.Helper()
	if err := p.b.call(p.session, method, params, result); err != nil {
		p.t.Fatal(err)
	}
}

// media says which colours the reader's system has: "light" or "dark".
func (p *tab) media(scheme string) {
	p.t.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

func (p *tab) take(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "Network.requestWillBeSent":
		var e struct{ Request struct{ URL string } }
		json.Unmarshal(m.Params, &e)
		p.requests = append(p.requests, e.Request.URL)
	case "Network.webSocketCreated":
		p.requests = append(p.requests, string(m.Params))
	case "Runtime.exceptionThrown":
		p.problems = append(p.problems, string(m.Params))
	case "Runtime.consoleAPICalled":
		var e struct{ Type string }
		json.Unmarshal(m.Params, &e)
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			p.problems = append(p.problems, string(m.Params))
		}
	case "Log.entryAdded":
		var e struct {
			Entry struct{ Level, Text, URL string }
		}
		json.Unmarshal(m.Params, &e)
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			p.problems = append(p.problems, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

func (p *tab) check(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.problems {
		// The tests read the canvas, not the page.
		allowed := strings.Contains(problem, "willReadFrequently")
		for _, part := range p.allowed {
			allowed = allowed || strings.Contains(problem, part)
		}
		if !allowed {
			p.t.Errorf("the browser complains: %s", problem)
		}
	}
	origin := strings.Join(strings.SplitN(url, "/", 4)[:3], "/") + "/"
	for _, request := range p.requests {
		if !strings.HasPrefix(request, origin) && !strings.HasPrefix(request, "data:") && request != "about:blank" {
			p.t.Errorf("a request leaves the origin %s: %s", origin, request)
		}
	}
	if len(p.requests) == 0 {
		p.t.Error("no request was seen: the check for those that leave the origin sees nothing")
	}
}

// asked is how often the page has asked for its data.
func (p *tab) asked() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, request := range p.requests {
		if strings.Contains(request, "/status.json") {
			n++
		}
	}
	return n
}

// eval gives the value of a JavaScript expression.
func (p *tab) eval(expression string, result any) {
	p.t.Helper()
	if err := p.tryEval(expression, result); err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
}

func (p *tab) tryEval(expression string, result any) error {
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if err != nil {
		return err
	}
	if e := answer.ExceptionDetails; e != nil {
		return fmt.Errorf("%s %s", e.Text, e.Exception.Description)
	}
	if result == nil || len(answer.Result.Value) == 0 {
		return nil
	}
	return json.Unmarshal(answer.Result.Value, result)
}

// await waits until a JavaScript expression is true. Failures count as not yet, since a page may be loading.
func (p *tab) await(expression string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var is bool
		err := p.tryEval("!!("+expression+")", &is)
		if err == nil && is {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s never became true (%v); the page says:\n%s", expression, err, p.text())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// text is what the reader can see.
func (p *tab) text() (text string) {
	p.tryEval("document.body.innerText", &text)
	return text
}

// wait waits until the reader can see each of the texts.
func (p *tab) wait(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		quoted, _ := json.Marshal(text)
		p.await("document.body.innerText.includes(" + string(quoted) + ")")
	}
}

// choose chooses in one of the page's lists, as a reader would.
func (p *tab) choose(list, value string) {
	p.t.Helper()
	p.eval(fmt.Sprintf(`{const e = document.getElementById(%q); e.value = %q; e.dispatchEvent(new Event('change', {bubbles: true}))}`, list, value), nil)
}

// screenshot is the whole page as PNG, or its first `height` pixels.
func (p *tab) screenshot(height int) []byte {
	p.t.Helper()
	params := map[string]any{"format": "png", "captureBeyondViewport": true}
	if height > 0 {
		var width int
		p.eval("window.innerWidth", &width)
		params["clip"] = map[string]any{"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
	}
	var answer struct{ Data string }
	p.call("Page.captureScreenshot", params, &answer)
	png, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}
