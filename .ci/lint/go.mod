module github.com/mmapio/mmapio/ci/lint

go 1.26.0

require (
	4d63.com/gocheckcompilerdirectives v1.4.0
	github.com/charithe/durationcheck v0.0.11
	github.com/gostaticanalysis/nilerr v0.1.2
	golang.org/x/tools v0.52.0
)

require (
	github.com/gostaticanalysis/comment v1.5.0 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
)
