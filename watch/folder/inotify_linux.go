// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchMask has IN_CLOSE_WRITE, after which a file is read, and IN_MODIFY, after which it is not read before the next
// IN_CLOSE_WRITE: half a policy may well parse.
const watchMask = unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_CREATE | unix.IN_DELETE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// inotify watches folders, for one goroutine.
type inotify struct {
	file *os.File // in the runtime's poller
	conn syscall.RawConn
	dirs map[string]int32   // watch of each folder
	wds  map[int32][]string // the inverse; symbolic links give a folder several names
}

// inotifyEvent is an event of name in dir, or of dir itself if name is empty.
type inotifyEvent struct {
	dir, name string
	mask      uint32
}

func newInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err) // EMFILE: fs.inotify.max_user_instances
	}
	file := os.NewFile(uintptr(fd), "inotify")
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &inotify{file: file, conn: conn, dirs: make(map[string]int32), wds: make(map[int32][]string)}, nil
}

// add watches a folder under the name of dir.
func (i *inotify) add(dir string) error {
	var wd int
	var err error
	if connErr := i.conn.Control(func(fd uintptr) {
		wd, err = unix.InotifyAddWatch(int(fd), dir, watchMask)
	}); connErr != nil {
		return connErr
	}
	if err != nil {
		return fmt.Errorf("inotify: %w", err) // ENOSPC: fs.inotify.max_user_watches
	}
	if old, watched := i.dirs[dir]; watched && old != int32(wd) {
		i.remove(dir)
	}
	i.dirs[dir] = int32(wd)
	if !slices.Contains(i.wds[int32(wd)], dir) {
		i.wds[int32(wd)] = append(i.wds[int32(wd)], dir)
	}
	return nil
}

// remove ends the watches of dir and everything below it.
func (i *inotify) remove(dir string) {
	for path, wd := range i.dirs {
		if !isBelow(path, dir) {
			continue
		}
		delete(i.dirs, path)
		i.wds[wd] = slices.DeleteFunc(i.wds[wd], func(name string) bool { return name == path })
		if len(i.wds[wd]) == 0 {
			delete(i.wds, wd)
			_ = i.conn.Control(func(fd uintptr) {
				_, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) // fails if the folder is gone, and its watch with it
			})
		}
	}
}

// queued returns the queued events without waiting.
func (i *inotify) queued() ([]inotifyEvent, error) {
	var events []inotifyEvent
	var err error
	if connErr := i.conn.Control(func(fd uintptr) { events, err = i.drain(fd) }); connErr != nil {
		return nil, connErr
	}
	return events, err
}

// read waits for events and returns all that are queued by then. It returns [os.ErrDeadlineExceeded] after timeout,
// unless that is 0, and when ctx ends.
func (i *inotify) read(ctx context.Context, timeout time.Duration) ([]inotifyEvent, error) {
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := i.file.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = i.file.SetReadDeadline(time.Unix(1, 0)) })() // fails for a closed file
	var events []inotifyEvent
	var err error
	connErr := i.conn.Read(func(fd uintptr) bool {
		events, err = i.drain(fd)
		return err != nil || len(events) > 0
	})
	if connErr != nil {
		return nil, connErr
	}
	return events, err
}

// drain reads events until there are no more.
func (i *inotify) drain(fd uintptr) ([]inotifyEvent, error) {
	var events []inotifyEvent
	for buf := make([]byte, 16<<10); ; {
		n, err := unix.Read(int(fd), buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return events, nil
		case err != nil:
			return events, fmt.Errorf("inotify: %w", err)
		default:
			events = append(events, i.decode(buf[:n])...)
		}
	}
}

// decode returns the events in a buffer filled by read(2); see inotify(7).
func (i *inotify) decode(buf []byte) []inotifyEvent {
	var events []inotifyEvent
	for len(buf) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(buf)), binary.NativeEndian.Uint32(buf[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		if end > len(buf) {
			break // the kernel returns only whole events
		}
		name, _, _ := bytes.Cut(buf[unix.SizeofInotifyEvent:end], []byte{0})
		if mask&unix.IN_Q_OVERFLOW != 0 {
			events = append(events, inotifyEvent{mask: mask})
		}
		for _, dir := range i.wds[wd] {
			events = append(events, inotifyEvent{dir, string(name), mask})
		}
		if mask&unix.IN_IGNORED != 0 {
			for _, dir := range i.wds[wd] {
				delete(i.dirs, dir)
			}
			delete(i.wds, wd)
		}
		buf = buf[end:]
	}
	return events
}
