// Package page_test opens the status page of a running relay in a real browser.
package page_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

func TestMain(m *testing.M) {
	if relay.IsDerper() {
		fmt.Println("the status page is Detour's alone")
		return
	}
	status := m.Run()
	stopBrowser()
	os.Exit(status)
}

// hostile is a name and a program that would run in a page that took it for HTML.
const hostile = `<img src=x onerror=hacked()>`

// site is a relay with a status page.
type site struct {
	*relay.Relay
	metrics string // host:port of the page
	socket  string // control socket
}

func (s site) url() string { return "http://" + s.metrics + "/" }

// start starts a relay. The folder is short: sockets cannot have long paths.
func start(t *testing.T, args ...string) site {
	t.Helper()
	return startAs(t, relay.Options{Serve: true}, args...)
}

func startAs(t *testing.T, o relay.Options, args ...string) site {
	t.Helper()
	dir, err := os.MkdirTemp("", "page")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := site{metrics: fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1")), socket: filepath.Join(dir, "s")}
	o.Args = append([]string{"--metrics-listen", s.metrics, "--control-socket", s.socket}, args...)
	s.Relay = relay.Start(t, o)
	return s
}

// allowFile lets in the keys of its lines; each name stands behind a key.
func allowFile(t *testing.T, names map[key.NodePublic]string) string {
	t.Helper()
	var text strings.Builder
	for k, name := range names {
		fmt.Fprintf(&text, "%v %s\n", k, name)
	}
	path := filepath.Join(t.TempDir(), "allow")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// talk sends packets of 1,000 bytes from one client to another, and waits for them.
func talk(from, to *wire.Conn, packets int) {
	packet := make([]byte, 1000)
	for range packets {
		from.Send(to.Pub, packet)
		to.Want(wire.RecvPacket, wire.Raw(from.Pub), packet)
	}
}

// coloured counts the pixels of a chart that are of a colour of the page.
func coloured(card, colour string) string {
	return fmt.Sprintf(`(() => {
	  const canvas = document.querySelector('#%s canvas');
	  const probe = document.createElement('canvas').getContext('2d');
	  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--%s').trim();
	  probe.fillRect(0, 0, 1, 1);
	  const want = probe.getImageData(0, 0, 1, 1).data;
	  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
	  let count = 0;
	  for (let i = 0; i < pixels.length; i += 4)
	    if (pixels[i + 3] > 200 && [0, 1, 2].every((c) => Math.abs(pixels[i + c] - want[c]) < 12)) ++count;
	  return count;
	})()`, card, colour)
}

// tile is what one of the page's large numbers says.
func tile(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.tile')].find((t) => t.querySelector('.label').textContent === %q).innerText`, name)
}

func TestPageShowsTheRelay(t *testing.T) {
	t.Parallel()
	a, b, c := key.NewNode(), key.NewNode(), key.NewNode()
	s := start(t, "--allow-file", allowFile(t, map[key.NodePublic]string{
		a.Public(): hostile + " one", b.Public(): "办公室 server", c.Public(): "",
	}))
	ca, cb := wire.LoginAs(t, s.Relay, a), wire.LoginAs(t, s.Relay, b)
	// A client that names its program, and has no name in the allow file.
	cc := wire.Dial(t, s.Relay)
	cc.Priv, cc.Pub = c, c.Public()
	cc.Login(`{"version":2,"AppName":"` + hostile + `"}`)
	talk(ca, cb, 500)
	ca.Send(key.NewNode().Public(), make([]byte, 10)) // Dropped: nobody has that key.

	p := open(t, s.url(), tabOptions{})
	p.wait("serving", "Top talkers", hostile+" one", "办公室 server", ca.Pub.ShortString(), "days left", "Allow file", "3 keys",
		"Not run yet", s.Addr, s.HTTPAddr, s.STUNAddr, s.metrics, s.PublicKey.String(), "to a key that is not here", "Live · ")
	// What comes from outside is text.
	var images int
	p.eval("document.images.length", &images)
	if images != 0 || strings.Contains(p.text(), "&lt;") {
		t.Errorf("%d images; the page says:\n%s", images, p.text())
	}
	p.await(`[...document.querySelectorAll('#clients .name')].some((e) => e.firstChild.textContent === ` + strconv.Quote(hostile) + `)`)
	p.await(`document.querySelector('#clients tbody').rows.length === 3`)

	// Numbers change, and the charts are drawn, without anybody's doing.
	p.await(tile("In") + `.includes('500 kB since start')`)
	talk(ca, cb, 500)
	p.await(tile("In") + `.includes('1.00 MB since start')`)
	p.await(`document.querySelector('#clients').innerText.includes('1.00 MB')`)
	// A sample is taken every five seconds; a second one has a rate.
	p.await(coloured("chart-traffic", "received") + " > 30")
	p.await(coloured("chart-clients", "clients") + " > 5")
	p.await(coloured("chart-packets", "sent") + " > 10")
	p.await(coloured("chart-drops", "dropped") + " > 5")
	p.await(`document.querySelector('#chart-traffic .plot').getAttribute('aria-label').startsWith('Chart of the last hour, Traffic. Now: In ')`)
	if n := p.asked(); n < 3 {
		t.Errorf("the page has asked %d times in all", n)
	}

	// Another page that opens now has the same charts at once.
	again := open(t, s.url(), tabOptions{})
	again.await(coloured("chart-traffic", "received") + " > 30")
	if n := again.asked(); n > 2 {
		t.Errorf("a new page has its charts only after %d answers", n)
	}
}

func TestLanguagesAndColours(t *testing.T) {
	t.Parallel()
	s := start(t)
	const background = `getComputedStyle(document.body).backgroundColor`
	p := open(t, s.url(), tabOptions{language: "zh-CN", dark: true})
	p.wait("运行中", "没有客户端连接。", "任何人都可以登录。", "尚未运行")
	p.await(`document.documentElement.lang === 'zh-CN'`)
	p.await(background + ` === 'rgb(14, 19, 27)'`)
	p.await(coloured("chart-clients", "clients") + " > 5")
	p.media("light")
	p.await(background + ` === 'rgb(244, 246, 249)'`)
	p.choose("theme", "dark")
	p.await(background + ` === 'rgb(14, 19, 27)'`)
	p.choose("language", "en")
	p.wait("serving", "Nobody is connected.", "Everybody may log in.", "Not run yet")
	p.await(`!/[\u4e00-\u9fff]/.test(document.querySelector('main').innerText)`)
	// Both choices are kept.
	p.call("Page.reload", nil, nil)
	p.wait("Nobody is connected.")
	p.await(background + ` === 'rgb(14, 19, 27)' && document.getElementById('theme').value === 'dark'`)
	p.choose("theme", "auto")
	p.await(background + ` === 'rgb(244, 246, 249)'`)
	// A browser in any other language gets English.
	other := open(t, s.url(), tabOptions{language: "fr-FR"})
	other.wait("Nobody is connected.")
}

// What a keyboard alone can reach, and what a screen reader is told.
func TestKeyboardAndLabels(t *testing.T) {
	t.Parallel()
	s := start(t)
	wire.Login(t, s.Relay)
	p := open(t, s.url(), tabOptions{})
	p.wait("Top talkers")
	var reached []string
	for range 3 {
		p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
		p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
		var name string
		p.eval(`document.activeElement.id || document.activeElement.getAttribute('aria-label')`, &name)
		reached = append(reached, name)
	}
	if fmt.Sprint(reached) != "[language theme Top talkers]" {
		t.Errorf("Tab leads to %v", reached)
	}
	// The focus stays where it is while the tables behind it are filled anew.
	for n := p.asked(); p.asked() < n+2; {
		time.Sleep(50 * time.Millisecond)
	}
	p.await(`document.activeElement.getAttribute('aria-label') === 'Top talkers'`)
	var nameless []string
	p.eval(`[...document.querySelectorAll('select, input, [role=img], [role=region]')].filter((e) => !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim())).map((e) => e.outerHTML.slice(0, 100))`, &nameless)
	if len(nameless) != 0 {
		t.Errorf("without a label: %q", nameless)
	}
}

func TestPhone(t *testing.T) {
	t.Parallel()
	a, b := key.NewNode(), key.NewNode()
	long := strings.Repeat("a-very-long-name-", 3)
	s := start(t, "--allow-file", allowFile(t, map[key.NodePublic]string{a.Public(): long, b.Public(): "b"}),
		"--mesh-psk-file", secret(t, strings.Repeat("ab", 32)), "--mesh-with", "a-long-name-of-a-relay-elsewhere.invalid:1/127.0.0.1")
	ca, cb := wire.LoginAs(t, s.Relay, a), wire.LoginAs(t, s.Relay, b)
	talk(ca, cb, 100)
	post(t, s.socket, findings(strings.Repeat("nodekey:0123456789abcdef", 10)))
	for _, language := range []string{"en-US", "zh-CN"} {
		p := open(t, s.url(), tabOptions{width: 360, height: 740, phone: true, language: language})
		p.wait(long, "D06")
		var wide []string
		p.eval(`[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll') && !e.closest('.hidden') && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.outerHTML.slice(0, 200))`, &wide)
		var width int
		p.eval(`document.documentElement.scrollWidth`, &width)
		if width != 360 || len(wide) != 0 {
			t.Errorf("%s: the page is %d pixels wide; too wide are %q", language, width, wide)
		}
		p.await(`document.querySelector('#clients .scroll').scrollWidth > document.querySelector('#clients .scroll').clientWidth`)
	}
}

func TestNobodyLooks(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s.url(), tabOptions{})
	p.wait("Nobody is connected.")
	p.eval(`Object.defineProperty(document, 'hidden', {configurable: true, get: () => true}); document.dispatchEvent(new Event('visibilitychange'))`, nil)
	// The one that was under way may still be answered.
	time.Sleep(3 * time.Second)
	before := p.asked()
	wire.Login(t, s.Relay)
	time.Sleep(5 * time.Second)
	if after := p.asked(); after != before {
		t.Errorf("a page that nobody sees has asked %d times", after-before)
	}
	p.eval(`delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))`, nil)
	p.await(`!document.body.innerText.includes('Nobody is connected.')`)
}

func TestRelayGoesAndComes(t *testing.T) {
	t.Parallel()
	s := start(t)
	before := wire.Login(t, s.Relay)
	p := open(t, s.url(), tabOptions{})
	p.allowed = []string{"net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET", "net::ERR_EMPTY_RESPONSE"}
	p.wait(before.Pub.ShortString(), "Live · ")
	p.await(coloured("chart-clients", "clients") + " > 5")
	s.Stop()
	p.wait("Connection lost, last seen ")
	p.await(`document.getElementById('content').classList.contains('stale')`)
	p.wait(before.Pub.ShortString()) // What was seen last stays.
	s.Restart()
	after := wire.Login(t, s.Relay)
	p.wait(after.Pub.ShortString(), "Live · ")
	p.await(`!document.body.innerText.includes('Connection lost') && !document.getElementById('content').classList.contains('stale')`)
	if strings.Contains(p.text(), before.Pub.ShortString()) {
		t.Error("the client of the relay before is still shown")
	}
}

func secret(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestToken(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	s := start(t, "--metrics-token-file", secret(t, token))
	wire.Login(t, s.Relay)
	enter := func(p *tab, token string) {
		p.eval(fmt.Sprintf(`document.getElementById('token').value = %q; document.querySelector('#ask button').click()`, token), nil)
	}
	p := open(t, s.url(), tabOptions{})
	p.allowed = []string{"401 (Unauthorized)"}
	p.wait("This relay shows its status to those who have its token")
	if text := p.text(); strings.Contains(text, "Top talkers") || strings.Contains(text, "refuses") {
		t.Errorf("without a token the page says:\n%s", text)
	}
	p.await(`document.activeElement.id === 'token'`)
	enter(p, "wrong")
	p.wait("The relay refuses this token.")
	enter(p, " "+token+" ")
	p.wait("Top talkers")
	p.await(`document.getElementById('ask').hidden`)
	// Kept for this tab, and nowhere else.
	p.call("Page.reload", nil, nil)
	p.wait("Top talkers")
	p.await(`location.href === '` + s.url() + `' && Object.values(localStorage).every((v) => !v.includes('` + token + `'))`)
	p.mu.Lock()
	for _, request := range p.requests {
		if strings.Contains(request, token) {
			t.Errorf("the token is in a URL: %s", request)
		}
	}
	p.mu.Unlock()
	other := open(t, s.url(), tabOptions{language: "zh-CN"})
	other.allowed = p.allowed
	other.wait("此中继仅向持有令牌者显示状态")
	enter(other, "wrong")
	other.wait("中继拒绝了这个令牌。")
}

// A name that somebody else's name server leads to this machine opens nothing.
func TestRebinding(t *testing.T) {
	t.Parallel()
	s := start(t)
	_, port, _ := net.SplitHostPort(s.metrics)
	p := open(t, "http://rebinding.example:"+port+"/", tabOptions{})
	p.allowed = []string{"403 (Forbidden)", "favicon.ico"}
	p.wait("Without a token the status page answers to an IP address or localhost")
	var status int
	p.eval(`fetch('/status.json').then((r) => r.status)`, &status)
	if status != 403 {
		t.Errorf("the data is answered with %d", status)
	}
	local := open(t, "http://localhost:"+port+"/", tabOptions{})
	local.wait("Nobody is connected.")
}

// A page of another site on this machine gets nothing.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	s := start(t)
	other := start(t)
	p := open(t, other.url(), tabOptions{})
	p.wait("Nobody is connected.")
	// Its policy forbids it already; a page without one would be refused by the relay.
	p.allowed = []string{"Content Security Policy", "Failed to fetch"}
	var said string
	p.eval(`fetch('`+s.url()+`status.json').then(() => 'got it', () => 'refused')`, &said)
	if said != "refused" {
		t.Errorf("the page of another site said %q", said)
	}
	for _, field := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: " + strings.TrimSuffix(other.url(), "/"), "Origin: null"} {
		if status, body := get(t, s, "GET", "/status.json", field); status != 403 || !strings.Contains(body, "not for other sites") {
			t.Errorf("%s: %d %s", field, status, body)
		}
	}
}

