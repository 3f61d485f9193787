// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/watch"
)

// Source feeds the manifests of a folder, as [Load] reads them, and each change at once.
//
// A file that is being written counts once it is closed; where that cannot be known, as at the start and in a new
// folder, once it has been left alone for a moment. All changes made by the time that one is seen are one event:
// objects never go and come back, and files moved into place together are never seen in part.
//
// A file that does not parse, or has an object that cannot be identified, is not taken in part: its last state stays in
// force, because which of its objects are still meant to exist is unknown. Without a last state, at the start, what can
// be read counts. A policy that can be identified but has problems in its spec narrows at once; see [Load].
//
// Objects of a deleted file go. If the folder itself is gone, or new and still empty, its last state stays until there
// are manifests again.
type Source struct {
	Dir string
	Log *slog.Logger

	quiet time.Duration // 0 means the constant
}

// Run feeds sink until ctx ends. It returns an error if the folder does not exist at the start, or inotify has no more
// instances.
func (s *Source) Run(ctx context.Context, sink watch.Sink) error {
	dir, err := filepath.Abs(s.Dir)
	if err == nil {
		_, err = os.ReadDir(dir)
	}
	if err != nil {
		return fmt.Errorf("watch manifests: %w", err)
	}
	f := &state{dir: dir, log: s.Log, sink: sink, quiet: cmp.Or(s.quiet, quiet)}
	for ctx.Err() == nil {
		if err := f.watch(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch manifests: %w", err)
		}
	}
	return nil
}

// state is what is known about a folder of manifests.
type state struct {
	dir     string
	log     *slog.Logger
	sink    watch.Sink
	inotify *inotify
	quiet   time.Duration // see the constant

	files     map[string]manifest // by path; includes folders that cannot be watched
	backlog   []inotifyEvent      // arrived while a file was read
	unsettled map[string]struct{} // files that somebody may be writing: see [state.settled]
	// when the first change was seen that the sink does not have; zero if none
	changed  time.Time
	gone     bool // the folder is gone, or is back but empty: files are its last state
	synced   bool // the sink knows
	objects  map[objectKey]*object
	problems map[string]bool // already logged
}

// watch reads the folder and its changes, until it must be read from scratch: it was replaced, or the kernel dropped
// events.
func (f *state) watch(ctx context.Context) error {
	in, err := newInotify()
	if err != nil {
		return err
	}
	defer in.file.Close() //nolint:errcheck // nothing was written
	f.inotify, f.backlog, f.unsettled = in, nil, make(map[string]struct{})
	f.readAll()
	f.changed = time.Now()
	for {
		events, err := f.next(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(events, f.outdates) {
			return nil
		}
		if f.refresh(events) && f.changed.IsZero() {
			f.changed = time.Now()
		}
	}
}

// next returns the next events. Before it waits for them it tells the sink what has changed, but not while events are
// queued: they may be newer than what has been read.
func (f *state) next(ctx context.Context) ([]inotifyEvent, error) {
	events, err := f.queued()
	gathered := time.Since(f.changed)
	if err != nil || len(events) > 0 && (f.changed.IsZero() || gathered < maxGather) {
		return events, err
	}
	wait := time.Duration(0)
	if len(f.unsettled) > 0 {
		wait = lookAgain
	}
	if !f.changed.IsZero() && (wait == 0 || f.synced && gathered >= patience) {
		f.tell()
		f.changed = time.Time{}
	}
	if len(events) > 0 {
		return events, nil
	}
	events, err = f.inotify.read(ctx, wait)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ctx.Err()
	}
	return events, err
}

// queued returns the events so far.
func (f *state) queued() ([]inotifyEvent, error) {
	events, err := f.inotify.queued()
	events = append(f.backlog, events...)
	f.backlog = nil
	return events, err
}

// How long a change waits for others that belong to it: for an unsettled file, and for an endless stream of events.
const (
	patience  = 3 * time.Millisecond
	maxGather = 100 * time.Millisecond
)

// How long after a write a file counts as settled if its close was not seen, and how often to look.
const (
	quiet     = 100 * time.Millisecond
	lookAgain = 10 * time.Millisecond
)

