package aferofs

// What os.Stat and os.Lstat call themselves in errors.
const (
	statOperation  = "GetFileAttributesEx"
	lstatOperation = "GetFileAttributesEx"
)

// slashes separate the parts of a name.
const slashes = `/\`
