package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"detour.example/interop/relay"
)

// dialThrough opens a TCP connection from one node to the other through the tailnet and gives both of
// its ends. A node in userspace hands what arrives for its tailnet address to the same port of
// 127.0.0.1, where the test listens.
func dialThrough(t testing.TB, from, to *node) (client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, addr := to.self(t)
	ctx, cancel := context.WithTimeout(t.Context(), nodeTimeout)
	defer cancel()
	client, err = from.local.UserDial(ctx, "tcp", addr.String(), uint16(listener.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatalf("connecting from %s to %s: %v", from.name, to.name, err)
	}
	t.Cleanup(func() { client.Close() })
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(nodeTimeout))
	server, err = listener.Accept()
	if err != nil {
		t.Fatalf("%s did not hand on the connection from %s: %v", to.name, from.name, err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// transfer is a stream of random bytes from one node to the other.
type transfer struct {
	received atomic.Int64
	// done gives, once, nil when every byte arrived intact.
	done chan error
}

// startTransfer sends size bytes. The receiver answers with the hash of what it got: this is how the
// sender knows that everything arrived, for the connection of a node does not half-close.
func startTransfer(t testing.TB, from, to *node, size int64) *transfer {
	t.Helper()
	client, server := dialThrough(t, from, to)
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	t.Logf("sending %d bytes from %s to %s, seed %x", size, from.name, to.name, seed)

	tr := &transfer{done: make(chan error, 1)}
	receiver := make(chan error, 1)
	go func() {
		sum := sha256.New()
		_, err := io.Copy(io.MultiWriter(sum, countTo{&tr.received}), io.LimitReader(server, size))
		if err == nil {
			_, err = server.Write(sum.Sum(nil))
		}
		receiver <- err
	}()
	go func() {
		err := send(client, rand.NewChaCha8(seed), size)
		if err != nil {
			client.Close()
			server.Close() // or the receiver would wait for the rest
		}
		tr.done <- errors.Join(err, <-receiver)
	}()
	return tr
}

// send writes size bytes of source and compares the hash that comes back.
func send(conn net.Conn, source io.Reader, size int64) error {
	var sum hash.Hash = sha256.New()
	if _, err := io.CopyN(io.MultiWriter(conn, sum), source, size); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	answer := make([]byte, sum.Size())
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("waiting for the receiver's hash: %w", err)
	}
	if !bytes.Equal(answer, sum.Sum(nil)) {
		return fmt.Errorf("sent bytes of sha256 %x, received %x", sum.Sum(nil), answer)
	}
	return nil
}

// await waits for the end and fails the test unless everything arrived intact.
func (tr *transfer) await(t testing.TB, timeout time.Duration) {
	t.Helper()
	select {
	case err := <-tr.done:
		if err != nil {
			t.Fatalf("the transfer failed after %d bytes: %v", tr.received.Load(), err)
		}
	case <-time.After(timeout):
		t.Fatalf("the transfer is not complete after %v; %d bytes have arrived", timeout, tr.received.Load())
	}
}

// countTo is a writer that counts.
type countTo struct{ n *atomic.Int64 }

func (c countTo) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// relayCounters are the relay's own, from /debug/vars.
type relayCounters struct {
	Accepts            int64 `json:"accepts"`
	BytesReceived      int64 `json:"bytes_received"`
	BytesSent          int64 `json:"bytes_sent"`
	CurrentConnections int64 `json:"gauge_current_connections"`
	ClientsTotal       int64 `json:"gauge_clients_total"`
	ForwardedOut       int64 `json:"packets_forwarded_out"`
	ForwardedIn        int64 `json:"packets_forwarded_in"`
}

func countersOf(t testing.TB, r *relay.Relay) relayCounters {
	t.Helper()
	res, body, err := r.Get("/debug/vars")
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 {
		t.Fatalf("/debug/vars: %s\n%s", res.Status, body)
	}
	var vars struct {
		DERP *relayCounters `json:"derp"`
	}
	if err := json.Unmarshal(body, &vars); err != nil || vars.DERP == nil {
		t.Fatalf("/debug/vars has no readable \"derp\": %v\n%s", err, body)
	}
	return *vars.DERP
}