// settled says whether a file has not been written for a moment. In a folder that was just found, nothing else tells
// whether a file is complete; later writes cause events.
func (f *state) settled(path string) bool {
	info, err := os.Stat(path)
	if isLink(path) && err != nil { // the kubelet deletes it next if its ConfigMap has lost the key
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return true // reading it will show the error
	}
	age := time.Since(info.ModTime())
	return age < 0 || age >= f.quiet // negative: another clock is ahead
}

// isLink says whether path is a symbolic link, wherever it leads.
func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// readAll reads the folder. It first watches the parent folder, which shows when this one is replaced.
func (f *state) readAll() {
	parent, err := filepath.Dir(f.dir), error(nil)
	for err = f.inotify.add(parent); errors.Is(err, fs.ErrNotExist) && parent != "/"; err = f.inotify.add(parent) {
		parent = filepath.Dir(parent)
	}
	if err != nil {
		f.log.Warn("cannot watch for a replacement of the manifest folder; restart netpold after one", "folder",
			f.dir, "err", err)
	}
	files := f.scan(f.dir, f.settled)
	_, err = os.Stat(f.dir)
	gone := f.synced && (err != nil || f.gone && len(files) == 0)
	switch {
	case gone && !f.gone:
		f.log.Error("the manifest folder is gone; its last state stays in force", "folder", f.dir, "err", err)
	case !gone && f.gone:
		f.log.Info("the manifest folder is back", "folder", f.dir)
	}
	f.gone = gone
	if !gone {
		f.files = files
	}
}

// outdates says whether the event means that the whole folder must be read again.
func (f *state) outdates(e inotifyEvent) bool {
	switch {
	case e.mask&unix.IN_Q_OVERFLOW != 0:
		f.log.Warn("too many changes at once for inotify; reading the whole manifest folder", "folder", f.dir)
		return true
	case e.dir == f.dir:
		return e.mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT|unix.IN_IGNORED) != 0
	}
	return isBelow(f.dir, e.dir) && isBelow(f.dir, filepath.Join(e.dir, e.name)) // a parent folder
}

// refresh reads what the events name, if anything. They say where to look, not what is there: only a file's last event
// counts.
func (f *state) refresh(events []inotifyEvent) bool {
	last := make(map[string]uint32)
	for _, e := range events {
		switch {
		case e.name == "" || !isBelow(e.dir, f.dir):
		case strings.HasPrefix(e.name, "."):
			f.links(e.dir, last)
		default:
			last[filepath.Join(e.dir, e.name)] = e.mask
		}
	}
	for path := range f.unsettled {
		if _, known := last[path]; !known && f.settled(path) {
			last[path] = unix.IN_CLOSE_WRITE
		}
	}
	maps.DeleteFunc(last, func(path string, mask uint32) bool {
		delete(f.unsettled, path)
		return mask&unix.IN_MODIFY != 0 // its last event is yet to come
	})
	if f.gone && len(last) > 0 { // something is in its place
		f.readAll()
		return true
	}
	for _, path := range slices.Sorted(maps.Keys(last)) {
		f.refreshPath(path, last[path])
	}
	return len(last) > 0
}

// links adds the symbolic links of a folder in which a hidden name has changed: the files of a mounted ConfigMap are
// links into "..data", which the kubelet replaces to update them all.
func (f *state) links(dir string, last map[string]uint32) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // the folder is gone; another event says so
	}
	for _, entry := range entries {
		if entry.Type()&fs.ModeSymlink != 0 && !strings.HasPrefix(entry.Name(), ".") {
			last[filepath.Join(dir, entry.Name())] = unix.IN_MOVED_TO
		}
	}
}

// refreshPath reads what is at path after an event.
func (f *state) refreshPath(path string, mask uint32) {
	info, err := os.Lstat(path)
	if err == nil && mask&unix.IN_CREATE != 0 && isBeingWritten(info) {
		return
	}
	complete := always
	if err == nil && mask&unix.IN_CREATE != 0 && info.IsDir() {
		complete = f.settled
	}
	if err == nil {
		info, err = os.Stat(path)
	}
	if err == nil && info.IsDir() {
		files := f.scan(path, complete)
		f.forget(path)
		maps.Copy(f.files, files)
		return
	}
	m, known := f.read(path)
	if _, folder := f.inotify.dirs[path]; folder || !isManifest(path) { // or may have been one
		f.inotify.remove(path)
		f.forget(path)
	}
	delete(f.files, path)
	if known {
		f.files[path] = m
	}
}

