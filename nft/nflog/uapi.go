// SPDX-License-Identifier: Apache-2.0

package nflog

import "golang.org/x/sys/unix"

// Constants of the kernel's include/uapi/linux/netfilter/nfnetlink_log.h that golang.org/x/sys/unix lacks.
const (
	packetMessage = unix.NFNL_SUBSYS_ULOG << 8   // NFULNL_MSG_PACKET, 0
	configMessage = unix.NFNL_SUBSYS_ULOG<<8 | 1 // NFULNL_MSG_CONFIG

	configCommand   = 1 // NFULA_CFG_CMD
	configMode      = 2 // NFULA_CFG_MODE
	configBuffer    = 3 // NFULA_CFG_NLBUFSIZ
	configTimeout   = 4 // NFULA_CFG_TIMEOUT
	configThreshold = 5 // NFULA_CFG_QTHRESH
	configFlags     = 6 // NFULA_CFG_FLAGS

	commandBind = 1 // NFULNL_CFG_CMD_BIND
	modePacket  = 2 // NFULNL_COPY_PACKET
	flagSeq     = 1 // NFULNL_CFG_F_SEQ

	attrHeader  = 1  // NFULA_PACKET_HDR
	attrPayload = 9  // NFULA_PAYLOAD
	attrPrefix  = 10 // NFULA_PREFIX
	attrSeq     = 12 // NFULA_SEQ
)
