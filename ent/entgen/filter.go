package entgen

import (
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// comparisons takes out of the filters what the two databases do not answer
// alike: text comparisons of ids, which PostgreSQL has no operator for, and
// comparisons without regard to case, where SQLite knows ASCII only.
func comparisons(s *ast.Schema) {
	for name, def := range s.Types {
		if !strings.HasSuffix(name, "WhereInput") {
			continue
		}
		def.Fields = slices.DeleteFunc(def.Fields, func(f *ast.FieldDefinition) bool {
			text := strings.HasSuffix(f.Name, "Contains") || strings.HasSuffix(f.Name, "HasPrefix") || strings.HasSuffix(f.Name, "HasSuffix")
			return strings.HasSuffix(f.Name, "Fold") || text && f.Type.Name() == "ID"
		})
	}
}
