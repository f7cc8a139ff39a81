module github.com/mmapio/mmapio/extras/cmd/mmapio

go 1.26.0

require github.com/mmapio/mmapio v0.0.0

replace github.com/mmapio/mmapio => ../../..
