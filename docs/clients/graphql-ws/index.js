// graphql-ws alone: queries, mutations and subscriptions over one socket.
import assert from 'node:assert/strict';
import {randomUUID} from 'node:crypto';
import {createClient} from 'graphql-ws';
import WebSocket from 'ws';
import {cuttable, hears, run, shows, token, unique} from '../server.js';

await run(async () => {
  const way = await cuttable();
  const closed = [];
  const connected = [];
  const connect = (bearer, options) => createClient({
    url: way.webSocket,
    webSocketImpl: WebSocket, // a browser has its own
    connectionParams: () => ({Authorization: `Bearer ${bearer}`}), // called for each connection: a token that was renewed is taken
    shouldRetry: event => event.code !== 4403, // while nobody answers, too, as when the server starts anew; but not without a good token
    on: {closed: event => closed.push(event.code), connected: (_, __, wasRetry) => connected.push(wasRetry)},
    ...options,
  });
  const client = connect(token, {retryAttempts: Infinity, keepAlive: 10_000});
  // The one answer of a query or a mutation. Errors are thrown: those about the request, and those beside data.
  const ask = async (query, variables) => {
    for await (const {data, errors} of client.iterate({query, variables})) {
      if (errors) throw errors;
      return data;
    }
  };
  const code = errors => errors[0].extensions.code;

  const name = unique('graphql-ws');
  const ids = [];
  for (let i = 1; i <= 3; i++) {
    const {createCustomer} = await ask(/* GraphQL */ `mutation WsCreate($input: CreateCustomerInput!) { createCustomer(input: $input) { customer { id } } }`,
      {input: {name: `${name} ${i}`}});
    ids.push(createCustomer.customer.id);
  }

  // A query, page by page. first or last is required, and a cursor is good for the same order only.
  const pages = [];
  for (let after = null, more = true; more;) {
    const {customers} = await ask(/* GraphQL */ `query WsCustomers($where: CustomerWhereInput, $after: Cursor) {
      customers(first: 2, after: $after, where: $where, orderBy: {field: NAME, direction: ASC}) {
        nodes { id name } pageInfo { hasNextPage endCursor } } }`, {where: {nameHasPrefix: name}, after});
    pages.push(customers.nodes.map(node => node.name.slice(name.length + 1)));
    ({hasNextPage: more, endCursor: after} = customers.pageInfo);
  }
  assert.deepEqual(pages, [['1', '2'], ['3']]);
  console.log('query and pages:', pages);

  // A subscription. The version comes with each event, and is what the next update names.
  const [id] = ids;
  const events = [];
  client.subscribe({
    query: /* GraphQL */ `subscription WsChanged($ids: [ID!]) { recordChanged(ids: $ids) { action from to version record { label } } }`,
    variables: {ids: [id]},
  }, {
    next: ({data}) => events.push(data.recordChanged),
    error: error => { console.error(error); process.exit(1); },
    complete() {},
  });
  let version = 1;
  const change = async attempt => {
    ({updateCustomer: {customer: {version}}} = await ask(
      /* GraphQL */ `mutation WsRename($input: UpdateCustomerInput!) { updateCustomer(input: $input) { customer { version } } }`,
      {input: {id, version, name: `${name} heard ${attempt}`}}));
  };
  await hears(events, change);
  console.log('subscription:', events.at(-1).record.label.slice(name.length + 1));

  // Reconnecting: graphql-ws subscribes again by itself. What happened meanwhile is lost: read again what is shown.
  way.cut();
  await hears(events, change);
  assert.deepEqual([closed.at(-1), connected.at(-1)], [1006, true]);
  console.log('heard again after the connection was cut');

  // Delete and restore. The key makes it safe to send it again when the answer was lost: both are one operation.
  const key = randomUUID();
  const remove = () => ask(/* GraphQL */ `mutation WsDelete($ids: [ID!]!, $key: String) {
    deleteRecords(input: {select: {ids: $ids}, reason: "an example", idempotencyKey: $key}) { operation { id status } } }`, {ids: [id], key});
  const {deleteRecords: {operation}} = await remove();
  assert.deepEqual([operation.status, (await remove()).deleteRecords.operation.id], ['SUCCEEDED', operation.id]);

  // Errors. A record that is refused is data, with its code: it is in the bin, where nothing is archived.
  const {archiveRecords} = await ask(/* GraphQL */ `mutation WsArchive($ids: [ID!]!) {
    archiveRecords(input: {select: {ids: $ids}}) { operation { items(first: 1) { nodes { code blockers { state allowed } } } } } }`, {ids: [id]});
  const [refused] = archiveRecords.operation.items.nodes;
  assert.equal(refused.code, 'ILLEGAL_TRANSITION');
  console.log('refused item:', refused.code, refused.blockers[0].state, 'allows', refused.blockers[0].allowed);
  await ask(/* GraphQL */ `mutation WsRestore($ids: [ID!]!) { restoreRecords(input: {select: {ids: $ids}}) { operation { status } } }`, {ids: [id]});
  await shows(() => events.slice(-2).map(event => `${event.action}: ${event.from} to ${event.to}`),
    ['DELETE: ACTIVE to DELETED', 'RESTORE: DELETED to ACTIVE']);
  console.log('deleted and restored, and heard of it');

  // A request that may not be made at all is an error, with its code in the extensions, and so is one that is not valid.
  const purge = /* GraphQL */ `mutation WsPurge($ids: [ID!]!) { purgeRecords(input: {select: {ids: $ids}}) { operation { id } } }`;
  assert.equal(code(await ask(purge, {ids: [id]}).catch(errors => errors)), 'FORBIDDEN');
  assert.equal(code(await ask('{ nothing }').catch(errors => errors)), 'GRAPHQL_VALIDATION_FAILED');
  console.log('error: FORBIDDEN');

  // Who is not let in is told by the code that the connection is closed with.
  const stranger = connect('nobody', {retryAttempts: Infinity});
  const end = await new Promise(resolve => stranger.subscribe({query: '{ viewer { tenant } }'}, {next() {}, error: resolve, complete() {}}));
  assert.equal(end.code, 4403);
  console.log('closed with', end.code, end.reason);
});
