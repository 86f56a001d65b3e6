// graphql-sse in its mode of distinct connections: each operation is a request, and its answers are server-sent events.
import assert from 'node:assert/strict';
import {randomUUID} from 'node:crypto';
import {createClient} from 'graphql-sse';
import {cuttable, hears, run, shows, token, unique} from '../server.js';

await run(async () => {
  const way = await cuttable();
  const client = createClient({
    url: way.http,
    headers: () => ({Authorization: `Bearer ${token}`}), // called for each request: a token that was renewed is taken
    retryAttempts: Infinity,
  });
  // The one answer of a query or a mutation. Errors are thrown: those about the request, and those beside data.
  const ask = async (query, variables) => {
    for await (const {data, errors} of client.iterate({query, variables})) {
      if (errors) throw errors;
      return data;
    }
  };
  const code = errors => errors[0].extensions.code;

  const name = unique('graphql-sse');
  const ids = [];
  for (let i = 1; i <= 3; i++) {
    const {createCustomer} = await ask(/* GraphQL */ `mutation SseCreate($input: CreateCustomerInput!) { createCustomer(input: $input) { customer { id } } }`,
      {input: {name: `${name} ${i}`}});
    ids.push(createCustomer.customer.id);
  }

  // A query, page by page, this time from the end. first or last is required.
  const pages = [];
  for (let before = null, more = true; more;) {
    const {customers} = await ask(/* GraphQL */ `query SseCustomers($where: CustomerWhereInput, $before: Cursor) {
      customers(last: 2, before: $before, where: $where, orderBy: {field: NAME, direction: ASC}) {
        nodes { id name } pageInfo { hasPreviousPage startCursor } } }`, {where: {nameHasPrefix: name}, before});
    pages.push(customers.nodes.map(node => node.name.slice(name.length + 1)));
    ({hasPreviousPage: more, startCursor: before} = customers.pageInfo);
  }
  assert.deepEqual(pages, [['2', '3'], ['1']]);
  console.log('query and pages:', pages);

  // A subscription.
  const [id] = ids;
  const events = [];
  client.subscribe({
    query: /* GraphQL */ `subscription SseChanged($ids: [ID!]) { recordChanged(ids: $ids) { action from to record { label } } }`,
    variables: {ids: [id]},
  }, {
    next: ({data}) => events.push(data.recordChanged),
    error: error => { console.error(error); process.exit(1); },
    complete() {},
  });
  let version = 1;
  const change = async attempt => {
    ({updateCustomer: {customer: {version}}} = await ask(
      /* GraphQL */ `mutation SseRename($input: UpdateCustomerInput!) { updateCustomer(input: $input) { customer { version } } }`,
      {input: {id, version, name: `${name} heard ${attempt}`}}));
  };
  await hears(events, change);
  console.log('subscription:', events.at(-1).record.label.slice(name.length + 1));

  // Reconnecting: graphql-sse asks again by itself. What happened meanwhile is lost: read again what is shown.
  way.cut();
  await hears(events, change);
  console.log('heard again after the connection was cut');

  // Delete and restore. The key makes it safe to send it again when the answer was lost: both are one operation.
  const key = randomUUID();
  const remove = () => ask(/* GraphQL */ `mutation SseDelete($ids: [ID!]!, $key: String) {
    deleteRecords(input: {select: {ids: $ids}, reason: "an example", idempotencyKey: $key}) { operation { id status } } }`, {ids: [id], key});
  const {deleteRecords: {operation}} = await remove();
  assert.deepEqual([operation.status, (await remove()).deleteRecords.operation.id], ['SUCCEEDED', operation.id]);

  // The progress of an operation, which comes once as it is, and has its end.
  const progress = [];
  for await (const {data} of client.iterate({
    query: /* GraphQL */ `subscription SseProgress($id: ID!) { operationProgress(id: $id) { status total processed } }`, variables: {id: operation.id},
  })) progress.push(data.operationProgress);
  assert.deepEqual(progress, [{status: 'SUCCEEDED', total: 1, processed: 1}]);

  // Errors. A record that is refused is data, with its code: it is in the bin, where nothing is archived.
  const {archiveRecords} = await ask(/* GraphQL */ `mutation SseArchive($ids: [ID!]!) {
    archiveRecords(input: {select: {ids: $ids}}) { operation { items(first: 1) { nodes { code blockers { state allowed } } } } } }`, {ids: [id]});
  const [refused] = archiveRecords.operation.items.nodes;
  assert.equal(refused.code, 'ILLEGAL_TRANSITION');
  console.log('refused item:', refused.code, refused.blockers[0].state, 'allows', refused.blockers[0].allowed);
  await ask(/* GraphQL */ `mutation SseRestore($ids: [ID!]!) { restoreRecords(input: {select: {ids: $ids}}) { operation { status } } }`, {ids: [id]});
  await shows(() => events.slice(-2).map(event => `${event.action}: ${event.from} to ${event.to}`),
    ['DELETE: ACTIVE to DELETED', 'RESTORE: DELETED to ACTIVE']);
  console.log('deleted and restored, and heard of it');

  // A request that may not be made at all is an error, with its code in the extensions, and so is one that is not valid.
  const purge = /* GraphQL */ `mutation SsePurge($ids: [ID!]!) { purgeRecords(input: {select: {ids: $ids}}) { operation { id } } }`;
  assert.equal(code(await ask(purge, {ids: [id]}).catch(errors => errors)), 'FORBIDDEN');
  assert.equal(code(await ask('{ nothing }').catch(errors => errors)), 'GRAPHQL_VALIDATION_FAILED');
  console.log('error: FORBIDDEN');

  // Who is not let in gets an answer all the same, for a stream cannot show its status to everybody.
  const stranger = createClient({url: way.http, headers: {Authorization: 'Bearer nobody'}});
  for await (const answer of stranger.iterate({query: '{ viewer { tenant } }'})) assert.equal(code(answer.errors), 'UNAUTHENTICATED');
});
