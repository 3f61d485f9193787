// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

var (
	// ErrStateUnknown says that the kernel may or may not have committed a transaction: its answer was lost. The caller
	// should forget what it knows about the kernel ([nft.Table.Forget]) and commit the whole table.
	ErrStateUnknown = errors.New("the kernel's answer was lost; its state is unknown")

	// ErrOwned says that another process, such as an older netpold that is still running, owns the table: only that
	// process may change it until it closes its connection.
	ErrOwned = errors.New("another netpold owns the table")

	// ErrNotSupported says that the kernel lacks something that netpold needs. The error that wraps it names that, and
	// the Linux version that has it.
	ErrNotSupported = errors.New("not supported by this kernel")
)

// causeOf returns what an errno says about the objects of a transaction, and false if it says nothing about them: the
// same transaction may succeed later.
func causeOf(errno unix.Errno) (nft.Cause, bool) {
	const restartSys, restartBlock = 512, 516 // internal to the kernel; should never get out
	switch errno {
	case unix.EPERM, unix.EINTR, unix.EAGAIN, unix.ENOBUFS, unix.ERESTART:
		return 0, false
	case unix.ENOENT, unix.EEXIST, unix.EBUSY:
		return nft.Mismatch, true
	case unix.ENOMEM:
		return nft.Shortage, true
	}
	return nft.Unfit, errno < restartSys || errno > restartBlock
}

// refusal returns the error of a batch as an [nft.Refused] with unknown culprits, if it is a refusal.
func refusal(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	cause, tells := causeOf(errno)
	if !tells {
		return err
	}
	return &nft.Refused{Cause: cause, Err: err}
}
