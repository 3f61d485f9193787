// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// unsettled is the assumed upper bound for a packet in flight, if the kernel cannot be asked. It takes microseconds,
// unless the (virtual) CPU is paused.
const unsettled = 250 * time.Millisecond

// Settle waits until every packet that was in nf_tables when it was called has left. Packets are RCU readers, and
// membarrier(2) waits for all of those, some 20 ms, unless CPUs run without a tick (nohz_full) or seccomp forbids it.
func (*Conn) Settle(ctx context.Context) error {
	const everybody = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, everybody, 0, 0); errno == 0 {
		return ctx.Err()
	}
	return pause(ctx, unsettled)
}
