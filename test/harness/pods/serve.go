// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// dialTimeout is how long a client waits for an answer: drops are silent.
const dialTimeout = 600 * time.Millisecond

// request asks the process in a pod to run commands there, to serve ports, or to reach addresses.
type request struct {
	Run      []string `json:",omitempty"`
	TCP, UDP []int    `json:",omitempty"`
	Dial     []string `json:",omitempty"` // as "tcp/10.0.0.1:80"
}

// answer is the answer to a request.
type answer struct {
	Err     string `json:",omitempty"`
	Reached []bool `json:",omitempty"` // in the order of Dial
}

// Serve is the process in a pod: it answers requests until there are no more.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		var a answer
		if err := r.prepare(ctx); err != nil {
			a.Err = err.Error()
		}
		a.Reached = dial(r.Dial)
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// prepare runs the commands and starts the servers.
func (r request) prepare(ctx context.Context) error {
	if err := Shell(ctx, r.Run...); err != nil {
		return err
	}
	for _, port := range r.TCP {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		go greet(l)
	}
	for _, port := range r.UDP {
		c, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		go echo(c)
	}
	return nil
}

// dial tries all addresses at once and says which of them answer.
func dial(addresses []string) []bool {
	reached := make([]bool, len(addresses))
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() {
			network, address, _ := strings.Cut(address, "/")
			conn, err := net.DialTimeout(network, address, dialTimeout)
			if err != nil {
				return
			}
			defer conn.Close() //nolint:errcheck // only read from
			_ = conn.SetDeadline(time.Now().Add(dialTimeout))
			_, err = fmt.Fprintln(conn, "hello")
			if err == nil {
				_, err = bufio.NewReader(conn).ReadString('\n')
			}
			reached[i] = err == nil
		})
	}
	wg.Wait()
	return reached
}

// greet answers every connection with a line.
func greet(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = bufio.NewReader(conn).ReadString('\n')
			_, _ = fmt.Fprintln(conn, "hello")
			_ = conn.Close()
		}()
	}
}

// echo answers every datagram with itself.
func echo(c net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}
