package sync

// OnceValue returns a function that calls f once and remembers what it returned.
func OnceValue[T any](f func() T) func() T {
	var once Once
	var value T
	return func() T {
		once.Do(func() { value = f() })
		return value
	}
}

// OnceValues is OnceValue for two values.
func OnceValues[A, B any](f func() (A, B)) func() (A, B) {
	var once Once
	var a A
	var b B
	return func() (A, B) {
		once.Do(func() { a, b = f() })
		return a, b
	}
}
