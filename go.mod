module github.com/mmapio/mmapio

go 1.26.0
