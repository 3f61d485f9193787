// SPDX-License-Identifier: Apache-2.0

package drops_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

// nobody is the id of an unprivileged user.
const nobody = 65534

// asNobody calls f as that user. Only the calling thread changes, which belongs to the test.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	become := func(user uintptr) error {
		const keep = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, user, keep); errno != 0 {
			return errno
		}
		return nil
	}
	if err := become(nobody); err != nil {
		t.Skipf("needs to run as root: %v", err)
	}
	defer func() {
		if err := become(0); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// impostor listens where netpold does, and answers like a healthy one. It counts the requests.
func impostor(t *testing.T) *atomic.Int32 {
	t.Helper()
	l, err := net.Listen("unix", "@netpold")
	if err != nil {
		t.Fatal(err)
	}
	asked := new(atomic.Int32)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = fmt.Fprintln(w, `{"node": "a false node", "synced": true, "inSync": true, "allowed": true}`)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return asked
}

// sockets returns the names of the abstract unix sockets that a netpold could have.
func sockets(t *testing.T) []string {
	t.Helper()
	all, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for word := range strings.FieldsSeq(string(all)) {
		if strings.HasPrefix(word, "@netpold") && !slices.Contains(found, word) {
			found = append(found, word)
		}
	}
	return found
}

// testImpostor: an unprivileged user who takes the socket first neither keeps netpold from starting nor from answering,
// and learns nothing.
func testImpostor(t *testing.T, program string) {
	p := prober.New(t)
	var asked *atomic.Int32
	asNobody(t, func() { asked = impostor(t) })
	if out, exit := ask(t, program, "status"); exit != 2 || !strings.Contains(out, "@netpold is held by pid") {
		t.Errorf("without a netpold: exit %d: %s", exit, out)
	}
	d := start(t, program)
	warned := func(l line) bool {
		return l.Level == "WARN" && strings.Contains(l.Msg, "another process holds the control socket")
	}
	if !slices.ContainsFunc(d.begin, warned) {
		t.Errorf("no warning: %+v", d.begin)
	}
	send(t, p, false, prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 6379})
	d.await(t, "(10.1.0.2:6379)")
	for _, test := range []struct {
		exit int
		text string
		args []string
	}{
		{0, "In sync:           yes", []string{"status"}},
		{0, "shop/db (10.1.0.2:6379) blocked", []string{"drops"}},
		{1, "denied: isolated by shop/db-allow", []string{"explain", "shop/web", "shop/db:6379"}},
	} {
		out, exit := ask(t, program, test.args...)
		if exit != test.exit || !strings.Contains(out, test.text) || strings.Contains(out, "a false node") {
			t.Errorf("%v: exit %d:\n%s", test.args, exit, out)
		}
	}
	refused(t, program, fmt.Sprintf("pid %d (netpold), user 0", d.cmd.Process.Pid))
	if n := asked.Load(); n != 0 {
		t.Errorf("the impostor was asked %d times", n)
	}
	for _, name := range sockets(t) {
		asNobody(t, func() { forbidden(t, name) })
	}
	d.stop(t)
}

// forbidden asks a socket what was denied, and gets no answer if it is netpold's.
func forbidden(t *testing.T, name string) {
	t.Helper()
	conn, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprint(conn, "GET /drops HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if want := http.StatusForbidden; name != "@netpold" && response.StatusCode != want {
		t.Errorf("%s answers user %d with %s", name, nobody, response.Status)
	}
}

// refused starts a second netpold, which ends and says which one is first.
func refused(t *testing.T, program, holder string) {
	t.Helper()
	args := []string{"run", "--manifests", t.TempDir(), "--node", "node", "--listen", "", "--log-group", "0"}
	out, exit := ask(t, program, args...)
	if exit != 2 || !strings.Contains(out, "another netpold is running on this node") ||
		!strings.Contains(out, holder) {
		t.Errorf("a second netpold: exit %d: %s\nwant %q", exit, out, holder)
	}
}

// testTwo: the second of two netpolds on a node ends, whoever owns the table; after kill -9 of the first, it starts.
func testTwo(t *testing.T, program string) {
	for _, own := range []string{"--own-table", "--own-table=false"} {
		t.Run(own, func(t *testing.T) {
			netns.Enter(t)
			d := start(t, program, own)
			refused(t, program, fmt.Sprintf("pid %d (netpold), user 0", d.cmd.Process.Pid))
			if err := d.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = d.cmd.Wait()
			left := strings.Contains(netns.NFT(t, "", "list", "tables"), "lock")
			start(t, program, own).stop(t)
			if left {
				netns.Lacks(t, "a lock that goes with who holds it", 5, 12)
			}
		})
	}
}

// testOlder: a netpold older than the lock is recognised by its socket, which is root's, and because it listens to
// changes of nf_tables.
func testOlder(t *testing.T, program string) {
	netns.Enter(t)
	impostor(t)
	conn, err := kernel.Open(kernel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	watcher, err := conn.Watch()
	if err != nil {
		t.Fatal(err)
	}
	refused(t, program, fmt.Sprintf("pid %d (", os.Getpid()))
	if err := watcher.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, program).stop(t) // root in a container without CAP_NET_ADMIN could have the socket, too
}
