package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

type sumCmd struct {
	Files []string `arg:"" name:"file" help:"The files to read."`
	jsonFlag
}

// fileSums is the line of a file as JSON.
type fileSums struct {
	Name   string `json:"name"`
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"`
	CRC32C string `json:"crc32c"`
}

// Help is what mmapio sum --help prints below the usage.
func (*sumCmd) Help() string {
	return "Prints a line for each file: SHA-256, CRC-32C (Castagnoli) and the name, " +
		"which is quoted if it has line breaks or other control characters in it. A file that cannot be read is " +
		"an error; the others are read nevertheless."
}

// Run prints the sums of the files.
func (c *sumCmd) Run(ctx context.Context) error {
	var result error
	for _, name := range c.Files {
		sums, err := sum(ctx, name)
		if errors.Is(err, errInterrupted) {
			return err
		}
		if err != nil {
			report(err)
			result = errReported
			continue
		}
		if c.JSON {
			err = printJSON(fileSums{name, sums.size, hex.EncodeToString(sums.sha256[:]), fmt.Sprintf("%08x", sums.crc32c)})
		} else {
			err = printText("%x  %08x  %s\n", sums.sha256, sums.crc32c, quoteLines(name))
		}
		if err != nil {
			return err
		}
	}
	return result
}

// sums are the sums of one file.
type sums struct {
	size   int64
	sha256 [sha256.Size]byte
	crc32c uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum reads the named file once and returns its sums.
func sum(ctx context.Context, name string) (sums, error) {
	file, err := openFile(ctx, name, os.O_RDONLY)
	if err != nil {
		return sums{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return sums{}, err
	}
	if info.IsDir() {
		return sums{}, folderError("sum", name)
	}
	bar := byteProgress(name, info.Size())
	defer bar.end()

	crc := crc32.New(castagnoli)
	sha := &stoppableHash{sha256.New(), ctx, func(b []byte) {
		crc.Write(b)
		bar.add(int64(len(b)))
	}}
	var n int64
	if info.Mode().IsRegular() {
		n, err = io.Copy(sha, file)
	} else {
		n, err = wait(ctx, func() (int64, error) { return io.Copy(sha, file) })
	}
	if err != nil {
		return sums{}, err
	}
	result := sums{size: n, crc32c: crc.Sum32()}
	sha.Sum(result.sha256[:0])
	return result, nil
}
