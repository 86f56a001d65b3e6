// Where the server is, who calls, and what the examples need to show that they work.
import assert from 'node:assert/strict';
import {randomUUID} from 'node:crypto';
import net from 'node:net';
import {isDeepStrictEqual} from 'node:util';

export const endpoint = (process.env.LETHE_URL ?? 'http://127.0.0.1:8080') + '/graphql';
export const token = process.env.LETHE_TOKEN;
assert(token, 'LETHE_TOKEN: a token of manager@demo.example, see README.md');

/** A name that no other run has given. */
export const unique = client => `${client} ${randomUUID()}`;

/** A way to the server that cut() cuts, as a restart does: who comes back first finds nobody, and only then is it there again. */
export async function cuttable() {
  const {hostname, port} = new URL(endpoint);
  const open = new Set();
  let away = false;
  const listener = net.createServer(near => {
    if (away) {
      away = false;
      near.destroy();
      return;
    }
    const far = net.connect(port, hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.on('error', () => {}).on('close', () => { open.delete(one); other.destroy(); }).pipe(other);
    }
  });
  await new Promise(resolve => listener.listen(0, '127.0.0.1', resolve));
  return {
    http: `http://127.0.0.1:${listener.address().port}/graphql`,
    webSocket: `ws://127.0.0.1:${listener.address().port}/graphql`,
    cut() { away = true; open.forEach(socket => socket.destroy()); },
  };
}

const moment = () => new Promise(resolve => setTimeout(resolve, 10));

/** Waits until something shows, as who looks at a page does. */
export async function shows(read, expected) {
  for (let wait = 0; wait < 500 && !isDeepStrictEqual(read(), expected); wait++) await moment();
  assert.deepEqual(read(), expected);
}

/**
 * Makes a change again until its event is heard. Nothing tells a client when its subscription has begun: applications
 * subscribe first and read afterwards, so that they miss nothing.
 */
export async function hears(events, change) {
  const before = events.length;
  for (let attempt = 0; attempt < 60; attempt++) {
    await change(attempt);
    for (let wait = 0; wait < 100 && events.length === before; wait++) await moment();
    if (events.length > before) return events.at(-1);
  }
  assert.fail('no event was heard');
}

/** Ends the process: 0 when all was as it should be. Open sockets must not keep it. */
export async function run(example) {
  setTimeout(() => { console.error('it took too long'); process.exit(1); }, 90_000).unref();
  try {
    await example();
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
  process.exit(0);
}
