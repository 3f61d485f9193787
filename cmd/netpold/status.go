// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
)

// statusFlags are the flags of `netpold status`.
type statusFlags struct{ listen, output string }

func statusCommand() *cobra.Command {
	var flags statusFlags
	cmd := &cobra.Command{
		Use:   "status [POLICY]",
		Short: "Show whether the daemon on this node is in sync, and what it enforces",
		Long: `Show the state of the daemon on this node: whether the kernel holds what the policies say, how many pods
are isolated, which policies are not in force as written and why, and what on this node lets traffic bypass
the policies. Given a NetworkPolicy as NAMESPACE/NAME, or a ClusterNetworkPolicy as NAME, show whether it is in
force on this node, as it is written, and for which pods.

Exit status: 0 in sync or in force, 1 not, 2 no daemon answers.`,
		Example: `  netpold status
  netpold status shop/db-allow
  netpold status shop-guard
  kubectl -n kube-system exec ds/netpold -- netpold status -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				query := url.Values{"name": args}
				report, err := show(cmd, flags, "/policy?"+query.Encode(), command.PrintPolicy)
				return cmp.Or(err, command.Yes(report.InForce))
			}
			report, err := show(cmd, flags, "/status", command.PrintStatus)
			return cmp.Or(err, command.Yes(report.InSync))
		},
	}
	cmd.Flags().StringVar(&flags.listen, "listen", "",
		"address of the daemon's endpoints (default the daemon of this network namespace)")
	command.AddOutput(cmd, &flags.output, "text or json")
	return cmd
}

// show prints what the daemon answers, and returns it.
func show[T any](cmd *cobra.Command, f statusFlags, path string, print func(io.Writer, string, T) error) (T, error) {
	var answer T
	if err := ask(cmd.Context(), f.listen, path, &answer); err != nil {
		return answer, err
	}
	if err := print(cmd.OutOrStdout(), f.output, answer); err != nil {
		return answer, fmt.Errorf("print the status: %w", err)
	}
	return answer, nil
}

// listenAddress returns address in the form that package net wants: an IPv6 address gets brackets, which the downward
// API leaves out in "$(HOST_IP):9911".
func listenAddress(address string) string {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return address
	}
	if a, err := netip.ParseAddr(address[:i]); err == nil && a.Is6() {
		return net.JoinHostPort(a.String(), address[i+1:])
	}
	return address
}

// askTimeout bounds a request to the daemon, which is on this node.
const askTimeout = 10 * time.Second

// maxAnswer is how much of an error response is printed, in bytes.
const maxAnswer = 1000

// ask decodes the daemon's JSON answer; see open.
func ask(ctx context.Context, listen, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := open(ctx, listen, path)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read from
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// open sends a request to the daemon, on its socket or, if listen is not empty, its endpoints.
func open(ctx context.Context, listen, path string) (io.ReadCloser, error) {
	client, where := http.DefaultClient, listen
	if listen == "" {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dialNode(ctx) }
		client, where = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
			"localhost"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listenAddress(where)+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--listen=%s: %w", listen, err)
	}
	response, err := client.Do(request)
	if refused := (*net.OpError)(nil); errors.As(err, &refused) {
		return nil, noDaemon(listen, refused.Err)
	}
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		err = failed.Err // the rest only repeats the request
	}
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()                                     //nolint:errcheck // only read from
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer)) // best effort: the status says enough
	if response.StatusCode == http.StatusBadRequest {               // the text says what is wrong with the request
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return nil, fmt.Errorf("ask the daemon: %s: %s", response.Status, text)
}

// noDaemon is the error of a daemon that cannot be reached.
func noDaemon(listen string, err error) error {
	if listen != "" {
		return fmt.Errorf("no daemon answers on %s (is `netpold run` running, and with this --listen?): %w", listen,
			err)
	}
	return fmt.Errorf("no daemon answers in this network namespace (is `netpold run` running?): %w", err)
}
