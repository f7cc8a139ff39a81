// Command mmapio copies, sums and measures files through package mmapio.
package main

func main() {}
