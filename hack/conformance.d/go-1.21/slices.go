package slices

// Contains reports whether v is in s.
func Contains[E comparable](s []E, v E) bool {
	for i := range s {
		if s[i] == v {
			return true
		}
	}
	return false
}

// DeleteFunc removes the elements for which del holds.
func DeleteFunc[S ~[]E, E any](s S, del func(E) bool) S {
	kept := s[:0]
	for _, e := range s {
		if !del(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
