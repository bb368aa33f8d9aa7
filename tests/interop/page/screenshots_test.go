package page_test

import (
	"bytes"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"detour.example/interop/relay"
	"detour.example/interop/wire"
	"tailscale.com/types/key"
)

// screenshotsMax is how large the pictures of the documentation may be, in bytes.
const screenshotsMax = 150 << 10

// TestScreenshots makes the pictures of the documentation, called by web/screenshots; and looks whether
// those that are there could be.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("DETOUR_SCREENSHOTS")
	if dir == "" {
		checkScreenshots(t)
		return
	}
	seconds, err := strconv.Atoi(os.Getenv("DETOUR_SCREENSHOTS_SECONDS"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[key.NodePublic]string{}
	var keys []key.NodePrivate
	for _, name := range []string{"ann’s laptop", "build server", "office router", "phone", "backup", "家里的电脑", "camera 1", "camera 2", "", ""} {
		k := key.NewNode()
		keys = append(keys, k)
		names[k.Public()] = name
	}
	var extra []key.NodePrivate
	for i := range 6 {
		k := key.NewNode()
		extra = append(extra, k)
		names[k.Public()] = fmt.Sprintf("guest %d", i+1)
	}
	s := startAs(t, relay.Options{Host: "203.0.113.7", Serve: true}, "--allow-file", allowFile(t, names))
	var clients []*wire.Conn
	for i, k := range keys {
		c := wire.Dial(t, s.Relay)
		c.Priv, c.Pub = k, k.Public()
		c.Login(`{"version":2,"CanAckPings":true,"AppName":"` + []string{"", "tsnet"}[i/9] + `"}`)
		c.Put(wire.Encode(wire.NotePreferred, []byte{1}))
		clients = append(clients, c)
		discard(c)
	}
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	done, end := make(chan struct{}), make(chan struct{})
	// Each client sends to its neighbour, some more, some less, and more or less as time goes by.
	for i, c := range clients[:8] {
		go func() {
			defer func() { done <- struct{}{} }()
			to := clients[i^1].Pub
			mean := 3000 / math.Pow(1.8, float64(i))
			for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
				select {
				case <-end:
					return
				default:
				}
				at := time.Since(start).Seconds()
				wave := 1 + 0.5*math.Sin(at/(9+2*float64(i))) + 0.25*math.Sin(at/3.1+float64(i))
				for range int(mean * wave / 20) {
					c.Write(wire.Encode(wire.SendPacket, wire.Raw(to), make([]byte, 1280)))
				}
				if i == 2 && math.Mod(at, 45) < 6 {
					for range 4 {
						c.Write(wire.Encode(wire.SendPacket, wire.Raw(keys[0].Public()), make([]byte, 100)))
						c.Write(wire.Encode(wire.SendPacket, wire.Raw(key.NewNode().Public()), make([]byte, 100)))
					}
				}
			}
		}()
	}
	// Guests come and go.
	var guests []*wire.Conn
	for i := 0; time.Now().Before(until); i++ {
		if wanted := int(2.5 - 2.4*math.Cos(float64(i)/11)); wanted > len(guests) {
			k := extra[len(guests)]
			c := wire.LoginAs(t, s.Relay, k)
			guests = append(guests, c)
			discard(c)
		} else if wanted < len(guests) {
			guests[len(guests)-1].Close()
			guests = guests[:len(guests)-1]
		}
		time.Sleep(2 * time.Second)
		if i == 0 {
			exec.Command(relay.DetourBinary(t), "doctor", "--pid", strconv.Itoa(s.Pid)).Run()
		}
	}
	shoot := func(name string, height int, o tabOptions) {
		p := open(t, s.url(), o)
		p.wait("[")
		for n := p.asked(); p.asked() < n+2; {
			time.Sleep(50 * time.Millisecond)
		}
		if err := os.WriteFile(filepath.Join(dir, name), smaller(t, p.screenshot(height)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The traffic goes on while the pictures are taken.
	shoot("status-light.png", 1020, tabOptions{})
	shoot("status-dark.png", 1020, tabOptions{dark: true, language: "zh-CN"})
	shoot("status-phone.png", 1500, tabOptions{width: 390, height: 844, phone: true})
	shoot("whole-light.png", 0, tabOptions{})
	shoot("whole-phone.png", 0, tabOptions{width: 360, height: 740, phone: true, dark: true, language: "zh-CN"})
	close(end)
	for range 8 {
		<-done
	}
}

// discard reads whatever comes, until the connection ends.
func discard(c *wire.Conn) {
	c.SetReadDeadline(time.Time{})
	go io.Copy(io.Discard, c)
}

// smaller packs a picture better than browsers do.
func smaller(t *testing.T, picture []byte) []byte {
	t.Helper()
	decoded, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&packed, decoded); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// checkScreenshots sees to it that the pictures are there, are pictures and are small.
func checkScreenshots(t *testing.T) {
	t.Helper()
	for _, name := range []string{"status-light.png", "status-dark.png", "status-phone.png"} {
		picture, err := os.ReadFile(filepath.Join(relay.ModuleDir(), "..", "..", "docs", "images", name))
		if err != nil {
			t.Fatal(err)
		}
		config, err := png.DecodeConfig(bytes.NewReader(picture))
		if err != nil || config.Width < 360 || len(picture) > screenshotsMax {
			t.Errorf("%s: %d bytes, %+v, %v; make it anew with web/screenshots", name, len(picture), config, err)
		}
	}
}
