// graphql-eslint: the rules of Relay's specification over the contract. Paths are those of the repository, from where it runs.
import graphql from '@graphql-eslint/eslint-plugin';

export default [{
  files: ['**/*.graphql'],
  languageOptions: {parser: graphql.parser, parserOptions: {graphQLConfig: {schema: 'graph/contract.graphql'}}},
  plugins: {'@graphql-eslint': graphql},
  rules: {
    ...graphql.configs['flat/schema-relay'].rules,
    '@graphql-eslint/relay-edge-types': ['error', {
      // Not of the specification. What has few elements is a list ([RecordState!]!, blockers), and connections carry nodes.
      listTypeCanWrapOnlyEdgeType: false,
      // Not of the specification either: it asks for a node that is no list. A VoidCandidate is found when it is asked
      // for, and has no identity beside its record's.
      shouldImplementNode: false,
    }],
  },
}];
