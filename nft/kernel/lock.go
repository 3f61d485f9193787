// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// ErrLocked says that another process has taken a lock.
var ErrLocked = errors.New("the lock is taken")

// Lock is a lock on a network namespace that only a process with CAP_NET_ADMIN there can take: an empty table of the
// inet family.
type Lock struct {
	Comment string // from the process that took it, about itself

	// Held says that the process that took the lock still has it. From Linux 5.12 on that is always so, as the kernel
	// deletes the table with the socket that made it. Before that the table outlives the process, and Held is not set.
	Held bool

	handle []byte // the kernel's number of the table
}

// Lock takes a lock until c is closed, replacing stale if that is not nil. If another process has the lock, the error
// is ErrLocked.
func (c *Conn) Lock(ctx context.Context, name, comment string, stale *Lock) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := c.lock(name, comment, message.TableOwner, stale)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) { // the kernel knows no owners
		err = c.lock(name, comment, 0, stale)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrOwned), errors.Is(err, unix.EEXIST),
		errors.Is(err, unix.ENOENT): // stale is gone already
		err = ErrLocked
	}
	return fmt.Errorf("lock %s: %w", name, err)
}

// lock makes the table. Deleting the stale one by its handle makes sure that of two processes that find it stale, only
// one succeeds.
func (c *Conn) lock(name, comment string, flags uint32, stale *Lock) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	tx := &nft.Transaction{Table: name, Ops: []nft.Op{{Verb: nft.DeleteTable}, {Verb: nft.AddTable}}}
	e := &message.Encoder{Batch: message.Batch{Seq: c.seq}, Tx: tx}
	e.Begin()
	if stale != nil {
		e.Command(message.Message{Op: 0}, unix.NFT_MSG_DELTABLE, 0, func() {
			e.Attr(message.TableHandle, stale.handle)
		})
	}
	e.Command(message.Message{Op: 1}, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func() {
		e.Str(unix.NFTA_TABLE_NAME, name)
		e.U32(unix.NFTA_TABLE_FLAGS, flags)
		e.Comment(message.TableUserData, comment)
	})
	e.Acknowledge()
	e.End()
	c.seq += uint32(len(e.Messages))
	_, err := c.commit(e)
	return err
}

// ReadLock returns a lock, or [fs.ErrNotExist] if nobody has taken it. It needs CAP_NET_ADMIN, too; without it, the
// error is [fs.ErrPermission].
func ReadLock(ctx context.Context, name string) (Lock, error) {
	r, err := OpenReader()
	if err != nil {
		return Lock{}, err
	}
	defer r.Close() //nolint:errcheck // only read from
	var l Lock
	err = r.exchange(ctx, query{typ: unix.NFT_MSG_GETTABLE, table: name}, func(attrs []byte) {
		l.Comment = message.CommentOf(message.Attribute(attrs, message.TableUserData))
		l.Held = message.Attribute(attrs, message.TableOwnerPort) != nil
		l.handle = append(l.handle, message.Attribute(attrs, message.TableHandle)...)
	})
	if err != nil {
		return Lock{}, fmt.Errorf("read lock %s: %w", name, err)
	}
	return l, nil
}