// get asks with more header fields, and gives status and body.
func get(t *testing.T, s site, method, path string, fields ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.metrics+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		if field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(req)
	body := relay.Body(t, res, err)
	return res.StatusCode, body
}

func TestRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, c := range []struct {
		method, path, field string
		status              int
		body                string
	}{
		{"GET", "/", "", 200, "<!doctype html>"},
		{"GET", "/status", "", 200, "<!doctype html>"},
		{"HEAD", "/", "", 200, ""},
		{"GET", "/status.json", "", 200, `"perSecond"`},
		{"GET", "/status.json?run=1&next=2", "", 200, `"perSecond"`},
		{"GET", "/status.json?next=x", "", 400, "next: a number is needed"},
		{"GET", "/status.json?next=-1", "", 400, "next: a number is needed"},
		{"GET", "/status.json?run=" + strings.Repeat("1", 65), "", 400, "run: 65 characters"},
		{"POST", "/", "", 405, "only GET and HEAD"},
		{"OPTIONS", "/status.json", "", 405, "only GET and HEAD"},
		{"GET", "/status.js", "", 404, "the status page"},
		{"GET", "/", "X-Forwarded-For: 127.0.0.1", 403, "came through a proxy"},
		{"GET", "/status.json", "Forwarded: for=127.0.0.1", 403, "came through a proxy"},
		{"GET", "/", "Host: evil.example", 403, "or set --metrics-token-file"},
		{"GET", "/status.json", "Host: evil.example", 403, "or set --metrics-token-file"},
		{"GET", "/metrics", "X-Forwarded-For: 192.0.2.1", 200, "derp_"},
		{"GET", "/healthz", "Host: evil.example", 200, "ok"},
	} {
		status, body := get(t, s, c.method, c.path, c.field)
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s %s %s: %d %.200s", c.method, c.path, c.field, status, body)
		}
	}
}

