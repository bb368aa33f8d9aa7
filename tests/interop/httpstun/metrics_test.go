package httpstun_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// The names that dashboards for derper rely on, as /debug/vars and /debug/varz call them, and their
// Prometheus type ("" is untyped: no TYPE line).
var metrics = []struct{ vars, varz, kind string }{
	{"derp.accepts", "derp_accepts", "counter"},
	{"derp.average_queue_duration_ms", "derp_average_queue_duration_ms", ""},
	{"derp.bytes_received", "derp_bytes_received", "counter"},
	{"derp.bytes_sent", "derp_bytes_sent", "counter"},
	{"derp.counter_packets_received_kind.disco", `derp_packets_received_kind{kind="disco"}`, "counter"},
	{"derp.counter_packets_received_kind.other", `derp_packets_received_kind{kind="other"}`, "counter"},
	{"derp.counter_total_dup_client_conns", "derp_total_dup_client_conns", "counter"},
	{"derp.gauge_clients_local", "derp_clients_local", "gauge"},
	{"derp.gauge_clients_remote", "derp_clients_remote", "gauge"},
	{"derp.gauge_clients_total", "derp_clients_total", "gauge"},
	{"derp.gauge_current_connections", "derp_current_connections", "gauge"},
	{"derp.gauge_current_dup_client_conns", "derp_current_dup_client_conns", "gauge"},
	{"derp.gauge_current_dup_client_keys", "derp_current_dup_client_keys", "gauge"},
	{"derp.gauge_current_file_descriptors", "derp_current_file_descriptors", "gauge"},
	{"derp.gauge_current_home_connections", "derp_current_home_connections", "gauge"},
	{"derp.gauge_current_notideal_connections", "derp_current_notideal_connections", "gauge"},
	{"derp.got_ping", "derp_got_ping", "counter"},
	{"derp.sent_pong", "derp_sent_pong", "counter"},
	{"derp.home_moves_in", "derp_home_moves_in", "counter"},
	{"derp.home_moves_out", "derp_home_moves_out", "counter"},
	{"derp.packets_received", "derp_packets_received", "counter"},
	{"derp.packets_sent", "derp_packets_sent", "counter"},
	{"derp.peer_gone_disconnected_frames", "derp_peer_gone_disconnected_frames", "counter"},
	{"derp.peer_gone_not_here_frames", "derp_peer_gone_not_here_frames", "counter"},
	{"derp.sclient_write_timeouts", "derp_sclient_write_timeouts", "counter"},
	{"derp.unknown_frames", "derp_unknown_frames", "counter"},
	{"derp.counter_buffered_write_frames.count", "derp_buffered_write_frames_count", ""},
	{"derp.counter_buffered_write_frames.sum", "derp_buffered_write_frames_sum", ""},
	{"derper_tls_request_version.1.3", `derper_tls_request_version{version="1.3"}`, ""},
	{"gauge_derper_tls_active_version.1.3", `derper_tls_active_version{version="1.3"}`, "gauge"},
	{"stun.counter_requests.success", `stun_requests{disposition="success"}`, "counter"},
	{"stun.counter_requests.not_stun", `stun_requests{disposition="not_stun"}`, "counter"},
	{"stun.counter_requests.read_error", `stun_requests{disposition="read_error"}`, "counter"},
	{"stun.counter_requests.write_error", `stun_requests{disposition="write_error"}`, "counter"},
	{"stun.counter_addrfamily.ipv4", `stun_addrfamily{family="ipv4"}`, "counter"},
	{"stun.counter_addrfamily.ipv6", `stun_addrfamily{family="ipv6"}`, "counter"},
	{"tls_listener.counter_accepted_connections", "tls_listener_accepted_connections", "counter"},
	{"tls_listener.counter_rejected_connections", "tls_listener_rejected_connections", "counter"},
	{"process_start_unix_time", "process_start_unix_time", ""},
	{"counter_uptime_sec", "uptime_sec", "counter"},
}

