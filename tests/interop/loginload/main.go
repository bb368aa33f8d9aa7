// Command loginload logs in to a relay over and over with Tailscale's own client, and prints how
// often it did. bench/compare runs it beside the logins of detour-load, since this client also offers
// the post-quantum key exchange of Go's TLS, which detour-load has not.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

func main() {
	target := flag.String("target", "", "`IP:port` of the relay")
	duration := flag.Duration("duration", 5*time.Second, "how long")
	atOnce := flag.Int("concurrent", 8, "logins at once")
	keys := flag.Int("keys", 512, "node keys that take turns")
	flag.Parse()
	result, err := run(*target, *duration, *atOnce, *keys)
	if err != nil {
		fmt.Fprintln(os.Stderr, "loginload:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

type report struct {
	Logins          int64   `json:"logins"`
	LoginsPerSecond float64 `json:"logins_per_s"`
}

func run(target string, duration time.Duration, atOnce, keyCount int) (*report, error) {
	if atOnce < 1 || keyCount < 1 {
		return nil, errors.New("-concurrent and -keys are at least 1")
	}
	region, err := regionOf(target)
	if err != nil {
		return nil, err
	}
	keys := make([]key.NodePrivate, keyCount)
	for i := range keys {
		keys[i] = key.NewNode()
	}
	started := time.Now()
	var taken, done atomic.Int64
	failures := make(chan error, atOnce)
	var clients sync.WaitGroup
	for range atOnce {
		clients.Go(func() {
			for time.Since(started) < duration {
				if err := logIn(region, keys[int(taken.Add(1))%len(keys)]); err != nil {
					failures <- err
					return
				}
				done.Add(1)
			}
		})
	}
	clients.Wait()
	close(failures)
	if err := <-failures; err != nil {
		return nil, err
	}
	return &report{Logins: done.Load(), LoginsPerSecond: float64(done.Load()) / time.Since(started).Seconds()}, nil
}

func regionOf(target string) (*tailcfg.DERPRegion, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, fmt.Errorf("-target: %w", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("-target: %w", err)
	}
	return &tailcfg.DERPRegion{RegionID: 1, RegionCode: "bench", Nodes: []*tailcfg.DERPNode{{
		Name: "bench", RegionID: 1, HostName: host, IPv4: host, DERPPort: int(number), InsecureForTests: true,
	}}}, nil
}

func logIn(region *tailcfg.DERPRegion, node key.NodePrivate) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := derphttp.NewRegionClient(node, func(string, ...any) {}, netmon.NewStatic(),
		func() *tailcfg.DERPRegion { return region })
	defer client.Close()
	return client.Connect(ctx)
}
