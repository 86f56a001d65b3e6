// graphql-codegen: the types of the whole contract, and what its preset for clients makes of the documents beside.
const scalars = {Cursor: 'string', Time: 'string', ID: 'string'};

export default {
  schema: '../../../graph/contract.graphql',
  documents: ['../{apollo,urql,graphql-ws,graphql-sse}/index.js', '../genqlient/operations.graphql', 'index.ts'],
  generates: {
    'generated/types.ts': {plugins: ['typescript'], config: {scalars, strictScalars: true, useTypeImports: true}},
    'generated/client/': {
      preset: 'client',
      presetConfig: {persistedDocuments: true}, // all documents in one file, which index.js reads
      config: {scalars, strictScalars: true, useTypeImports: true, enumsAsTypes: true},
    },
  },
};