func TestMetricNamesAreThoseOfDerper(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	vars := r.Vars(t)
	_, text, err := r.Get("/debug/varz")
	if err != nil {
		t.Fatal(err)
	}
	varz := relay.ParseVarz(t, string(text))
	kinds := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "#" && f[1] == "TYPE" {
			if _, twice := kinds[f[2]]; twice {
				t.Errorf("# TYPE %s comes twice", f[2])
			}
			kinds[f[2]] = f[3]
		}
	}
	for _, m := range metrics {
		if _, ok := vars[m.vars].(float64); !ok {
			t.Errorf("/debug/vars: %s is %v, want a number", m.vars, vars[m.vars])
		}
		if _, ok := varz[m.varz]; !ok {
			t.Errorf("/debug/varz lacks %s", m.varz)
		}
		name, _, _ := strings.Cut(m.varz, "{")
		if got := kinds[name]; got != m.kind && !(m.kind == "" && got == "untyped") {
			t.Errorf("/debug/varz: type of %s is %q, want %q", name, got, m.kind)
		}
	}
	if kinds["derp_buffered_write_frames"] != "histogram" {
		t.Errorf("type of derp_buffered_write_frames is %q, want histogram", kinds["derp_buffered_write_frames"])
	}
	last := -1.0
	for _, le := range strings.Split("0 1 2 3 4 5 6 7 8 9 10 15 20 25 50 100 +Inf", " ") {
		name := fmt.Sprintf("derp_buffered_write_frames_bucket{le=%q}", le)
		v, ok := varz[name]
		if !ok || v < last {
			t.Errorf("/debug/varz: %s is %v (there: %v), want a bucket of at least %v", name, v, ok, last)
		}
		last = v
	}
	if last != varz["derp_buffered_write_frames_count"] {
		t.Errorf("the last bucket has %v, the histogram counts %v", last, varz["derp_buffered_write_frames_count"])
	}
	for _, reason := range []string{"unknown_dest", "unknown_dest_on_fwd", "gone_disconnected", "queue_head", "queue_tail", "write_error", "dup_client"} {
		for _, kind := range []string{"disco", "other"} {
			for _, name := range []string{"derp_packets_dropped", "derp_bytes_dropped"} {
				sample := fmt.Sprintf("%s{reason=%q,kind=%q}", name, reason, kind)
				if v, ok := varz[sample]; !ok || v != 0 {
					t.Errorf("/debug/varz: %s is %v (there: %v), want 0 from the start", sample, v, ok)
				}
				if kinds[name] != "counter" {
					t.Errorf("/debug/varz: type of %s is %q, want counter", name, kinds[name])
				}
			}
		}
	}
	if v, ok := vars["version"].(string); !ok || v == "" {
		t.Errorf("/debug/vars: version is %v, want a text", vars["version"])
	}
	if v, ok := vars["derp.version"].(string); !ok || v == "" {
		t.Errorf("/debug/vars: derp.version is %v, want a text", vars["derp.version"])
	}
	found := false
	for name, v := range varz {
		if strings.HasPrefix(name, "version{") && strings.Contains(name, "version=") && strings.Contains(name, "binary=") && v == 1 {
			found = true
		}
	}
	if !found {
		t.Error(`/debug/varz lacks version{version="...",binary="..."} 1`)
	}
	if start := varz["process_start_unix_time"]; start < float64(time.Now().Add(-time.Hour).Unix()) || start > float64(time.Now().Unix()+1) {
		t.Errorf("process_start_unix_time is %v, now is %d", start, time.Now().Unix())
	}
	for _, name := range []string{"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total", "process_start_time_seconds", "process_max_fds", "process_virtual_memory_bytes"} {
		if v, ok := varz[name]; !ok || v < 0 {
			t.Errorf("/debug/varz: %s is %v (there: %v), want a number", name, v, ok)
		}
	}
}

