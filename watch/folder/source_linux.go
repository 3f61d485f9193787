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
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/watch"
)

// Source feeds the manifests of a folder, as [Load] reads them, and each change of them at once.
//
// What is being written counts when it is closed; where nobody can tell, as at the start and in a new folder, when it
// has been left alone for a moment. All that is changed by the time that a change is seen is one event: objects never
// go and come back, and what two files say together is not seen in part, if they were moved into place together.
//
// A file that does not parse, or that has an object of which nobody can tell what it is, is not taken in part: what it
// said last stays in force, for nobody knows which of its objects are still meant to be there. When there is no such
// state, at the start, what can be read counts. A policy that can be told and has problems in its spec narrows at once;
// see [Load].
//
// Objects of a deleted file go. When the folder itself is gone, or new and still empty, its last state stays, until
// there are manifests in its place.
type Source struct {
	Dir string
	Log *slog.Logger

	quiet time.Duration // 0 is the constant of the name
}

// Run feeds sink until ctx ends. It returns an error if there is no folder to begin with, or no more inotify instances.
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

// state is what is known of a folder of manifests.
type state struct {
	dir     string
	log     *slog.Logger
	sink    watch.Sink
	inotify *inotify
	quiet   time.Duration // see the constant of the name

	files     map[string]manifest // by path; a folder that cannot be watched is here, too
	backlog   []inotifyEvent      // that came while a file was read
	unsettled map[string]struct{} // files that somebody may be writing: see [state.settled]
	// when the first change was seen that the sink has not been told; zero if there is none
	changed  time.Time
	gone     bool // the folder is not there, or was not and is empty: files are its last state
	synced   bool // the sink has been told
	objects  map[objectKey]*object
	problems map[string]bool // that have been logged
}

// watch reads the folder and what changes, until it has to be read anew: it was replaced, or there were more events
// than the kernel keeps.
func (f *state) watch(ctx context.Context) error {
	in, err := newInotify()
	if err != nil {
		return err
	}
	defer in.close() //nolint:errcheck // nothing was written
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

// next returns the next events, and before it waits for them, it tells the sink what has changed. While events are
// queued there is more to see, and what has been read may be older than what they say.
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

// queued returns the events that have come.
func (f *state) queued() ([]inotifyEvent, error) {
	events, err := f.inotify.queued()
	events = append(f.backlog, events...)
	f.backlog = nil
	return events, err
}

// How long a change waits for others that belong to it: for a file that is not settled, and for events that do not end.
const (
	patience  = 3 * time.Millisecond
	maxGather = 100 * time.Millisecond
)

// How long after a write a file is settled, if nothing has told that it was closed, and how often to look.
const (
	quiet     = 100 * time.Millisecond
	lookAgain = 10 * time.Millisecond
)

// settled says whether nobody has written a file for a moment. Where a folder has just been found, nothing else tells
// whether a file in it is complete; of what is written later there are events.
func (f *state) settled(path string) bool {
	info, err := os.Stat(path)
	if isLink(path) && err != nil { // the kubelet deletes it next, if its ConfigMap has no such key any more
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return true // as reading it will tell
	}
	age := time.Since(info.ModTime())
	return age < 0 || age >= f.quiet // another clock may be ahead
}

// isLink says whether there is a symbolic link, wherever it leads.
func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// readAll reads the folder. The folder that it is in is watched first, and tells when this one is replaced.
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

// outdates says whether after the event the folder has to be read anew.
func (f *state) outdates(e inotifyEvent) bool {
	switch {
	case e.mask&unix.IN_Q_OVERFLOW != 0:
		f.log.Warn("too many changes at once for inotify; reading the whole manifest folder", "folder", f.dir)
		return true
	case e.dir == f.dir:
		return e.mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT|unix.IN_IGNORED) != 0
	}
	return isBelow(f.dir, e.dir) && isBelow(f.dir, filepath.Join(e.dir, e.name)) // a folder that leads here
}

// refresh reads what the events name, if anything. They say where to look, not what is there: only the last event of a
// file counts.
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
		return mask&unix.IN_MODIFY != 0 // its last event is to come
	})
	if f.gone && len(last) > 0 { // there is something in its place
		f.readAll()
		return true
	}
	for _, path := range slices.Sorted(maps.Keys(last)) {
		f.refreshPath(path, last[path])
	}
	return len(last) > 0
}

// links adds the symbolic links of a folder in which a hidden name has changed: the files of a mounted ConfigMap are
// links into "..data", and the kubelet updates them all by replacing that.
func (f *state) links(dir string, last map[string]uint32) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // the folder is gone, as another event says
	}
	for _, entry := range entries {
		if entry.Type()&fs.ModeSymlink != 0 && !strings.HasPrefix(entry.Name(), ".") {
			last[filepath.Join(dir, entry.Name())] = unix.IN_MOVED_TO
		}
	}
}

// refreshPath reads what there is at path now, after an event.
func (f *state) refreshPath(path string, mask uint32) {
	info, err := os.Lstat(path)
	if err == nil && mask&unix.IN_CREATE != 0 && isBeingWritten(info) {
		return
	}
	complete := whole
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
	if !isManifest(path) || f.inotify.watches(path) { // it may have been a folder
		f.inotify.remove(path)
		f.forget(path)
	}
	delete(f.files, path)
	if known {
		f.files[path] = m
	}
}

// whole is of the files of a folder that was moved into place.
func whole(string) bool { return true }

// isBeingWritten says whether what was just created is no folder and no link: then somebody writes it, and closes it.
func isBeingWritten(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && ok && stat.Nlink == 1
}

// forget forgets the files of a folder.
func (f *state) forget(dir string) {
	maps.DeleteFunc(f.files, func(file string, _ manifest) bool { return isBelow(file, dir) })
}

// scan watches the folder and its subfolders, and then returns what is in them: a file that comes in between is seen
// twice, not missed.
func (f *state) scan(dir string, complete func(path string) bool) map[string]manifest {
	files := make(map[string]manifest)
	note := func(path string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // an event says that it is gone
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

// read returns what a file says: now or, if that is broken or somebody began to write it meanwhile, what it said last.
// It returns false for a file that says nothing, for it is gone or is no manifest.
func (f *state) read(path string) (manifest, bool) {
	if !isManifest(path) {
		return manifest{}, false
	}
	m, err := readManifest(path, maxWatched)
	old, known := f.files[path]
	f.backlog, _ = f.queued() // an error will come again
	switch {
	case slices.ContainsFunc(f.backlog, func(e inotifyEvent) bool {
		return e.mask&unix.IN_MODIFY != 0 && filepath.Join(e.dir, e.name) == path
	}):
		return old, known
	case errors.Is(err, fs.ErrNotExist) && !isLink(path):
		return manifest{}, false
	case (m.torn || errors.Is(err, fs.ErrNotExist)) && !f.settled(path): // the event comes a moment later
		f.unsettled[path] = struct{}{}
		return old, known
	}
	if m.broken && known && !old.broken {
		m.objects, m.broken = old.objects, false
		m.held = true
	}
	return m, true
}

// tell gives the sink what has changed, as one event, and logs problems that are new.
func (f *state) tell() {
	objects, problems := merge(f.files)
	var edits []func(watch.Objects)
	for key, o := range objects {
		if old, told := f.objects[key]; !told || old != o && !old.equal(o) {
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

// report logs the problems that are new.
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
