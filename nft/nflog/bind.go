// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// How much the kernel gathers in a datagram. On Linux 6.18 a reader loses a third of 65,000 packets a second with one
// datagram each, and with this none of 150,000.
const (
	threshold  = 100      // packets
	timeout    = 10       // until it is sent anyway, in units of 10 ms
	allocation = 64 << 10 // bytes: enough for as many packets of snaplen bytes
)

// snaplen is how many bytes of each packet the kernel copies, enough for the headers and 48 bytes of IPv6 extension
// headers; a rule's own `snaplen` can lower it.
const snaplen = 128

// bind makes the socket the reader of the group and configures it. In one message, the kernel binds first and
// configures right after; a packet logged in between has no sequence number.
func (r *Reader) bind() error {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Uint8(configCommand, commandBind)
	e.Bytes(configMode, append(binary.BigEndian.AppendUint32(nil, snaplen), modePacket, 0))
	e.Uint32(configBuffer, allocation)
	e.Uint32(configTimeout, timeout)
	e.Uint32(configThreshold, threshold)
	e.Uint16(configFlags, flagSeq)
	settings, err := e.Encode()
	if err != nil {
		return err
	}
	err = r.request(configMessage, settings)
	switch {
	case errors.Is(err, unix.EPERM) && r.permitted():
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("CAP_NET_ADMIN is missing: %w", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("is CONFIG_NETFILTER_NETLINK_LOG missing? %w", err)
	}
	return err
}

// permitted says whether the process has CAP_NET_ADMIN: the kernel returns EPERM without it, but also if the group is
// taken. The request is one that the kernel always refuses, but with another error if the capability is there.
func (r *Reader) permitted() bool {
	return !errors.Is(r.request(packetMessage, nil), unix.EPERM)
}

// request sends one message about the group and returns the kernel's answer.
func (r *Reader) request(typ netlink.HeaderType, attrs []byte) error {
	header := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(r.group >> 8), byte(r.group)}
	sent, err := r.conn.Send(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(header, attrs...),
	})
	if err != nil {
		return err
	}
	for { // The answer has arrived by now, perhaps after packets.
		messages, err := r.conn.Receive()
		var refused *netlink.OpError
		switch {
		case errors.Is(err, unix.ENOBUFS):
		case errors.As(err, &refused):
			return refused.Err
		case err != nil:
			return err
		}
		for _, m := range messages {
			if m.Header.Type == netlink.Error && m.Header.Sequence == sent.Header.Sequence {
				return nil
			}
		}
	}
}
