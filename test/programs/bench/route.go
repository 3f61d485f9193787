// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
)

// A route is a client's and a server's network namespace, a third one that forwards between them, connected to each by
// a pair of veth devices, and a TCP connection from end to end.
type route struct {
	files          []*os.File // the namespaces
	sender, target net.Conn
	router         *space // only its namespace, to load rules there
}

// unit is the size of what a route carries.
type unit int

const (
	segments unit = iota // of up to 64 KiB, as veth devices do by default
	packets              // of 1,500 bytes
)

func (u unit) String() string {
	return [...]string{"segments of up to 64 KiB, as veth devices do by default", "packets of 1,500 bytes"}[u]
}

// set makes a device send such units.
func (u unit) set(device string) error {
	if u == segments {
		return nil
	}
	const tso, gso = 0x1f, 0x24 // ETHTOOL_STSO, ETHTOOL_SGSO
	for _, feature := range []uint32{tso, gso} {
		if err := switchOff(device, feature); err != nil {
			return err
		}
	}
	return nil
}

// The addresses on the devices of a route.
func routeEnds() (client, server netip.Addr) {
	return netip.AddrFrom4([4]byte{10, 100, 0, 3}), netip.AddrFrom4([4]byte{10, 100, 1, 1})
}

// newRoute makes a route and moves the calling goroutine into its router, for good.
func newRoute(unit unit) (*route, error) {
	r := &route{}
	for range 3 { // client, server, router
		n, err := netns.New()
		if err != nil {
			return nil, err
		}
		closeQuietly(n)
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return nil, err
		}
		r.files = append(r.files, f)
	}
	r.router = &space{in: -1, out: -1}
	if err := r.setUp(unit); err != nil {
		return nil, errors.Join(fmt.Errorf("set up a route: %w", err), r.Close())
	}
	return r, nil
}

func (r *route) setUp(unit unit) error {
	client, server := routeEnds()
	for i, ip := range []netip.Addr{client, server} {
		gateway := netip.AddrFrom4([4]byte{169, 254, 0, byte(i + 1)})
		path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.files[i].Fd())
		err := command(fmt.Sprintf(`
link add pod%[1]d type veth peer name eth0 netns %[2]s
link set dev pod%[1]d up
address add %[4]s/32 dev pod%[1]d
route add %[3]s/32 dev pod%[1]d
`, i, path, ip, gateway), "ip", "-batch", "-")
		if err != nil {
			return err
		}
		if err := r.within(i, func() error {
			return errors.Join(unit.set("eth0"), command(fmt.Sprintf(
				"link set dev eth0 up\naddress add %[1]s/32 dev eth0\nroute add %[2]s dev eth0\nroute add default "+
					"via %[2]s\n", ip, gateway),
				"ip", "-batch", "-"))
		}); err != nil {
			return err
		}
	}
	if err := netns.SetSysctl("ipv4/ip_forward", "1"); err != nil {
		return err
	}
	return r.connect(netip.AddrPortFrom(server, 80))
}

// within runs f in the namespace of the client (0) or of the server (1), and comes back to the router.
func (r *route) within(i int, f func() error) error {
	if err := unix.Setns(int(r.files[i].Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter a namespace: %w", err)
	}
	err := f()
	if back := unix.Setns(int(r.files[2].Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("go back to a namespace: %w", back))
	}
	return err
}

// connect opens the connection. A socket stays in the namespace in which it was made.
func (r *route) connect(server netip.AddrPort) error {
	var listener net.Listener
	err := r.within(1, func() (err error) {
		listener, err = net.Listen("tcp", server.String())
		return err
	})
	if err != nil {
		return err
	}
	defer closeQuietly(listener)
	if err = r.within(0, func() (err error) {
		r.sender, err = net.Dial("tcp", server.String())
		return err
	}); err != nil {
		return err
	}
	r.target, err = listener.Accept()
	return err
}

// Close closes the connection; the namespaces go with it.
func (r *route) Close() error {
	var errs []error
	for _, c := range []net.Conn{r.sender, r.target} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	if r.router != nil && r.router.kernel != nil {
		errs = append(errs, r.router.kernel.Close())
	}
	return errors.Join(errs...)
}
