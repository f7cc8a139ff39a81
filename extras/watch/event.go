package watch

import (
	"errors"
	"fmt"
)

// Kind tells what has happened to a file.
type Kind uint8

const (
	// Modified: bytes were written, or may have been. When the content is compared,
	// Offset and Len name one changed extent; without, Len is -1.
	Modified Kind = iota + 1
	// Metadata: permissions, owner, links or times changed, and the content did not.
	Metadata
	// Removed: no file has the name any more.
	Removed
	// Resized: the file is longer or shorter. Offset is where it ends or where it ended,
	// whichever is less, and Len what was added behind it, or 0. If content may have
	// changed with it, Modified follows.
	Resized
	// Replaced: the name now belongs to a file that it did not belong to before, by
	// renaming, by changing a symbolic link, or by creating it after it was removed.
	// Changes are told relative to the new file from then on.
	Replaced
	// Overflow: something may have happened that no event tells, and Err says why: the
	// queue of the system was full (fsnotify.ErrEventOverflow, or another error of fsnotify), or the file could not
	// be looked at (a *fs.PathError). Look at the file.
	Overflow
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Modified:
		return "modified"
	case Metadata:
		return "metadata"
	case Removed:
		return "removed"
	case Resized:
		return "resized"
	case Replaced:
		return "replaced"
	case Overflow:
		return "overflow"
	}
	return "unknown"
}

// Event is one thing that happened to a watched file. Fields other than Kind, Name
// and Size are 0 or nil where the [Kind] does not mention them.
type Event struct {
	Name   string // the file, as it was named when the watch began
	Kind   Kind
	Offset int64 // where the change begins, in bytes
	Len    int64 // how long it is, in bytes; -1 if that is not known
	Size   int64 // of the file when it was looked at, in bytes; -1 when there is none
	Err    error // of an Overflow
}

// String returns the event in one line: kind, extent, size and name.
func (e Event) String() string {
	text := e.Kind.String()
	if (e.Kind == Modified || e.Kind == Resized) && e.Len >= 0 {
		text += fmt.Sprintf(" %d+%d", e.Offset, e.Len)
	}
	if e.Size >= 0 {
		text += fmt.Sprintf(" size %d", e.Size)
	}
	text += " " + e.Name
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Mode tells how a [Watch] gets to know of changes.
type Mode uint8

const (
	Events  Mode = iota // from the system, and by looking every two seconds
	Polling             // by looking at the interval of [WithInterval]
)

// String returns "events" or "polling".
func (m Mode) String() string {
	switch m {
	case Events:
		return "events"
	case Polling:
		return "polling"
	}
	return "unknown"
}

var errRemote = errors.New("others can change this file system without events on this machine")
