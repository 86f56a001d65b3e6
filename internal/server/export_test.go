package server

import "time"

// SetGrace shortens how long requests may take to finish, and answers how long
// it was.
func (s *Server) SetGrace(d time.Duration) time.Duration {
	was := s.grace
	s.grace = d
	return was
}