// findings is what a doctor says of one fault.
func findings(cause string) string {
	text, _ := json.Marshal(map[string]any{"sections": []any{map[string]any{"title": "here", "findings": []any{
		map[string]any{"state": "WARN", "code": "D06", "fault": "x", "check": "certificate", "cause": cause, "fix": "detour " + cause},
	}}}})
	return string(text)
}

// post hands findings over, and gives status and answer.
func post(t *testing.T, socket, body string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		Dial:              func(string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	res, err := client.Post("http://detour/findings", "application/json", strings.NewReader(body))
	answer := relay.Body(t, res, err)
	return res.StatusCode, answer
}

func TestDoctorsFindings(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s.url(), tabOptions{})
	p.wait("Not run yet: run this on the relay’s machine.", "sudo detour doctor")
	var out bytes.Buffer
	cmd := exec.Command(relay.DetourBinary(t), "doctor", "--json", "--pid", strconv.Itoa(s.Pid))
	cmd.Stdout = &out
	cmd.Run() // What it finds here decides its exit status.
	var report struct {
		Sections []struct {
			Findings []struct{ State, Code, Check, Cause, Fix string }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	p.await(`!document.body.innerText.includes('Not run yet')`)
	p.eval(`document.querySelectorAll('details').forEach((d) => { d.open = true; })`, nil)
	seen := 0
	for _, section := range report.Sections {
		for _, f := range section.Findings {
			seen++
			quoted, _ := json.Marshal(f.Cause)
			p.await(`document.getElementById('doctor').textContent.includes(` + string(quoted) + `)`)
			quoted, _ = json.Marshal(f.Fix)
			p.await(`document.getElementById('doctor').textContent.includes(` + string(quoted) + `)`)
		}
	}
	if seen < 5 {
		t.Errorf("the doctor found %d things", seen)
	}
	// What was opened stays open while the page asks on.
	for n := p.asked(); p.asked() < n+2; {
		time.Sleep(50 * time.Millisecond)
	}
	p.await(`[...document.querySelectorAll('details')].every((d) => d.open)`)

	// The last visit counts, and its texts are text.
	if status, answer := post(t, s.socket, findings(hostile)); status != 200 || !strings.Contains(answer, `{"findings":1}`) {
		t.Fatalf("%d %s", status, answer)
	}
	p.await(`document.querySelectorAll('#doctor .finding').length === 1`)
	p.wait("D06", hostile)
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{"", 400, "a JSON object is needed"},
		{"nonsense", 400, "a JSON object is needed"},
		{`{"sections":[{"title":1}]}`, 400, "sections[0].title: a text is needed"},
		{findings(strings.Repeat("x", 4090)), 400, "sections[0].findings[0].fix: 4097 bytes, and at most 4096 are taken"},
		{findings(strings.Repeat("x", 4089)), 200, ""},
		{`{"sections":[]}` + strings.Repeat(" ", 48<<10-15), 200, ""},
		{`{"sections":[]}` + strings.Repeat(" ", 48<<10-14), 413, "larger than 49152 bytes"},
		{strings.Repeat(" ", 64<<10+1), 400, ""},
	} {
		if status, answer := post(t, s.socket, c.body); status != c.status || !strings.Contains(answer, c.want) {
			t.Errorf("%d bytes: %d %s", len(c.body), status, answer)
		}
	}
}

// Where there is no relay, or one without a control socket, the doctor works as ever.
func TestDoctorWithoutASocket(t *testing.T) {
	t.Parallel()
	s := start(t, "--control-socket", "off")
	out, _ := exec.Command(relay.DetourBinary(t), "doctor", "--json", "--pid", strconv.Itoa(s.Pid)).Output()
	var report struct {
		Sections []struct{ Findings []struct{} }
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Sections) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
}
