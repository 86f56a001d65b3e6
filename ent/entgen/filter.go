package entgen

import (
	"slices"
	"strings"

	"entgo.io/ent/entc/gen"
	"github.com/vektah/gqlparser/v2/ast"
)

// comparisons takes out of the filters what the two databases do not answer
// alike: text comparisons of ids, which PostgreSQL has no operator for, and
// comparisons without regard to case, where SQLite knows ASCII only.
//
// References to records are compared for equality alone, which the templates
// narrow to records the reader may read: an order over them, or their absence,
// would tell of others.
func comparisons(g *gen.Graph, s *ast.Schema) {
	for name, def := range s.Types {
		typ, ok := strings.CutSuffix(name, "WhereInput")
		if !ok {
			continue
		}
		refs := references(g, typ)
		def.Fields = slices.DeleteFunc(def.Fields, func(f *ast.FieldDefinition) bool {
			text := strings.HasSuffix(f.Name, "Contains") || strings.HasSuffix(f.Name, "HasPrefix") || strings.HasSuffix(f.Name, "HasSuffix")
			for _, ref := range refs {
				if rest, ok := strings.CutPrefix(f.Name, ref); ok && rest != "" && rest != "In" {
					return true
				}
			}
			return strings.HasSuffix(f.Name, "Fold") || text && f.Type.Name() == "ID"
		})
	}
}

// references are the fields of a record type that point to other records.
func references(g *gen.Graph, typ string) []string {
	var out []string
	for _, n := range g.Nodes {
		if n.Name != typ {
			continue
		}
		for _, e := range n.Edges {
			if e.Annotations["LetheEdge"] != nil && e.Field() != nil {
				out = append(out, camel(e.Field().Name))
			}
		}
	}
	return out
}
