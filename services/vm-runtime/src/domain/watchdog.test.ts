import { setTimeout as sleep } from 'node:timers/promises';

import { expect, test } from 'vitest';

import { type Signs, answersWithin, untilStuck } from './watchdog.ts';

const times = { pauseMs: 1, lookMs: 1, roundMs: 10, rounds: 3 };
const forever = new AbortController().signal;

// Signs that answer as a script says, round by round, then never again.
function scripted(vmm: readonly boolean[], agent: readonly boolean[] = []) {
  const asked = { vmm: 0, agent: 0 };
  const signs: Signs = {
    vmmAnswers: async () => vmm[asked.vmm++] ?? false,
    agentAnswers: async () => agent[asked.agent++] ?? false,
  };
  return { asked, signs };
}

test('a VMM is stuck after so many rounds without any sign, no sooner', async () => {
  const { asked, signs } = scripted([true, true]);
  expect(await untilStuck(signs, forever, times)).toBe(true);
  expect(asked).toEqual({ vmm: 6, agent: 3 });
});

test('any answer, of either, begins the count anew', async () => {
  const { asked, signs } = scripted([false, false, true, false, false], [false, false, true]);
  expect(await untilStuck(signs, forever, times)).toBe(true);
  // A look and a round are silent, then the VMM answers; a look and no round, for the guest does; a look and three.
  expect(asked).toEqual({ vmm: 9, agent: 6 });
});

test('a guest is left alone as long as its VMM answers', async () => {
  const over = new AbortController();
  const { asked, signs } = scripted(Array.from({ length: 1000 }, () => true));
  const watching = untilStuck(signs, over.signal, times);
  await sleep(30);
  over.abort();
  expect(await watching).toBe(false);
  expect(asked.vmm).toBeGreaterThan(2);
  expect(asked.agent).toBe(0);
});

test('an answer that waits in a socket while this process is held up counts', async () => {
  const { Server, connect } = await import('node:net');
  const server = new Server((socket) => void socket.on('error', () => undefined).end('here'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const socket = connect((server.address() as { port: number }).port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  const answer = answersWithin(new Promise((resolve) => socket.once('data', resolve)), 20);
  // No event loop turns for far longer than the limit.
  const endMs = performance.now() + 120;
  while (performance.now() < endMs);
  expect(await answer).toBe(true);
  socket.destroy();
  server.close();
});

test('a refusal and silence are no answers', async () => {
  expect(await answersWithin(Promise.reject(new Error('no')), 5)).toBe(false);
  expect(await answersWithin(new Promise(() => undefined), 5)).toBe(false);
  expect(await answersWithin(Promise.resolve(), 5)).toBe(true);
});