// Every event moves its counters by exactly what happened.
func TestMetricsMoveWithEvents(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{})
	vars0, varz0 := r.Vars(t), r.Varz(t)

	a, b := wire.Login(t, r), wire.Login(t, r)
	sent := 0
	for _, p := range [][]byte{nil, make([]byte, 10), make([]byte, 1400), wire.Disco(62), wire.Disco(300)} {
		a.Send(b.Pub, p)
		b.Want(wire.RecvPacket, wire.Raw(a.Pub), p)
		sent += len(p)
	}
	nobody := key.NewNode().Public()
	a.Send(nobody, make([]byte, 77))
	a.Send(nobody, wire.Disco(70))
	a.Want(wire.PeerGone, wire.Raw(nobody), []byte{1})
	for range 3 {
		a.WantAlive()
	}
	b.Put(wire.Encode(wire.NotePreferred, []byte{1}))
	b.WantAlive()
	d := wire.Dial(t, r)
	d.Priv, d.Pub = b.Priv, b.Pub
	d.Put(wire.Head("DERP", "Ideal-Node: 1a", "Derp-Fast-Start: 1"), d.Info(wire.DefaultInfo))
	if err := d.ReadLogin(); err != nil {
		t.Fatal(err)
	}
	refused := wire.Dial(t, r)
	refused.Put(wire.FastHead(), refused.Info("no JSON"))
	refused.Want(wire.ServerKey, wire.Magic, wire.Raw(r.PublicKey))
	refused.WantClosed()
	for range 4 {
		if _, err := relay.STUNRequest(r.STUNAddr, timeout); err != nil {
			t.Fatal(err)
		}
	}

	want := map[string]float64{ // change, or the value itself for gauges (all start at 0)
		"derp.accepts":                              4,
		"derp.packets_received":                     7,
		"derp.bytes_received":                       float64(sent + 77 + 70),
		"derp.counter_packets_received_kind.disco":  3,
		"derp.counter_packets_received_kind.other":  4,
		"derp.packets_sent":                         5,
		"derp.bytes_sent":                           float64(sent),
		"derp.peer_gone_not_here_frames":            1,
		"derp.peer_gone_disconnected_frames":        0,
		"derp.got_ping":                             4,
		"derp.sent_pong":                            4,
		"derp.gauge_current_connections":            3,
		"derp.gauge_clients_local":                  2,
		"derp.gauge_clients_total":                  2,
		"derp.gauge_clients_remote":                 0,
		"derp.gauge_current_home_connections":       1,
		"derp.gauge_current_dup_client_keys":        1,
		"derp.gauge_current_dup_client_conns":       2,
		"derp.counter_total_dup_client_conns":       1,
		"derp.gauge_current_notideal_connections":   1,
		"derp.home_moves_in":                        0,
		"derp.home_moves_out":                       0,
		"derp.unknown_frames":                       0,
		"derp.sclient_write_timeouts":               0,
		"stun.counter_requests.success":             4,
		"stun.counter_addrfamily.ipv4":              4,
		"stun.counter_addrfamily.ipv6":              0,
		"tls_listener.counter_rejected_connections": 0,
	}
	number := func(m map[string]any, name string) float64 { v, _ := m[name].(float64); return v }
	var vars map[string]any
	relay.Poll(30*time.Second, func() bool {
		vars = r.Vars(t)
		for name, w := range want {
			if number(vars, name)-number(vars0, name) != w {
				return false
			}
		}
		return true
	})
	for name, w := range want {
		if got := number(vars, name) - number(vars0, name); got != w {
			t.Errorf("%s moved by %v, want %v", name, got, w)
		}
	}
	if n := number(vars, "derp.counter_buffered_write_frames.count"); n < 5 || number(vars, "derp.counter_buffered_write_frames.sum") < n {
		t.Errorf("buffered_write_frames counts %v flushes with %v frames, want at least 5 with at least one each", n, number(vars, "derp.counter_buffered_write_frames.sum"))
	}
	varz := r.Varz(t)
	for name, w := range map[string]float64{
		`derp_packets_dropped{reason="unknown_dest",kind="other"}`: 1,
		`derp_packets_dropped{reason="unknown_dest",kind="disco"}`: 1,
		`derp_bytes_dropped{reason="unknown_dest",kind="other"}`:   77,
		`derp_bytes_dropped{reason="unknown_dest",kind="disco"}`:   70,
		`derp_packets_dropped{reason="queue_head",kind="other"}`:   0,
	} {
		if got := varz[name] - varz0[name]; got != w {
			t.Errorf("%s moved by %v, want %v", name, got, w)
		}
	}
	// The two pages say the same.
	for _, m := range metrics {
		v, w := number(r.Vars(t), m.vars), r.Varz(t)[m.varz]
		if strings.HasPrefix(m.varz, "derp_") && !strings.Contains(m.varz, "descriptors") && v != w {
			t.Errorf("%s is %v in /debug/vars and %v in /debug/varz", m.vars, v, w)
		}
	}
	if n := number(vars, "derper_tls_request_version.1.3"); n <= number(vars0, "derper_tls_request_version.1.3") {
		t.Errorf("derper_tls_request_version.1.3 did not move from %v", n)
	}
	if n := number(vars, "gauge_derper_tls_active_version.1.3"); n < 3 {
		t.Errorf("derper_tls_active_version.1.3 is %v with three DERP connections", n)
	}
	if n := number(vars, "tls_listener.counter_accepted_connections") - number(vars0, "tls_listener.counter_accepted_connections"); n < 4 {
		t.Errorf("tls_listener_accepted_connections moved by %v with four new connections", n)
	}

	// Everybody leaves. A packet of a's reached b, so b's connections hear of a's end.
	a.Close()
	b.Want(wire.PeerGone, wire.Raw(a.Pub), []byte{0})
	b.Close()
	d.Close()
	for name, w := range map[string]float64{
		"derp.peer_gone_disconnected_frames":      1,
		"derp.gauge_current_connections":          0,
		"derp.gauge_clients_local":                0,
		"derp.gauge_clients_total":                0,
		"derp.gauge_current_home_connections":     0,
		"derp.gauge_current_dup_client_keys":      0,
		"derp.gauge_current_dup_client_conns":     0,
		"derp.gauge_current_notideal_connections": 0,
		"derp.counter_total_dup_client_conns":     1,
	} {
		if got := r.WantVar(t, name, w); got != w {
			t.Errorf("in the end %s is %v, want %v", name, got, w)
		}
	}
}

