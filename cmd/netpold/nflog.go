// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/nflog"
	"github.com/netpold/netpold/watch"
)

// openDrops returns what opens the kernel's log of denied packets.
func openDrops(group uint16) func() (watch.Drops, error) {
	return func() (watch.Drops, error) {
		reader, err := nflog.Open(nflog.Config{Group: group})
		switch {
		case errors.Is(err, nflog.ErrBusy):
			return nil, fmt.Errorf("%w; stop it, or choose another group with --log-group", err)
		case err != nil:
			return nil, fmt.Errorf("%w; the kernel needs CONFIG_NETFILTER_NETLINK_LOG", err)
		}
		return &dropReader{reader: reader}, nil
	}
}

// followDrops logs who was blocked until ctx ends; group 0 is no log.
func followDrops(ctx context.Context, drops *watch.DropFollower) {
	if drops != nil {
		drops.Run(ctx)
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

// Close lets go of the group.
func (r *dropReader) Close() error { return r.reader.Close() }
