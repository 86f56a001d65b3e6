package access

// Retired is how many chains were replaced and are not closed yet.
func Retired(c *Control) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.retired)
}
