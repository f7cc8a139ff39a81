//go:build unix && !linux && !darwin && !dragonfly && !freebsd

package mmapio

import "io/fs"

// These systems are served, but nobody has shown yet that mappings and system
// calls see the same bytes there (on OpenBSD they do not), and so a file is only
// mapped when asked for, and only if it is opened for reading only.
const (
	supportsStamp      = false
	syncCoversMappings = true // nothing is stored through a mapping

	unmappableFlags = 0
	dataSyncFlag    = 0
	noReserveFlag   = 0

	addressSpaceLimit = -1 // not told by all of them
)

func trustOf(fd uintptr, info fs.FileInfo, mode Mode) trust { return trust{} }

func residentPages(address, length uintptr, found func(at, n uintptr)) {}

func stamp(fd uintptr) error { return nil }

func writeBack(address, length uintptr, wait bool) error { return nil }

func mappingLimit() int { return defaultMappings }

const (
	madvPageOut = 0
	madvNoCore  = 0
	madvCore    = 0
)

// addressesInUse is not told by these systems.
func addressesInUse() int64 { return 0 }
