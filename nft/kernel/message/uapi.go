// SPDX-License-Identifier: Apache-2.0

package message

// Constants of the kernel's include/uapi/linux/netfilter/nf_tables.h that golang.org/x/sys/unix lacks.
const (
	TableHandle    = 4  // NFTA_TABLE_HANDLE
	TableUserData  = 6  // NFTA_TABLE_USERDATA
	TableOwnerPort = 7  // NFTA_TABLE_OWNER, of tables that have one
	chainUserData  = 12 // NFTA_CHAIN_USERDATA
	setExpr        = 17 // NFTA_SET_EXPR
	SetCount       = 20 // NFTA_SET_COUNT, Linux 6.16

	TableOwner   = 0x2 // NFT_TABLE_F_OWNER, Linux 5.12
	TablePersist = 0x4 // NFT_TABLE_F_PERSIST, Linux 6.9
)

// policyAccept is the policy of every base chain (NF_ACCEPT).
const policyAccept = 1

// byteOrderBig is what nft(8) notes in the user data of a set whose keys are in network byte order.
const byteOrderBig = 2
