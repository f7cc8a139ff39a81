package main

type serveCmd struct {
	Folder string `arg:"" name:"dir" help:"The folder to serve."`
	Addr   string `name:"addr" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Listen there (default: ${default}). Port 0 takes one that is free."`
	jsonFlag
}

// Help is what mmapio serve --help prints below the usage.
func (*serveCmd) Help() string {
	return "Serves the files in the folder by HTTP, for reading, with ranges, until a signal (Ctrl-C) ends the command, " +
		"and prints the address. Answers that are under way then have 5 seconds to end. Nothing outside the folder " +
		"is served, wherever links in it lead to; what is neither a file nor a folder is not served. Whoever " +
		"can reach the address can read the files."
}
