package watch

// SetDontCache makes RWF_DONTCACHE be used or not, until restore is called.
func SetDontCache(use bool) (restore func()) {
	old := withoutDontCache
	withoutDontCache = !use
	return func() { withoutDontCache = old }
}
