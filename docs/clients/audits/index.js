// The audits of GraphQL over HTTP that come with graphql-http, each of them.
import assert from 'node:assert/strict';
import {serverAudits} from 'graphql-http';
import {endpoint, run, token} from '../server.js';

await run(async () => {
  const audits = serverAudits({
    url: endpoint,
    fetchFn: (url, init = {}) => fetch(url, {...init, headers: {...init.headers, Authorization: `Bearer ${token}`}}),
  });
  const failed = [];
  for (const audit of audits) {
    const {status, reason} = await audit.fn(); // 'warn' is a SHOULD
    if (status !== 'ok') failed.push(`${audit.id} ${audit.name}: ${status}, ${reason}`);
  }
  assert.deepEqual(failed, []);
  assert.equal(audits.length, 61);
  console.log(audits.length, 'of', audits.length);
});
