// What TypeScript makes of the generated code: this file is compiled and not run.
import {type DocumentType, graphql} from './generated/client';
import type {RecordState} from './generated/types';

const Customers = graphql(/* GraphQL */ `
  query CodegenCustomers($after: Cursor) {
    customers(first: 20, after: $after) { nodes { id name state version } pageInfo { hasNextPage endCursor } }
  }`);

const Bin = graphql(/* GraphQL */ `
  query CodegenBin { bin(first: 20) { nodes { __typename id label ... on Customer { email } ... on Message { subject } } } }`);

/** A field that a policy may hide is null then, in every type. */
export const labels = (answer: DocumentType<typeof Customers>): string[] => answer.customers.nodes.map(node => node.name ?? node.id);

/** A record of any type is told by its name. */
export const about = (answer: DocumentType<typeof Bin>): (string | null | undefined)[] =>
  answer.bin.nodes.map(node => (node.__typename === 'Customer' ? node.email : node.__typename === 'Message' ? node.subject : node.label));

export const live: `${RecordState}` = 'ACTIVE';
