// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// unsettled is how long a packet is taken to be under way at most, where the kernel cannot be asked. It takes
// microseconds, unless the CPU that it is on is taken away from the machine.
const unsettled = 250 * time.Millisecond

// Settle waits until no packet is under way in nf_tables that was when it was called. The kernel knows: packets are its
// RCU readers, and membarrier(2) waits for all of them, some 20 ms. It does not where CPUs run without a tick
// (nohz_full), or seccomp forbids it.
func (*Conn) Settle(ctx context.Context) error {
	const everybody = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, everybody, 0, 0); errno == 0 {
		return ctx.Err()
	}
	return pause(ctx, unsettled)
}
