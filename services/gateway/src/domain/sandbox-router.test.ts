import { type Reason, WrennError } from '@wrenn/kit/errors';
import { expect, test } from 'vitest';

import type { HostAddress } from './peers.ts';
import { RouteCache } from './route-cache.ts';
import { SandboxRouter } from './sandbox-router.ts';

// Hosts by address, each answering with its name or failing; the scheduler knows where the sandbox is.
class World {
  readonly attempts: string[] = [];
  readonly hosts = new Map<string, Reason | 'answers' | 'breaks'>([['a', 'answers']]);
  home = 'a'; // Or the reason why the scheduler cannot say.
  nowMs = 0;
  resolveCount = 0;
  onResolve: () => unknown = () => undefined;
  readonly #router = new SandboxRouter(new RouteCache({ capacity: 10, freshMs: 1000, nowMs: () => this.nowMs }));

  async call(isIdempotent = false, isRepeatable = true): Promise<string[]> {
    const answers: string[] = [];
    const resolve = async () => {
      this.resolveCount += 1;
      this.onResolve();
      if (this.home.length > 1) throw new WrennError(this.home as Reason, 'from the scheduler');
      return { interactive: this.home, bulk: `${this.home}-bulk` };
    };
    const attempt = ({ interactive }: HostAddress) => this.#attempt(interactive);
    const call = { sandboxId: 's', isIdempotent, isRepeatable, resolve, attempt };
    for await (const answer of this.#router.run(call)) answers.push(answer);
    return answers;
  }

  async *#attempt(address: string): AsyncGenerator<string> {
    this.attempts.push(address);
    const state = this.hosts.get(address) ?? 'SERVICE_UNAVAILABLE';
    if (state === 'answers' || state === 'breaks') yield address;
    if (state === 'breaks') throw new WrennError('SERVICE_UNAVAILABLE', `from ${address}`);
    if (state !== 'answers') throw new WrennError(state, `from ${address}`);
  }
}

test('the scheduler is asked once as long as the route is fresh', async () => {
  const world = new World();
  await world.call();
  await world.call();
  expect(world.resolveCount).toBe(1);
  world.nowMs = 1000;
  await world.call();
  expect(world.resolveCount).toBe(2);
});

test.each(['SANDBOX_NOT_FOUND', 'SANDBOX_NOT_RUNNING'] as const)(
  'a call that the old host refuses with %s runs on the new host',
  async (reason) => {
    const world = new World();
    await world.call();
    world.hosts.set('a', reason).set('b', 'answers');
    world.home = 'b';
    expect(await world.call()).toEqual(['b']);
    expect(world.attempts).toEqual(['a', 'a', 'b']);
  },
);

test('a call that can be read only once asks for its route first, and is sent once', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'SANDBOX_NOT_FOUND').set('b', 'answers');
  world.home = 'b';
  expect(await world.call(false, false)).toEqual(['b']);
  expect(world.attempts).toEqual(['a', 'b']);
  world.home = 'SERVICE_UNAVAILABLE';
  expect(await world.call(false, false)).toEqual(['b']);
  world.hosts.set('b', 'SANDBOX_NOT_FOUND');
  await expect(world.call(false, false)).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
  expect(world.attempts).toEqual(['a', 'b', 'b', 'b']);
});

test('a call that may have run on a lost host is not repeated, and the next one finds the new host', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'SERVICE_UNAVAILABLE').set('b', 'answers');
  world.home = 'b';
  await expect(world.call(false)).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  expect(world.attempts).toEqual(['a', 'a']);
  expect(await world.call(false)).toEqual(['b']);
});

test('an idempotent call moves on from a lost host by itself', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'SERVICE_UNAVAILABLE').set('b', 'answers');
  world.home = 'b';
  expect(await world.call(true)).toEqual(['b']);
});

test('a stream that has answered is never begun again', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'breaks').set('b', 'answers');
  world.home = 'b';
  await expect(world.call(true)).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  expect(world.attempts).toEqual(['a', 'a']);
});

test('a route that was just resolved is not doubted: its answer is final', async () => {
  const world = new World();
  world.hosts.set('a', 'SANDBOX_NOT_FOUND');
  await expect(world.call(true)).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
  expect(world.attempts).toEqual(['a']);
  expect(world.resolveCount).toBe(1);
});

test('a host that is down and that the scheduler stands by is not asked twice', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'SERVICE_UNAVAILABLE');
  await expect(world.call(true)).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE', message: 'from a' });
  expect(world.attempts).toEqual(['a', 'a']);
});

test.each(['SANDBOX_NOT_FOUND', 'SANDBOX_NOT_RUNNING'] as const)(
  'a call that its host refuses with %s is sent there again once the scheduler has had the sandbox restored',
  async (reason) => {
    const world = new World();
    await world.call();
    world.hosts.set('a', reason);
    world.onResolve = () => world.hosts.set('a', 'answers');
    expect(await world.call()).toEqual(['a']);
    expect(world.attempts).toEqual(['a', 'a', 'a']);
  },
);

test('a host that refuses again, against what the scheduler says, is believed', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'SANDBOX_NOT_FOUND');
  await expect(world.call()).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND', message: 'from a' });
  expect(world.attempts).toEqual(['a', 'a', 'a']);
});

test('a call that a pause cut off is not repeated, which would resume the sandbox, and forgets the route', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'SANDBOX_PAUSED');
  await expect(world.call(true)).rejects.toMatchObject({ reason: 'SANDBOX_PAUSED' });
  expect([world.attempts.length, world.resolveCount]).toEqual([2, 1]);
  world.hosts.set('a', 'answers');
  await world.call();
  expect(world.resolveCount).toBe(2);
});

test('what the scheduler says of a sandbox that is gone reaches the caller', async () => {
  const world = new World();
  await world.call();
  world.hosts.set('a', 'SANDBOX_NOT_FOUND');
  world.home = 'SANDBOX_NOT_RUNNING';
  await expect(world.call()).rejects.toMatchObject({ reason: 'SANDBOX_NOT_RUNNING', message: 'from the scheduler' });
});

test('a sandbox stays reachable by its last route while the scheduler is down', async () => {
  const world = new World();
  await world.call();
  world.nowMs = 60_000;
  world.home = 'SERVICE_UNAVAILABLE';
  expect(await world.call()).toEqual(['a']);
  world.home = 'DATABASE_UNAVAILABLE';
  expect(await world.call()).toEqual(['a']);
});

test('a stale route is forgotten once the scheduler says that the sandbox is gone', async () => {
  const world = new World();
  await world.call();
  world.nowMs = 60_000;
  world.home = 'SANDBOX_NOT_RUNNING';
  await expect(world.call()).rejects.toMatchObject({ reason: 'SANDBOX_NOT_RUNNING' });
  world.home = 'SERVICE_UNAVAILABLE';
  await expect(world.call()).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
});

test.each(['COMMAND_NOT_FOUND', 'AGENT_UNREACHABLE', 'DEADLINE_EXCEEDED', 'INTERNAL'] as const)(
  '%s says nothing against the route',
  async (reason) => {
    const world = new World();
    await world.call();
    world.hosts.set('a', reason);
    await expect(world.call(true)).rejects.toMatchObject({ reason });
    world.hosts.set('a', 'answers');
    await world.call();
    expect(world.resolveCount).toBe(1);
  },
);
