// Apollo Client 4, without React: queries and mutations by POST, subscriptions over WebSocket.
import assert from 'node:assert/strict';
import {randomUUID} from 'node:crypto';
import {ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql} from '@apollo/client';
import {GraphQLWsLink} from '@apollo/client/link/subscriptions';
import {getMainDefinition, relayStylePagination} from '@apollo/client/utilities';
import {createClient} from 'graphql-ws';
import WebSocket from 'ws';
import {cuttable, endpoint, hears, run, shows, token, unique} from '../server.js';

await run(async () => {
  const way = await cuttable();
  let answers = 0;
  let client;
  const socket = createClient({
    url: way.webSocket,
    webSocketImpl: WebSocket, // a browser has its own
    connectionParams: {Authorization: `Bearer ${token}`}, // a browser cannot send headers with a socket
    retryAttempts: Infinity,
    shouldRetry: event => event.code !== 4403, // while nobody answers, too, as when the server starts anew; but not without a good token
    on: {connected: (_, __, wasRetry) => wasRetry && client.refetchQueries({include: 'active'})}, // nobody repeats what was missed
  });
  client = new ApolloClient({
    link: ApolloLink.split(
      ({query}) => getMainDefinition(query).operation === 'subscription',
      new GraphQLWsLink(socket),
      new HttpLink({
        uri: endpoint,
        headers: {Authorization: `Bearer ${token}`},
        fetch: (...request) => fetch(...request).finally(() => { answers++; }), // to show below who was first
      }),
    ),
    // Every argument that changes what is listed, and none that only says which page.
    cache: new InMemoryCache({typePolicies: {Query: {fields: {customers: relayStylePagination(['where', 'states', 'search', 'orderBy'])}}}}),
  });

  // Mutations. A name that is new, so that the list below is known.
  const name = unique('Apollo');
  for (let i = 1; i <= 3; i++) {
    await client.mutate({
      mutation: gql`mutation ApolloCreate($input: CreateCustomerInput!) { createCustomer(input: $input) { customer { id } } }`,
      variables: {input: {name: `${name} ${i}`}},
    });
  }

  // A query, and the next page of the same list: the cache appends it.
  const list = client.watchQuery({
    query: gql`
      query ApolloCustomers($where: CustomerWhereInput, $after: Cursor) {
        customers(first: 2, after: $after, where: $where, orderBy: {field: NAME, direction: ASC}) {
          edges { cursor node { id name version state } }
          pageInfo { hasNextPage endCursor hasPreviousPage startCursor }
        }
      }`,
    variables: {where: {nameHasPrefix: name}},
  });
  let shown; // what a page would show; useQuery answers the same
  list.subscribe(({data}) => { shown = data?.customers; });
  const names = () => shown?.edges?.map(({node}) => node.name.slice(name.length + 1));
  await shows(names, ['1', '2']);
  assert.equal(shown.pageInfo.hasNextPage, true);
  await list.fetchMore({variables: {after: shown.pageInfo.endCursor}});
  await shows(names, ['1', '2', '3']);
  console.log('query and pages:', names());

  // An optimistic update: the list has the new name before the server does. The version is the one the user saw.
  const first = shown.edges[0].node;
  const rename = (customer, newName) => client.mutate({
    mutation: gql`mutation ApolloRename($input: UpdateCustomerInput!) {
      updateCustomer(input: $input) { customer { id name version state } } }`,
    variables: {input: {id: customer.id, version: customer.version, name: newName}},
    optimisticResponse: {updateCustomer: {__typename: 'CustomerPayload', customer: {...customer, name: newName, version: customer.version + 1}}},
  });
  const before = answers;
  const early = new Promise(resolve => list.subscribe(() => names()[0] === '1st' && resolve(answers)));
  const renaming = rename(first, `${name} 1st`);
  assert.equal(await early, before);
  await renaming;
  await shows(() => shown.edges[0].node.version, first.version + 1);
  // The same again with the version of before: another has changed it, and what was shown too early is taken back.
  const conflict = await rename(first, `${name} 1er`).catch(error => error);
  assert.equal(conflict.errors[0].extensions.code, 'CONFLICT');
  await shows(() => names()[0], '1st');
  console.log('optimistic update, kept and taken back');

  // A subscription. What it brings goes into the cache by id, and so into every list: what is in the bin has to be taken out.
  const events = [];
  client.subscribe({
    query: gql`subscription ApolloChanged($ids: [ID!]) {
      recordChanged(ids: $ids) { action to recordID record { id state version ... on Customer { name } } } }`,
    variables: {ids: [first.id]},
  }).subscribe(({data: {recordChanged: event}}) => {
    events.push(event);
    if (event.to !== 'ACTIVE') client.cache.evict({id: `Customer:${event.recordID}`});
  });
  const current = () => shown.edges.find(({node}) => node.id === first.id).node;
  const change = async attempt => rename(current(), `${name} 1st, heard ${attempt}`);
  assert.equal((await hears(events, change)).action, 'UPDATE');
  console.log('subscription:', events.at(-1).record.name.slice(name.length + 1));

  // Reconnecting: graphql-ws subscribes again by itself.
  way.cut();
  await hears(events, change);
  console.log('heard again after the connection was cut');

  // Delete and restore. The key makes it safe to send it again when the answer was lost: both are one operation.
  const lifecycle = gql`
    fragment ApolloOutcome on Operation { id status items(first: 10) { nodes { id recordID outcome code message } } }
    mutation ApolloDelete($ids: [ID!]!, $key: String) {
      deleteRecords(input: {select: {ids: $ids}, reason: "an example", idempotencyKey: $key}) { operation { ...ApolloOutcome } } }`;
  const remove = {
    mutation: lifecycle,
    variables: {ids: [first.id], key: randomUUID()},
    // Only what was deleted goes: the outcome of each record is data.
    update(cache, {data}) {
      for (const item of data.deleteRecords.operation.items.nodes) {
        if (item.outcome === 'CHANGED') cache.evict({id: `Customer:${item.recordID}`});
      }
    },
  };
  const deleted = (await client.mutate(remove)).data.deleteRecords.operation;
  const again = (await client.mutate(remove)).data.deleteRecords.operation;
  assert.deepEqual([deleted.status, again.id], ['SUCCEEDED', deleted.id]);
  await shows(() => shown.edges.some(({node}) => node.id === first.id), false);

  // Errors. A record that is refused is data, with its code: it is in the bin, where nothing is archived.
  const archived = await client.mutate({
    mutation: gql`mutation ApolloArchive($ids: [ID!]!) {
      archiveRecords(input: {select: {ids: $ids}}) { operation { id status items(first: 1) { nodes { id code message blockers { state allowed } } } } } }`,
    variables: {ids: [first.id]},
  });
  const [refused] = archived.data.archiveRecords.operation.items.nodes;
  assert.equal(refused.code, 'ILLEGAL_TRANSITION');
  console.log('refused item:', refused.code, refused.blockers[0].state, 'allows', refused.blockers[0].allowed);

  await client.mutate({
    mutation: gql`mutation ApolloRestore($ids: [ID!]!) { restoreRecords(input: {select: {ids: $ids}}) { operation { id status } } }`,
    variables: {ids: [first.id]},
    refetchQueries: ['ApolloCustomers'], // it is in lists again, and only the server knows where
    awaitRefetchQueries: true,
  });
  await shows(() => shown.edges.some(({node}) => node.id === first.id), true);
  console.log('deleted and restored');

  // A request that may not be made at all is an error, with its code in the extensions.
  const forbidden = await client.mutate({
    mutation: gql`mutation ApolloPurge($ids: [ID!]!) { purgeRecords(input: {select: {ids: $ids}}) { operation { id } } }`,
    variables: {ids: [first.id]},
  }).catch(error => error);
  assert(CombinedGraphQLErrors.is(forbidden));
  assert.equal(forbidden.errors[0].extensions.code, 'FORBIDDEN');
  console.log('error:', forbidden.errors[0].extensions.code);
});
