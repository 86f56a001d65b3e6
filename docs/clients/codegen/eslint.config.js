import graphql from '@graphql-eslint/eslint-plugin';

export default [{
  files: ['**/*.graphql'],
  languageOptions: {parser: graphql.parser, parserOptions: {graphQLConfig: {schema: 'graph/contract.graphql'}}},
  plugins: {'@graphql-eslint': graphql},
  rules: graphql.configs['flat/schema-relay'].rules,
}];