// A change of home counts as a move only once a connection is five seconds old.
func TestHomeMovesCountAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	start := time.Now()
	c := wire.Login(t, r)
	loggedIn := time.Now()
	home, moves := false, 0.0
	if !relay.Poll(9*time.Second+relay.Slack, func() bool {
		home = !home
		v := byte(0)
		if home {
			v = 1
		}
		c.Put(wire.Encode(wire.NotePreferred, []byte{v}))
		c.WantAlive()
		moves = r.Var(t, "derp.home_moves_in") + r.Var(t, "derp.home_moves_out")
		if moves > 0 && time.Since(start) < 5*time.Second {
			t.Fatalf("a move was counted %v after the login began", time.Since(start))
		}
		return moves > 0
	}) {
		t.Fatal("no move was counted")
	}
	if d := time.Since(loggedIn); d > 8*time.Second+relay.Slack {
		t.Errorf("the first move was counted %v after the login", d)
	}
	// The same value again is no move.
	before := r.Var(t, "derp.home_moves_in") + r.Var(t, "derp.home_moves_out")
	v := byte(0)
	if home {
		v = 9 // any value but zero is home
	}
	c.Put(wire.Encode(wire.NotePreferred, []byte{v}))
	c.WantAlive()
	if after := r.Var(t, "derp.home_moves_in") + r.Var(t, "derp.home_moves_out"); after != before {
		t.Errorf("repeating the state counted as a move: %v, then %v", before, after)
	}
}

func TestTLSVersionsAreCounted(t *testing.T) {
	t.Parallel()
	r := relay.Start(t, relay.Options{NoSTUN: true})
	cfg := r.TLSConfig()
	cfg.MaxVersion = 0x0303
	c, err := wire.DialError(t, r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Login(wire.DefaultInfo)
	if got := r.Varz(t)[`derper_tls_request_version{version="1.2"}`]; got != 1 {
		t.Errorf(`derper_tls_request_version{version="1.2"} is %v after one request by TLS 1.2, want 1`, got)
	}
	const active = `derper_tls_active_version{version="1.2"}`
	if got := r.Varz(t)[active]; got != 1 {
		t.Errorf("%s is %v with one such DERP connection, want 1", active, got)
	}
	c.Close()
	if !relay.Poll(30*time.Second, func() bool { return r.Varz(t)[active] == 0 }) {
		t.Errorf("%s is %v after its end, want 0", active, r.Varz(t)[active])
	}
}
