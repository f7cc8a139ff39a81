// Command bench compares mmapio with os.File and with its peers, side by side.
package main

func main() {}
