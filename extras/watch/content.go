package watch

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"sync"
)

// content remembers what a file contained: a hash for each block.
type content struct {
	blockSize int
	hashes    []uint64
	covered   int64 // how many bytes of the file they are of
}

var seed = maphash.MakeSeed()

// bufferSize is about what is read at once. A buffer holds whole blocks.
const bufferSize = 256 << 10

// mostBlocks is how many blocks of a file are remembered: in 1 GiB. A file costs nothing to be
// made as long as can be, as one hole, and is not to use up the memory.
const mostBlocks = 1 << 27

var buffers = sync.Pool{New: func() any {
	b := make([]byte, max(bufferSize, mostBlockSize))
	return &b
}}

// readings limits how many files are read at the same time: each may hold a thread.
var readings = make(chan struct{}, 4)

// drop forgets the content.
func (c *content) drop() {
	c.hashes, c.covered = nil, 0
}

// read reads the file of that name, which is to be the one that s was seen of, and
// returns the extents that are not as they were, in order, with an error those that were
// found before it. If it was another file, the error is errMoved.
//
// It does not tell of them itself: the receiver may take its time, and others want to read.
func (c *content) read(ctx context.Context, name string, s *state) (found []extent, err error) {
	select {
	case readings <- struct{}{}:
		defer func() { <-readings }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	file, err := openToRead(name)
	if err != nil {
		if missing, lookErr := look(name); lookErr == nil && !missing.exists {
			return nil, errMoved
		}
		return nil, err
	}
	defer file.Close()
	opened, err := statFile(file)
	if err != nil {
		return nil, err
	}
	opened.exists = true
	if !opened.isSame(s) {
		return nil, errMoved
	}

	blockSize := int64(c.blockSize)
	size := s.size
	if blocks := (size-1)/blockSize + 1; blocks > mostBlocks {
		c.drop()
		return nil, &fs.PathError{Op: "watch", Path: name, Err: fmt.Errorf("%d blocks of %d bytes are more than the %d that can be compared: larger blocks are fewer", blocks, blockSize, mostBlocks)}
	}
	from := newReader(file)
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buffer := (*pooled)[:max(bufferSize/blockSize, 1)*blockSize]
	zero := buffer[:blockSize]
	clear(zero)
	zeroHash := maphash.Bytes(seed, zero)
	c.covered = min(c.covered, size)
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		piece := buffer[:min(int64(len(buffer)), size-off)]
		hole := from.isHole(off, int64(len(piece)))
		if hole {
			if len(piece)%int(blockSize) != 0 || off < c.covered && c.covered < off+int64(len(piece)) {
				clear(piece) // less than a block is to be hashed
			}
		} else {
			n, err := readFull(from, piece, off)
			if err == io.EOF { // it was cut meanwhile
				size = off + int64(n)
				piece = piece[:n]
			} else if err != nil {
				return found, err
			}
		}
		for len(piece) > 0 {
			block := piece[:min(int64(len(piece)), blockSize)]
			piece = piece[len(block):]
			hash := zeroHash
			if !hole || int64(len(block)) != blockSize {
				hash = maphash.Bytes(seed, block)
			}
			if at := c.learn(off, block, hash); at >= 0 {
				found = extend(found, at, off+int64(len(block)))
			}
			off += int64(len(block))
			c.covered = max(c.covered, off)
		}
	}
	c.hashes = c.hashes[:(size+blockSize-1)/blockSize]
	c.covered = size
	return found, nil
}

// learn takes the block at off in, which has that hash. It returns where it begins to
// be different from what it was, or -1.
func (c *content) learn(off int64, block []byte, hash uint64) int64 {
	index := off / int64(c.blockSize)
	if index == int64(len(c.hashes)) {
		c.hashes = append(c.hashes, hash)
		return off
	}
	old := c.hashes[index]
	c.hashes[index] = hash
	known := min(c.covered-off, int64(c.blockSize)) // bytes that old is of
	switch n := int64(len(block)); {
	case known == n && old == hash:
		return -1
	case known < n && old == maphash.Bytes(seed, block[:known]):
		return off + known
	}
	return off
}

// extent is neighbouring blocks that have changed.
type extent struct{ from, to int64 }

// extend adds a block to extents, the last of which may end where it begins.
func extend(extents []extent, from, to int64) []extent {
	if last := len(extents) - 1; last >= 0 && extents[last].to == from {
		extents[last].to = to
		return extents
	}
	return append(extents, extent{from, to})
}

// readFails is set by tests, to fail in place of the system.
var readFails func(off int64) error

// readFull reads until b is full. The error is io.EOF when the file ends before.
func readFull(from *reader, b []byte, off int64) (int, error) {
	if readFails != nil {
		if err := readFails(off); err != nil {
			return 0, err
		}
	}
	done := 0
	for done < len(b) {
		n, err := from.read(b[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
	}
	return done, nil
}
