// Relay, without React: queries and mutations by POST, subscriptions over WebSocket. relay-compiler has to run first.
import assert from 'node:assert/strict';
import {randomUUID} from 'node:crypto';
import {createClient} from 'graphql-ws';
import relay from 'relay-runtime';
import WebSocket from 'ws';
import {cuttable, endpoint, hears, run, shows, token, unique} from '../server.js';

const {ConnectionHandler, Environment, Network, Observable, RecordSource, Store, commitMutation, createOperationDescriptor,
  fetchQuery, requestSubscription} = relay;

// What Babel's plugin for Relay does: the compiler has written a module for each document.
const graphql = async ([text]) => {
  const [, name] = text.match(/(?:query|mutation|subscription) (\w+)/);
  return (await import(`./artifacts/${name}.graphql.js`)).default;
};

await run(async () => {
  const way = await cuttable();
  const socket = createClient({
    url: way.webSocket,
    webSocketImpl: WebSocket, // a browser has its own
    connectionParams: {Authorization: `Bearer ${token}`}, // a browser cannot send headers with a socket
    retryAttempts: Infinity,
    shouldRetry: event => event.code !== 4403, // while nobody answers, too, as when the server starts anew; but not without a good token
  });
  const environment = new Environment({
    store: new Store(new RecordSource()),
    network: Network.create(
      async ({text}, variables) => (await fetch(endpoint, {
        method: 'POST',
        headers: {'Authorization': `Bearer ${token}`, 'Content-Type': 'application/json', 'Accept': 'application/graphql-response+json'},
        body: JSON.stringify({query: text, variables}),
      })).json(),
      ({text, name}, variables) => Observable.create(sink => socket.subscribe({query: text, operationName: name, variables}, sink)),
    ),
  });
  const commit = (mutation, variables, rest) => new Promise((resolve, reject) => {
    commitMutation(environment, {mutation, variables, onCompleted: resolve, onError: reject, ...rest});
  });

  // Mutations. A name that is new, so that the list below is known.
  const name = unique('Relay');
  const Create = await graphql`mutation relayCreateMutation($input: CreateCustomerInput!) { createCustomer(input: $input) { customer { id } } }`;
  for (let i = 1; i <= 3; i++) await commit(Create, {input: {name: `${name} ${i}`}});

  // A query, and the next page of the same connection. usePaginationFragment does this below React.
  const Customers = await graphql`
    query relayCustomersQuery($where: CustomerWhereInput, $after: Cursor) {
      customers(first: 2, after: $after, where: $where, orderBy: {field: NAME, direction: ASC})
        @connection(key: "relay_customers", filters: ["where"]) {
        __id
        edges { node { id name version state } }
        pageInfo { hasNextPage endCursor }
      }
    }`;
  const where = {nameHasPrefix: name};
  const list = createOperationDescriptor(Customers, {where});
  environment.retain(list);
  await fetchQuery(environment, Customers, {where}).toPromise();
  const snapshot = environment.lookup(list.fragment);
  let shown = snapshot.data.customers; // what a page would show
  environment.subscribe(snapshot, ({data}) => { shown = data.customers; });
  const names = () => shown.edges.map(({node}) => node.name.slice(name.length + 1));
  assert.deepEqual([names(), shown.pageInfo.hasNextPage], [['1', '2'], true]);
  await fetchQuery(environment, Customers, {where, after: shown.pageInfo.endCursor}).toPromise();
  assert.deepEqual(names(), ['1', '2', '3']);
  console.log('query and pages:', names());

  // An optimistic update: the list has the new name before the server does. The version is the one the user saw.
  const Rename = await graphql`mutation relayRenameMutation($input: UpdateCustomerInput!) {
    updateCustomer(input: $input) { customer { id name version state } } }`;
  const rename = (customer, newName) => commit(Rename, {input: {id: customer.id, version: customer.version, name: newName}}, {
    optimisticResponse: {updateCustomer: {customer: {id: customer.id, name: newName, version: customer.version + 1, state: customer.state}}},
  });
  const first = shown.edges[0].node;
  const renaming = rename(first, `${name} 1st`);
  assert.equal(names()[0], '1st');
  await renaming;
  // The same again with the version of before: another has changed it, and what was shown too early is taken back.
  const stale = rename(first, `${name} 1er`);
  assert.equal(names()[0], '1er');
  const conflict = await stale.catch(error => error);
  assert.equal(conflict.source.errors[0].extensions.code, 'CONFLICT');
  assert.equal(names()[0], '1st');
  console.log('optimistic update, kept and taken back');

  // A subscription. What it brings goes into the store by id, and so into every list.
  const events = [];
  requestSubscription(environment, {
    subscription: await graphql`subscription relayChangedSubscription($ids: [ID!]) {
      recordChanged(ids: $ids) { action recordID record { id state version ... on Customer { name } } } }`,
    variables: {ids: [first.id]},
    onNext: data => events.push(data.recordChanged),
  });
  const current = () => shown.edges.find(({node}) => node.id === first.id).node;
  const change = attempt => rename(current(), `${name} 1st, heard ${attempt}`);
  assert.equal((await hears(events, change)).action, 'UPDATE');
  await shows(() => current().version, events.at(-1).record.version);
  console.log('subscription:', events.at(-1).record.name.slice(name.length + 1));

  // Reconnecting: graphql-ws subscribes again by itself.
  way.cut();
  await hears(events, change);
  console.log('heard again after the connection was cut');

  // Delete and restore. The key makes it safe to send it again when the answer was lost: both are one operation.
  const Delete = await graphql`mutation relayDeleteMutation($ids: [ID!]!, $key: String) {
    deleteRecords(input: {select: {ids: $ids}, reason: "an example", idempotencyKey: $key}) {
      operation { id status items(first: 10) { nodes { recordID outcome code message } } } } }`;
  const key = randomUUID();
  const remove = () => commit(Delete, {ids: [first.id], key}, {
    // Only what was deleted goes: the outcome of each record is data, which @deleteEdge would not look at.
    updater(store, {deleteRecords}) {
      for (const item of deleteRecords.operation.items.nodes) {
        if (item.outcome === 'CHANGED') ConnectionHandler.deleteNode(store.get(shown.__id), item.recordID);
      }
    },
  });
  const deleted = (await remove()).deleteRecords.operation;
  assert.deepEqual([deleted.status, (await remove()).deleteRecords.operation.id], ['SUCCEEDED', deleted.id]);
  assert.deepEqual(names(), ['2', '3']);

  // Errors. A record that is refused is data, with its code: it is in the bin, where nothing is archived.
  const archived = await commit(await graphql`mutation relayArchiveMutation($ids: [ID!]!) {
    archiveRecords(input: {select: {ids: $ids}}) {
      operation { id status items(first: 1) { nodes { code message blockers { state allowed } } } } } }`, {ids: [first.id]});
  const [refused] = archived.archiveRecords.operation.items.nodes;
  assert.equal(refused.code, 'ILLEGAL_TRANSITION');
  console.log('refused item:', refused.code, refused.blockers[0].state, 'allows', refused.blockers[0].allowed);

  await commit(await graphql`mutation relayRestoreMutation($ids: [ID!]!) {
    restoreRecords(input: {select: {ids: $ids}}) { operation { id status } } }`, {ids: [first.id]});
  await fetchQuery(environment, Customers, {where}, {networkCacheConfig: {force: true}}).toPromise(); // it is in lists again, and only the server knows where
  assert.equal(shown.edges.some(({node}) => node.id === first.id), true);
  console.log('deleted and restored');

  // A request that may not be made at all is an error, with its code in the extensions.
  const forbidden = await commit(await graphql`mutation relayPurgeMutation($ids: [ID!]!) {
    purgeRecords(input: {select: {ids: $ids}}) { operation { id } } }`, {ids: [first.id]}).catch(error => error);
  assert.equal(forbidden.source.errors[0].extensions.code, 'FORBIDDEN');
  console.log('error:', forbidden.source.errors[0].extensions.code);
});
