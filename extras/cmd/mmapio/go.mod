module github.com/mmapio/mmapio/extras/cmd/mmapio

go 1.26.0

require (
	github.com/alecthomas/kong v1.17.0
	github.com/mmapio/mmapio v0.0.0
	github.com/schollz/progressbar/v3 v3.19.1
	github.com/spf13/afero v1.15.0
	golang.org/x/sys v0.49.0
	golang.org/x/term v0.47.0
)

require (
	github.com/fsnotify/fsnotify v1.10.1 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	golang.org/x/text v0.28.0 // indirect
)

replace github.com/mmapio/mmapio => ../../..
