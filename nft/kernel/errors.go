// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

var (
	// ErrStateUnknown says that the kernel may or may not have committed a transaction: its answer was lost. The caller
	// forgets what it knows of the kernel ([nft.Table.Forget]) and commits the whole table.
	ErrStateUnknown = errors.New("the kernel's answer was lost; its state is unknown")

	// ErrOwned says that another process owns the table and alone may change it, until that process closes its
	// connection: an older netpold that still runs, for one.
	ErrOwned = errors.New("another netpold owns the table")

	// ErrNotSupported says that the kernel lacks something netpold needs. The error that wraps it names that, and the
	// Linux version that has it.
	ErrNotSupported = errors.New("not supported by this kernel")
)

// Error is the kernel's refusal of a transaction. The kernel has changed nothing. Unless it says nothing of the
// transaction, as that another process owns the table, it is the Err of an [*nft.Refused].
type Error struct {
	// Object is what was refused: the operation as [nft.Op.Describe] names it or, where the kernel says which of many
	// elements is to blame, that element's command as nft(8) writes it.
	Object string

	// Errno is the kernel's reason. ENOENT: something that is referred to is missing. EEXIST: an element or set is
	// there already, or an interval overlaps another. EBUSY: something that is deleted is still referred to. EPERM: see
	// ErrOwned.
	Errno unix.Errno

	// Others is the number of further operations of the transaction that were refused.
	Others int
}

// Error returns the refusal in one line.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s", e.Object, e.Errno.Error())
	if errors.Is(e, ErrOwned) {
		text += " (" + ErrOwned.Error() + ")"
	}
	if e.Others > 0 {
		text += fmt.Sprintf(", and %d more operations refused", e.Others)
	}
	return text
}

// Unwrap returns the Errno.
func (e *Error) Unwrap() error { return e.Errno }

// Is makes EPERM be ErrOwned: what a lack of privileges refuses is not an operation but the whole batch, see
// [Conn.Apply].
func (e *Error) Is(target error) bool { return target == ErrOwned && e.Errno == unix.EPERM }

// causeOf returns what an errno tells of the objects of a transaction, and false if it tells nothing of them: the same
// may be taken later.
func causeOf(errno unix.Errno) (nft.Cause, bool) {
	const restartSys, restartBlock = 512, 516 // of the kernel alone, which they should not leave
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

// refusal returns the error of a batch as the refusal of what is in it, if it is one. What of it is to blame is not
// known.
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
