// urql with its normalised cache: queries by GET, mutations by POST, subscriptions as server-sent events.
import assert from 'node:assert/strict';
import {Client, fetchExchange, gql, subscriptionExchange} from '@urql/core';
import {cacheExchange} from '@urql/exchange-graphcache';
import {relayPagination} from '@urql/exchange-graphcache/extras';
import {createClient} from 'graphql-sse';
import {cuttable, endpoint, hears, run, shows, token, unique} from '../server.js';

await run(async () => {
  const way = await cuttable();
  const headers = {Authorization: `Bearer ${token}`};
  const requests = [];
  let answers = 0;
  const streams = createClient({url: way.http, headers, retryAttempts: Infinity});
  const embedded = () => null; // kept with what it is a part of: it has no id
  const client = new Client({
    url: endpoint,
    fetchOptions: {headers},
    preferGetMethod: 'within-url-limit', // longer ones go by POST
    fetch(url, options) { // to show below what is sent, and who was first
      requests.push(`${options.method} ${options.headers.accept}`);
      return fetch(url, options).finally(() => { answers++; });
    },
    exchanges: [
      cacheExchange({
        keys: {CustomerConnection: embedded, CustomerEdge: embedded, PageInfo: embedded, RecordEvent: embedded, Blocker: embedded,
          OperationItemConnection: embedded},
        resolvers: {Query: {customers: relayPagination()}},
        optimistic: {
          updateCustomer: ({input}) => ({__typename: 'CustomerPayload',
            customer: {__typename: 'Customer', id: input.id, name: input.name, version: input.version + 1, state: 'ACTIVE'}}),
        },
        updates: {
          Mutation: {
            // Only what was deleted goes: the outcome of each record is data.
            deleteRecords({deleteRecords}, _, cache) {
              for (const item of deleteRecords.operation.items.nodes) {
                if (item.outcome === 'CHANGED') cache.invalidate({__typename: 'Customer', id: item.recordID});
              }
            },
            // It is in lists again, and only the server knows where.
            restoreRecords: (_, __, cache) => cache.inspectFields('Query').forEach(({fieldKey}) => cache.invalidate('Query', fieldKey)),
          },
        },
      }),
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: operation => ({
          subscribe: sink => ({unsubscribe: streams.subscribe(operation, sink)}),
        }),
      }),
    ],
  });
  const ask = async (document, variables) => client.mutation(document, variables).toPromise();

  // Mutations. A name that is new, so that the list below is known.
  const name = unique('urql');
  for (let i = 1; i <= 3; i++) {
    await ask(gql`mutation UrqlCreate($input: CreateCustomerInput!) { createCustomer(input: $input) { customer { id } } }`,
      {input: {name: `${name} ${i}`}});
  }

  // A query, and the next page of the same list: asked for by another query, it is appended to both.
  const Customers = gql`
    query UrqlCustomers($where: CustomerWhereInput, $after: Cursor) {
      customers(first: 2, after: $after, where: $where, orderBy: {field: NAME, direction: ASC}) {
        edges { cursor node { id name version state } }
        pageInfo { hasNextPage endCursor hasPreviousPage startCursor }
      }
    }`;
  const where = {nameHasPrefix: name};
  let shown; // what a page would show; useQuery answers the same
  let showing = () => {};
  client.query(Customers, {where}).subscribe(({data}) => { shown = data?.customers; showing(); });
  const names = () => shown?.edges.map(({node}) => node.name.slice(name.length + 1));
  await shows(names, ['1', '2']);
  assert.equal(shown.pageInfo.hasNextPage, true);
  await client.query(Customers, {where, after: shown.pageInfo.endCursor}).toPromise();
  await shows(names, ['1', '2', '3']);
  const [, , , byGet] = requests;
  assert.match(byGet, /^GET /);
  console.log('query and pages:', names(), 'by', byGet);

  // An optimistic update: the list has the new name before the server does. The version is the one the user saw.
  const first = shown.edges[0].node;
  const rename = (customer, newName) => ask(
    gql`mutation UrqlRename($input: UpdateCustomerInput!) { updateCustomer(input: $input) { customer { id name version state } } }`,
    {input: {id: customer.id, version: customer.version, name: newName}});
  const before = answers;
  const early = new Promise(resolve => { showing = () => names()[0] === '1st' && resolve(answers); });
  const renaming = rename(first, `${name} 1st`);
  assert.equal(await early, before);
  await renaming;
  // The same again with the version of before: another has changed it, and what was shown too early is taken back.
  const conflict = await rename(first, `${name} 1er`);
  assert.equal(conflict.error.graphQLErrors[0].extensions.code, 'CONFLICT');
  await shows(() => names()[0], '1st');
  console.log('optimistic update, kept and taken back');

  // A subscription. What it brings goes into the cache by id, and so into every list.
  const events = [];
  client.subscription(gql`subscription UrqlChanged($ids: [ID!]) {
    recordChanged(ids: $ids) { action recordID record { id state version ... on Customer { name } } } }`, {ids: [first.id]},
  ).subscribe(({data}) => events.push(data.recordChanged));
  const change = attempt => rename(shown.edges.find(({node}) => node.id === first.id).node, `${name} 1st, heard ${attempt}`);
  assert.equal((await hears(events, change)).action, 'UPDATE');
  console.log('subscription:', events.at(-1).record.name.slice(name.length + 1));

  // Reconnecting: graphql-sse subscribes again by itself.
  way.cut();
  await hears(events, change);
  console.log('heard again after the connection was cut');

  // Delete and restore. The key makes it safe to send it again when the answer was lost: both are one operation.
  const remove = () => ask(gql`mutation UrqlDelete($ids: [ID!]!, $key: String) {
    deleteRecords(input: {select: {ids: $ids}, reason: "an example", idempotencyKey: $key}) {
      operation { id status items(first: 10) { nodes { id recordID outcome code message } } } } }`, {ids: [first.id], key: name});
  const deleted = (await remove()).data.deleteRecords.operation;
  assert.deepEqual([deleted.status, (await remove()).data.deleteRecords.operation.id], ['SUCCEEDED', deleted.id]);
  await shows(() => shown.edges.some(({node}) => node.id === first.id), false);

  // Errors. A record that is refused is data, with its code: it is in the bin, where nothing is archived.
  const archived = await ask(gql`mutation UrqlArchive($ids: [ID!]!) {
    archiveRecords(input: {select: {ids: $ids}}) {
      operation { id status items(first: 1) { nodes { id code message blockers { state allowed } } } } } }`, {ids: [first.id]});
  const [refused] = archived.data.archiveRecords.operation.items.nodes;
  assert.equal(refused.code, 'ILLEGAL_TRANSITION');
  console.log('refused item:', refused.code, refused.blockers[0].state, 'allows', refused.blockers[0].allowed);

  await ask(gql`mutation UrqlRestore($ids: [ID!]!) { restoreRecords(input: {select: {ids: $ids}}) { operation { id status } } }`,
    {ids: [first.id]});
  await shows(() => shown.edges.some(({node}) => node.id === first.id), true);
  console.log('deleted and restored');

  // A request that may not be made at all is an error, with its code in the extensions.
  const forbidden = await ask(gql`mutation UrqlPurge($ids: [ID!]!) { purgeRecords(input: {select: {ids: $ids}}) { operation { id } } }`,
    {ids: [first.id]});
  assert.equal(forbidden.error.graphQLErrors[0].extensions.code, 'FORBIDDEN');
  console.log('error:', forbidden.error.graphQLErrors[0].extensions.code);
});