// always says that files are complete, as in a folder that was moved into place.
func always(string) bool { return true }

// isBeingWritten says whether something just created is neither folder nor link: then somebody is going to write and
// close it.
func isBeingWritten(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && ok && stat.Nlink == 1
}

// forget forgets the files of a folder.
func (f *state) forget(dir string) {
	maps.DeleteFunc(f.files, func(file string, _ manifest) bool { return isBelow(file, dir) })
}

// scan watches the folder and its subfolders, and then returns what is in them: a file created in between is seen
// twice, not missed.
func (f *state) scan(dir string, complete func(path string) bool) map[string]manifest {
	files := make(map[string]manifest)
	note := func(path string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // an event reports that
			files[path] = unreadable(path, err)
		}
	}
	f.inotify.remove(dir)
	walker{
		enter: func(dir string) { note(dir, f.inotify.add(dir)) },
		file: func(path string) {
			m, known := f.files[path]
			if complete(path) {
				m, known = f.read(path)
			} else {
				f.unsettled[path] = struct{}{}
			}
			if known {
				files[path] = m
			}
		},
		fail: func(path string, err error) {
			for file, m := range f.files {
				if isBelow(file, path) {
					files[file] = m
				}
			}
			note(path, err)
		},
	}.walk(dir, f.dir)
	return files
}

// read returns what a file says now or, if it is broken or being written again, what it said last. It returns false for
// a file that is gone or not a manifest.
func (f *state) read(path string) (manifest, bool) {
	if !isManifest(path) {
		return manifest{}, false
	}
	m, err := readManifest(path, maxWatched)
	old, known := f.files[path]
	f.backlog, _ = f.queued() // an error will recur
	switch {
	case slices.ContainsFunc(f.backlog, func(e inotifyEvent) bool {
		return e.mask&unix.IN_MODIFY != 0 && filepath.Join(e.dir, e.name) == path
	}):
		return old, known
	case errors.Is(err, fs.ErrNotExist) && !isLink(path):
		return manifest{}, false
	case (m.torn || errors.Is(err, fs.ErrNotExist)) && !f.settled(path): // an event follows in a moment
		f.unsettled[path] = struct{}{}
		return old, known
	}
	if m.broken && known && !old.broken {
		m.objects, m.broken = old.objects, false
		m.held = true
	}
	return m, true
}

// tell passes all changes to the sink as one event, and logs new problems.
func (f *state) tell() {
	objects, problems := merge(f.files)
	var edits []func(watch.Objects)
	for key, o := range objects {
		if old, told := f.objects[key]; !told || old != o && !reflect.DeepEqual(old.value, o.value) {
			edits = append(edits, o.set)
		}
	}
	for key := range f.objects {
		if _, stays := objects[key]; !stays {
			edits = append(edits, key.remove)
		}
	}
	f.objects = objects
	if len(edits) > 0 {
		f.sink.Update(func(objects watch.Objects) {
			for _, edit := range edits {
				edit(objects)
			}
		})
		f.log.Debug("manifests changed", "objects", len(edits))
	}
	f.report(problems)
	if !f.synced {
		f.synced = true
		f.sink.Synced()
	}
}

// report logs new problems.
func (f *state) report(problems []*Error) {
	logged := make(map[string]bool, len(problems))
	for _, p := range problems {
		text := p.Error()
		if !f.problems[text] && !logged[text] {
			message := "ignoring invalid parts of manifest"
			if f.files[p.File].held {
				message = "cannot read manifest; its last content stays in force"
			}
			f.log.Error(message, "err", p)
		}
		logged[text] = true
	}
	if len(problems) == 0 && len(f.problems) > 0 {
		f.log.Info("manifests are valid again", "folder", f.dir)
	}
	f.problems = logged
}
