// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/preflight"
	"github.com/netpold/netpold/watch/runtime"
)

// runFlags are the flags of `netpold run`.
type runFlags struct {
	node, manifests, kubeconfig, listen string
	taint                               string
	own, manageBridges, dropEvents      bool
	log                                 logFlags
	table                               tableFlags
	observe                             observeFlags
	gate                                gateFlags
}

func runCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Enforce the policies on this node",
		Long: `Enforce the policies on this node until SIGTERM or SIGINT: policies, pods and namespaces
come from the API server or, with --manifests, from a folder. The rules of a previous netpold stay in
force until the new ones are ready, and rules stay in force after netpold ends; "netpold cleanup" removes
them. It needs CAP_NET_ADMIN in the network namespace of the node.`,
		Example: `  # On a node of a cluster
  netpold run --kubeconfig /etc/netpold/kubeconfig --node worker-1

  # Without a cluster: enforce the manifests in a folder, and follow its changes
  netpold run --manifests /etc/netpold/manifests --node worker-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), flags, cmd.ErrOrStderr()) },
	}
	cmd.Flags().StringVar(&flags.manifests, "manifests", "",
		"folder of manifests to enforce instead of an API server")
	cmd.Flags().StringVar(&flags.kubeconfig, "kubeconfig", "",
		"kubeconfig file (default $KUBECONFIG, then the pod's service account)")
	addListenFlag(cmd, &flags.listen)
	cmd.Flags().BoolVar(&flags.own, "own-table", true,
		"own the table, so that nobody else can change or flush it (Linux 6.9 or later)")
	cmd.Flags().BoolVar(&flags.manageBridges, "manage-br-netfilter", false,
		"set the sysctls that send bridged traffic through the forward hook")
	cmd.Flags().BoolVar(&flags.dropEvents, "drop-events", false,
		"also write Kubernetes Events about blocked connections, on the isolated pods")
	cmd.Flags().StringVar(&flags.taint, "taint", "",
		"key of a taint to remove from the node when policies are in force, such as netpold.io/not-ready")
	addNodeFlag(cmd, &flags.node)
	flags.log.add(cmd)
	flags.table.add(cmd)
	flags.observe.add(cmd)
	flags.gate.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("manifests", "kubeconfig")
	cmd.MarkFlagsMutuallyExclusive("manifests", "drop-events")
	cmd.MarkFlagsMutuallyExclusive("manifests", "taint")
	return cmd
}

// defaultListen is where the daemon's endpoints are.
const defaultListen = "127.0.0.1:9911"

// addListenFlag adds --listen, whose default is $NETPOLD_LISTEN or else the loopback address.
func addListenFlag(cmd *cobra.Command, listen *string) {
	address := os.Getenv("NETPOLD_LISTEN")
	if address == "" {
		address = defaultListen
	}
	usage := "address to serve /metrics, /livez, /readyz and /status on; empty turns them off (default " +
		"$NETPOLD_LISTEN, then " +
		defaultListen + ")"
	cmd.Flags().StringVar(listen, "listen", address, usage)
}

// gcPercent is GOGC unless it is set. A node runs short of memory before CPU: half of Go's default saves a sixth of the
// memory in a large cluster, and at 500 pod events a second costs a collection every six seconds.
const gcPercent = 50

// run checks the flags, takes the node and runs a daemon on it.
func run(ctx context.Context, flags runFlags, stderr io.Writer) error {
	log, err := flags.log.logger(stderr)
	if err != nil {
		return err
	}
	klog.SetSlogLogger(log)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	options, err := flags.table.options()
	if err != nil {
		return err
	}
	if options.Observe, err = flags.observe.size(); err != nil {
		return err
	}
	if flags.node == "" {
		return errors.New("--node is not set, and the host has no name")
	}
	if err := flags.gate.check(flags.manifests); err != nil {
		return err
	}
	if flags.dropEvents && flags.table.logGroup == 0 {
		return errors.New("--drop-events needs the log of denied packets, which --log-group=0 turns off")
	}
	from, err := flags.origin(log)
	if err != nil {
		return err
	}
	if flags.manageBridges {
		if err := preflight.ManageBridges("/"); err != nil {
			return err
		}
	}
	conn, err := openKernel(&options, flags, log)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the process ends
	options.TwoWays = conn.WalksEveryWay()
	socket, err := takeNode(ctx, conn, log)
	if err != nil {
		return err
	}
	defer socket.Close() //nolint:errcheck // the process ends
	reads, err := kernel.OpenReader()
	if err != nil {
		return err
	}
	defer reads.Close() //nolint:errcheck // the process ends
	watcher, err := conn.Watch()
	if err != nil {
		return err
	}
	defer watcher.Close() //nolint:errcheck // the process ends
	linux, err := kernelReport(conn)
	if err != nil {
		return err
	}
	log.Info("start", "version", command.Version(), "node", flags.node, "source", flags.sourceName(),
		"linux", linux.Release)
	tellLacks(log, linux)
	d := daemon{conn: conn, reads: reads, watcher: watcher, socket: socket, origin: from,
		linux: linux, log: log}
	err = d.run(ctx, flags, options)
	log.Info("stopped; the table stays in force", "table", "inet "+frame.TableName)
	return err
}

// daemon is everything that a running netpold holds open.
type daemon struct {
	conn    *kernel.Conn
	reads   *kernel.Reader
	watcher *kernel.Watcher
	socket  net.Listener // for the program's own commands
	origin
	linux watch.KernelReport
	log   *slog.Logger
}

// tellLacks logs what this kernel lacks.
func tellLacks(log *slog.Logger, r watch.KernelReport) {
	for _, l := range r.Lacks {
		log.Warn(l.What, "effect", l.Effect, "needs", "Linux "+l.Since, "linux", r.Release)
	}
}

// kernelReport says what this kernel lacks, and the effect.
func kernelReport(conn *kernel.Conn) (watch.KernelReport, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return watch.KernelReport{}, fmt.Errorf("read the kernel's version: %w", err)
	}
	r := watch.KernelReport{Release: unix.ByteSliceToString(name.Release[:])}
	for _, l := range conn.Lacks() {
		r.Lacks = append(r.Lacks, watch.Lack(l))
	}
	return r, nil
}

// run wires source, state, loop and kernel together, until ctx ends or one of them fails.
func (d daemon) run(ctx context.Context, flags runFlags, options translate.Options) error {
	registry := prometheus.NewRegistry()
	var gate *runtime.Plugin
	ends := &endpoints{address: flags.listen, log: d.log}
	loop := watch.NewLoop(translate.New(flags.node, options), watch.LoopConfig{
		Kernel: d.conn, Reads: d.reads, Events: d.events,
		Log: d.log, Version: command.Version(), Node: flags.node, Source: flags.sourceName(), Linux: d.linux,
		Addresses: nodeAddresses,
		Findings: func(r watch.Report) []preflight.Finding {
			return slices.Concat(preflight.Check(os.DirFS("/"), r.Pods.Node), gateFindings(gate),
				guardFindings(r.Guard), ends.findings())
		},
	})
	gate = flags.gate.plugin(loop, flags.node, d.log)
	for _, c := range slices.Concat(loop.Collectors(), gate.Collectors(), []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}) {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	if group := flags.table.logGroup; group != 0 {
		loop.Drops().Open(openDrops(group)) // before anything is in force
	}
	// Nobody waits for the source: while the API server is away, it is slow to notice that ctx has ended.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- d.source.Run(ctx, loop)
	}()
	group, all := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		func(ctx context.Context) error { loop.Run(ctx); return nil },
		func(ctx context.Context) error { return followDrift(ctx, loop, d.watcher) },
		func(ctx context.Context) error { loop.Drops().Run(ctx); return nil },
		func(ctx context.Context) error { loop.Flows().Run(ctx); return nil },
		func(ctx context.Context) error { gate.Run(ctx); return nil },
		func(ctx context.Context) error {
			return serve(ctx, d.socket, private(watch.NodeHandler(loop, registry)))
		},
		func(ctx context.Context) error { d.events.Run(ctx); return nil },
		func(ctx context.Context) error { d.untaint(ctx, flags, loop, gate); return nil },
		func(ctx context.Context) error { return ends.serve(ctx, watch.Handler(loop, registry)) },
	} {
		group.Go(func() error { return run(all) })
	}
	err := group.Wait()
	select {
	case failed := <-ended:
		return cmp.Or(err, failed)
	default:
		return err
	}
}

// nodeAddresses returns the addresses on the links of this network namespace.
func nodeAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs, nil
}

// followDrift tells the loop about changes that others make to the table, until ctx ends.
func followDrift(ctx context.Context, loop *watch.Loop, watcher *kernel.Watcher) error {
	for {
		e, err := watcher.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch for table changes by others: %w", err)
		case slices.Contains(e.Tables, frame.TableName):
			loop.Drifted(e.Program)
		case e.Lost:
			loop.Lost()
		}
	}
}

// serve answers on l until ctx ends.
func serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ConnContext: withPeer,
		ConnState: new(connections).note}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// sourceName is the name of the source in reports.
func (f runFlags) sourceName() string {
	if f.manifests != "" {
		return "folder " + f.manifests
	}
	return "API server"
}

// logFlags say how the daemon logs.
type logFlags struct{ level, format string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	command.OneOf(&f.format, "text", "json").Add(cmd, pflag.Flag{Name: "log-format", DefValue: "text",
		Usage: "text or json"})
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, fmt.Errorf("--log-level=%s: want debug, info, warn or error", f.level)
	}
	options := &slog.HandlerOptions{Level: level}
	if f.format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}
