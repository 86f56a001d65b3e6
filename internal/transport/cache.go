package transport

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/vektah/gqlparser/v2/ast"
)

// maxCachedQuery is in bytes. The token limit does not bound a document's
// length (comments and strings are one token each), so without it a cache of
// 1,000 documents could hold a gigabyte.
const maxCachedQuery = 16 << 10

// NewDocumentCache keeps the given number of parsed and validated documents,
// those that are up to 16 KiB long.
func NewDocumentCache(documents int) graphql.Cache[*ast.QueryDocument] {
	return documentCache{lru.New[*ast.QueryDocument](documents)}
}

type documentCache struct {
	graphql.Cache[*ast.QueryDocument]
}

// Add implements graphql.Cache.
func (c documentCache) Add(ctx context.Context, query string, document *ast.QueryDocument) {
	if len(query) <= maxCachedQuery {
		c.Cache.Add(ctx, query, document)
	}
}
