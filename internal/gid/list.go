package gid

import "strings"

// Array is ids as the text of a PostgreSQL array.
func Array(ids []ID) string { return idList(ids, '{', "", '}') }

// JSONArray is ids as JSON.
func JSONArray(ids []ID) string { return idList(ids, '[', `"`, ']') }

func idList(ids []ID, start byte, quote string, end byte) string {
	var b strings.Builder
	b.Grow(len(ids)*39 + 2)
	b.WriteByte(start)
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote + id.UUID() + quote)
	}
	b.WriteByte(end)
	return b.String()
}

