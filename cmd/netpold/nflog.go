// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/nflog"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/drops"
)

// openDrops returns a function that opens the kernel's log of denied packets.
func openDrops(group uint16) func() (drops.Reader, error) {
	return func() (drops.Reader, error) {
		reader, err := nflog.Open(group)
		switch {
		case errors.Is(err, nflog.ErrBusy):
			return nil, fmt.Errorf("%w; stop it, or choose another group with --log-group", err)
		case err != nil:
			return nil, fmt.Errorf("%w; the kernel needs CONFIG_NETFILTER_NETLINK_LOG", err)
		}
		return &dropReader{reader: reader}, nil
	}
}

// dropReader reads denied packets from NFLOG.
type dropReader struct {
	reader *nflog.Reader
	batch  [100]nflog.Packet
}

// Read waits for packets, and fills batch.
func (r *dropReader) Read(ctx context.Context, batch []drops.Packet) (int, error) {
	n, err := r.reader.Read(ctx, r.batch[:min(len(batch), len(r.batch))])
	for i, p := range r.batch[:n] {
		batch[i] = drops.Packet{
			Flow:   policy.Flow{Src: p.Src, Dst: p.Dst, Proto: p.Proto, DstPort: p.DstPort, ICMPType: p.ICMPType},
			Prefix: p.Prefix, SrcPort: p.SrcPort, ICMPCode: p.ICMPCode,
			Opens:   p.Proto == nft.TCP && p.TCPFlags&(nflog.SYN|nflog.ACK) == nflog.SYN,
			Partial: p.Fragment || p.Truncated,
		}
	}
	return n, err
}

// Lost returns how many packets were logged and lost.
func (r *dropReader) Lost() uint64 { return r.reader.Stats().Lost }

// Close releases the group.
func (r *dropReader) Close() error { return r.reader.Close() }
