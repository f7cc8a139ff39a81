//go:build !plan9

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	weblog "log"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/spf13/afero"

	"github.com/mmapio/mmapio/aferofs"
)

// shutdownTime is how long answers that are under way may take when a signal has arrived.
const shutdownTime = 5 * time.Second

// Run serves the folder.
func (c *serveCmd) Run(ctx context.Context) error {
	if info, err := os.Stat(c.Folder); err != nil {
		return err
	} else if !info.IsDir() {
		return &fs.PathError{Op: "serve", Path: c.Folder, Err: errors.New("is not a folder")}
	}
	root, err := aferofs.NewRooted(c.Folder)
	if err != nil {
		return err
	}
	defer root.Close()
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           http.FileServer(servedFolder{afero.NewHttpFs(root).Dir("/"), root}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          weblog.New(io.Discard, "", 0), // one client is no concern of the others
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := c.started(listener.Addr()); err != nil {
		_ = server.Close()
		return err
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		_ = server.Close()
		return fmt.Errorf("serve: answers that took longer than %v were cut off", shutdownTime)
	}
	return nil
}

// served is the only line of what is printed.
type served struct {
	URL    string `json:"url"`
	Folder string `json:"folder"`
}

// started says where the folder is served.
func (c *serveCmd) started(address net.Addr) error {
	url := "http://" + address.String() + "/"
	if c.JSON {
		return printJSON(served{url, c.Folder})
	}
	return printText("serving %s at %s until interrupted\n", quoteLines(c.Folder), url)
}

// servedFolder is a folder for the HTTP server: with its regular files and folders only, and
// errors that it knows to answer.
type servedFolder struct {
	http.FileSystem
	root *aferofs.RootedFs
}

// Open opens a file or folder. Opening a named pipe would wait for its other end.
func (s servedFolder) Open(name string) (http.File, error) {
	info, err := s.root.Stat(name)
	if err != nil {
		return nil, webError(err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil, fs.ErrPermission
	}
	file, err := s.FileSystem.Open(name)
	if err != nil {
		return nil, webError(err)
	}
	return file, nil
}

// webError returns fs.ErrNotExist for names that no file can have, and fs.ErrPermission for
// those that lead out of the folder.
func webError(err error) error {
	_, fromSystem := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return err
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ELOOP):
		return fs.ErrNotExist
	case !fromSystem: // os.Root says so
		return fs.ErrPermission
	}
	return err
}
