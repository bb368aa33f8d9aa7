package cmdline_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

var keyFileForm = regexp.MustCompile(`^\{\n\t"PrivateKey": "privkey:[0-9a-f]{64}"\n\}$`)

func TestANewKeyFileIsAsDerperWritesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "state", "deep", "derper.key")
	r := relay.Start(t, relay.Options{NoSTUN: true, NoWait: true, Args: []string{"-c", file}})
	if !relay.Poll(wire.IOTimeout, func() bool { _, err := os.Stat(file); return err == nil || !r.Running() }) {
		t.Fatalf("no key file was written:\n%s", r.Log())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Log())
	}
	if !keyFileForm.Match(b) {
		t.Errorf("the key file is %q, want it as %s", b, keyFileForm)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("beside the key file there are %v", entries)
	}
	// X25519 keys are clamped when they are made.
	raw := wire.Hex(string(b[len("{\n\t\"PrivateKey\": \"privkey:"):][:64]))
	if raw[0]&7 != 0 || raw[31]&0xc0 != 0x40 {
		t.Errorf("the key is not clamped: first byte %02x, last byte %02x", raw[0], raw[31])
	}
}

func TestKeyFilesThatAreRead(t *testing.T) {
	t.Parallel()
	k := key.NewNode()
	text, _ := k.MarshalText()
	hexDigits := strings.TrimPrefix(string(text), "privkey:")
	for name, content := range map[string]string{
		"as derper writes it":   fmt.Sprintf("{\n\t\"PrivateKey\": \"privkey:%s\"\n}", hexDigits),
		"on one line":           fmt.Sprintf(`{"PrivateKey":"privkey:%s"}`, hexDigits),
		"with a newline behind": fmt.Sprintf("{\"PrivateKey\":\"privkey:%s\"}\n", hexDigits),
		"with Windows lines":    fmt.Sprintf("{\r\n  \"PrivateKey\": \"privkey:%s\"\r\n}\r\n", hexDigits),
		"name in lower case":    fmt.Sprintf(`{"privatekey":"privkey:%s"}`, hexDigits),
		"name in upper case":    fmt.Sprintf(`{"PRIVATEKEY":"privkey:%s"}`, hexDigits),
		"digits in upper case":  fmt.Sprintf(`{"PrivateKey":"privkey:%s"}`, strings.ToUpper(hexDigits)),
		"other fields":          fmt.Sprintf(`{"Version":3,"PrivateKey":"privkey:%s","Deep":{"PrivateKey":"x"},"Other":null}`, hexDigits),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "derper.key")
			if err := os.WriteFile(file, []byte(content), 0o640); err != nil {
				t.Fatal(err)
			}
			r := relay.Start(t, relay.Options{NoSTUN: true, Dir: dir})
			if r.PublicKey != k.Public() {
				t.Errorf("public key %v, want %v", r.PublicKey, k.Public())
			}
			wire.Login(t, r).WantAlive()
			// The operator's file is left as it is.
			b, err := os.ReadFile(file)
			if err != nil || string(b) != content {
				t.Errorf("the file was changed to %q (%v)", b, err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
				t.Errorf("the file's mode is now %v (%v)", info.Mode(), err)
			}
		})
	}
}

func TestBrokenKeyFilesAreRefused(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("ab", 32)
	for name, content := range map[string]string{
		"empty":           "",
		"no JSON":         "hello",
		"cut short":       `{"PrivateKey":"privkey:` + good,
		"an array":        `["privkey:` + good + `"]`,
		"a number":        `{"PrivateKey":1}`,
		"no key":          `{}`,
		"an empty key":    `{"PrivateKey":""}`,
		"no prefix":       `{"PrivateKey":"` + good + `"}`,
		"a public key":    `{"PrivateKey":"nodekey:` + good + `"}`,
		"62 digits":       `{"PrivateKey":"privkey:` + good[2:] + `"}`,
		"66 digits":       `{"PrivateKey":"privkey:` + good + `ab"}`,
		"no hex":          `{"PrivateKey":"privkey:` + strings.Repeat("zz", 32) + `"}`,
		"the zero key":    `{"PrivateKey":"privkey:` + strings.Repeat("00", 32) + `"}`,
		"something extra": `{"PrivateKey":"privkey:` + good + `"} x`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "k")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			refusesKey(t, dir, file)
			if b, err := os.ReadFile(file); err != nil || string(b) != content {
				t.Errorf("the file was changed to %q (%v)", b, err)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		refusesKey(t, dir, dir)
	})
	t.Run("where no file can be", func(t *testing.T) {
		t.Parallel()
		refusesKey(t, t.TempDir(), "/proc/no/such/k")
	})
	t.Run("below a file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refusesKey(t, dir, filepath.Join(dir, "file", "k"))
	})
}

func refusesKey(t *testing.T, dir, file string) {
	t.Helper()
	args := append(served(t, dir), "-hostname", "127.0.0.1", "-a", fmt.Sprintf("127.0.0.1:%d", relay.FreePort(t, "127.0.0.1")), "-c", file)
	r := run(t, dir, args...)
	// derper panics (status 2) over a missing key.
	if r.status != 1 && !(relay.IsDerper() && r.status == 2) {
		t.Errorf("status %d, want 1; stderr:\n%s", r.status, r.errOut)
	}
	if relay.DetourOnly(t, "messages name the file and the mending") && !strings.Contains(r.errOut, file) {
		t.Errorf("the message does not name %s:\n%s", file, r.errOut)
	}
}

// A key, and a self-signed certificate with its pin, survive a change of the server in both
// directions.
func TestStateIsExchangedWithDerper(t *testing.T) {
	t.Parallel()
	if !relay.DetourOnly(t, "state is exchanged with derper") {
		return
	}
	for _, first := range []string{"derper", "detour"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			start := func(name string) *relay.Relay {
				o := relay.Options{NoSTUN: true, Dir: dir}
				if name == "derper" {
					o.Binary = relay.DerperBinary(t)
				}
				return relay.Start(t, o)
			}
			second := map[string]string{"derper": "detour", "detour": "derper"}[first]
			a := start(first)
			pub, pin := a.PublicKey, a.Pin
			a.Stop()
			for _, name := range []string{second, first} {
				b := start(name)
				if b.PublicKey != pub || b.Pin != pin {
					t.Errorf("%s: key %v and pin %s, want %v and %s", name, b.PublicKey, b.Pin, pub, pin)
				}
				wire.Login(t, b).WantAlive()
				b.Stop()
			}
		})
	}
}
