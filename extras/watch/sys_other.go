//go:build !unix && !windows

package watch

import "os"

const watchesFiles = false

func explain(err error) error { return err }

func stat(name string) (state, error) {
	info, err := os.Stat(name)
	if err != nil {
		return state{}, err
	}
	return stateOf(info), nil
}

func statFile(file *os.File) (state, error) {
	info, err := file.Stat()
	if err != nil {
		return state{}, err
	}
	return stateOf(info), nil
}

func stateOf(info os.FileInfo) state {
	return state{
		regular: info.Mode().IsRegular(),
		info:    info,
		size:    info.Size(),
		written: info.ModTime().UnixNano(),
		mode:    uint32(info.Mode()),
	}
}

func openToRead(name string) (*os.File, error) { return os.Open(name) }
