package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// serve serves a folder and returns the address.
func serve(t *testing.T, folder string) (*background, string) {
	t.Helper()
	b := inBackground(t, "serve", "-json", "-addr", "127.0.0.1:0", folder)
	started := b.object()
	wantFields(t, started, map[string]any{"folder": folder})
	url, _ := started["url"].(string)
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("the address is %q", url)
	}
	return b, url
}

// get asks for a page, in part if a range is given.
func get(t *testing.T, url, bytesRange string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytesRange != "" {
		request.Header.Set("Range", bytesRange)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, body
}

func TestServe(t *testing.T) {
	parent := t.TempDir()
	folder := filepath.Join(parent, "folder")
	if err := os.MkdirAll(filepath.Join(folder, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	content := random(1<<20 + 7)
	write(t, filepath.Join(folder, "sub", "file"), content)
	write(t, filepath.Join(folder, "empty"), nil)
	write(t, filepath.Join(parent, "secret"), []byte("secret"))
	links := symlink(filepath.Join("..", "secret"), filepath.Join(folder, "out")) == nil &&
		symlink(filepath.Join("sub", "file"), filepath.Join(folder, "in")) == nil
	b, url := serve(t, folder)
	for _, test := range []struct {
		name, bytesRange string
		status           int
		want             []byte // nil: any
		needs            bool
	}{
		{"sub/file", "", 200, content, true},
		{"sub/file", "bytes=5-9", 206, content[5:10], true},
		{"sub/file", "bytes=-7", 206, content[1<<20:], true},
		{"sub/file", "bytes=1048576-", 206, content[1<<20:], true},
		{"sub/file", "bytes=2000000-", 416, nil, true},
		{"empty", "", 200, []byte{}, true},
		{"missing", "", 404, nil, true},
		{"sub/file/more", "", 404, nil, true},
		{strings.Repeat("x", 1000), "", 404, nil, true},
		{"..%2fsecret", "", 404, nil, true},
		{"in", "", 200, content, links},
		{"out", "", 403, nil, links},
	} {
		if !test.needs {
			continue
		}
		status, body := get(t, url+test.name, test.bytesRange)
		if status != test.status || test.want != nil && !bytes.Equal(body, test.want) {
			t.Errorf("%.30s %s: status %d and %d bytes, want %d and %d", test.name, test.bytesRange, status, len(body), test.status, len(test.want))
		}
		if bytes.Contains(body, []byte("secret")) && !strings.Contains(test.name, "secret") {
			t.Errorf("%s shows what is outside: %q", test.name, body)
		}
	}
	if _, body := get(t, url, ""); !bytes.Contains(body, []byte(`<a href="sub/">`)) {
		t.Errorf("the folder is listed as %q", body)
	}

	t.Run("curl", func(t *testing.T) {
		curl, err := exec.LookPath("curl")
		if err != nil {
			t.Skip(err)
		}
		for _, test := range []struct {
			args []string
			want []byte
		}{
			{nil, content},
			{[]string{"-r", "100-199"}, content[100:200]},
			{[]string{"-r", "-10"}, content[len(content)-10:]},
			{[]string{"-C", "1000000"}, content[1000000:]},
		} {
			cmd := exec.CommandContext(t.Context(), curl, append(test.args, "-sSf", "--noproxy", "*", "-o", "-", url+"sub/file")...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			got, err := cmd.Output()
			if err != nil || !bytes.Equal(got, test.want) {
				t.Errorf("curl %q: %v, %d bytes, want %d; %s", test.args, err, len(got), len(test.want), &stderr)
			}
		}
	})
	if rest, stderr := b.end(0); rest != "" || stderr != "" {
		t.Errorf("prints %q, and %q to standard error", rest, stderr)
	}
}

// TestServeEndsGracefully interrupts the server in the middle of an answer.
func TestServeEndsGracefully(t *testing.T) {
	folder := t.TempDir()
	content := random(32 << 20) // more than the sockets hold
	write(t, filepath.Join(folder, "file"), content)
	b, url := serve(t, folder)
	answer, err := http.Get(url + "file")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got := make([]byte, 1000)
	if _, err := io.ReadFull(answer.Body, got); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Skipf("signals cannot be sent here: %v", err)
	}
	for { // until the server listens no more
		answer, err := http.Get(url + "missing")
		if err != nil {
			break
		}
		answer.Body.Close()
	}
	rest, err := io.ReadAll(answer.Body)
	if err != nil || !bytes.Equal(append(got, rest...), content) {
		t.Errorf("%d bytes after the signal, %v, want %d", len(rest), err, len(content)-len(got))
	}
	http.DefaultClient.CloseIdleConnections()
	_ = b.cmd.Wait()
	b.ended = true
	if status := b.cmd.ProcessState.ExitCode(); status != 0 || b.stderr.Len() > 0 {
		t.Errorf("status %d, standard error %q", status, &b.stderr)
	}
}

func TestServeFails(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "file")
	write(t, path, nil)
	b, url := serve(t, folder)
	taken := strings.Trim(strings.TrimPrefix(url, "http://"), "/")
	for _, test := range []struct{ args, words []string }{
		{[]string{path}, []string{path, "is not a folder"}},
		{[]string{filepath.Join(folder, "missing")}, []string{"missing"}},
		{[]string{folder, "-addr", taken}, []string{taken}},
		{[]string{folder, "-addr", "nowhere"}, []string{"nowhere"}},
	} {
		t.Run(fmt.Sprint(test.args), func(t *testing.T) {
			wantFailure(t, tool(t, append([]string{"serve"}, test.args...)...), exitError, test.words...)
		})
	}
	b.end(0)
}
