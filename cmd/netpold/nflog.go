// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/nflog"
	"github.com/netpold/netpold/watch"
)

// openDrops opens the kernel's log of denied packets; group 0 is none. To enforce is more than to explain: where the log cannot be had, the
// daemon goes on without it and says so.
func openDrops(group uint16, log *slog.Logger) *nflog.Reader {
	if group == 0 {
		return nil
	}
	reader, err := nflog.Open(nflog.Config{Group: group})
	if err == nil {
		return reader
	}
	remedy := "the kernel needs CONFIG_NETFILTER_NETLINK_LOG"
	if errors.Is(err, nflog.ErrBusy) {
		remedy = "stop the other process, or choose another group with --log-group"
	}
	log.Warn("denied packets are not told of; the policies are in force", "group", group, "err", err, "remedy", remedy)
	return nil
}

// followDrops logs who was blocked until ctx ends, and longer than the kernel's log if that fails.
func followDrops(ctx context.Context, loop *watch.Loop, reader *nflog.Reader) {
	if reader != nil {
		defer reader.Close() //nolint:errcheck // the process ends
		if err := loop.FollowDrops(ctx, &dropReader{reader: reader}); err != nil {
			loop.Log.Warn("denied packets are not told of any more; the policies are in force", "err", err)
		}
	}
	<-ctx.Done()
}

// dropReader reads drops from the log of the kernel.
type dropReader struct {
	reader *nflog.Reader
	batch  [100]nflog.Packet
}

// Read waits until there are some.
func (r *dropReader) Read(ctx context.Context, batch []watch.Drop) (int, error) {
	n, err := r.reader.Read(ctx, r.batch[:min(len(batch), len(r.batch))])
	for i, p := range r.batch[:n] {
		batch[i] = watch.Drop{
			Prefix: p.Prefix, Src: p.Src, Dst: p.Dst, Proto: p.Proto, SrcPort: p.SrcPort, DstPort: p.DstPort,
			ICMPType: p.ICMPType, ICMPCode: p.ICMPCode,
			Opens:   p.Proto == nft.TCP && p.TCPFlags&(nflog.SYN|nflog.ACK) == nflog.SYN,
			Partial: p.Fragment || p.Truncated,
		}
	}
	return n, err
}

// Lost returns how many packets were logged and lost.
func (r *dropReader) Lost() uint64 { return r.reader.Stats().Lost }
