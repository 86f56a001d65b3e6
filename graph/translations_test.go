package graph

// Translations and Messages are for tests.
var (
	Translations = translations
	Messages     = messages
)
