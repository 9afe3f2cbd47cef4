import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { CreateQueue } from './create-queue.ts';
import type { Bell } from './ports.ts';

// Room for so many creates, of which each takes what it needs, and a bell that rings when there is more.
class Room implements Bell {
  free = 0;
  attempts = 0;
  readonly blocked = new Set<string>();
  readonly #rings = new Set<() => void>();

  subscribe() {
    let rung = Promise.withResolvers<void>();
    const ring = () => rung.resolve();
    this.#rings.add(ring);
    return {
      rung: async (signal: AbortSignal) => {
        if (signal.aborted) return;
        signal.addEventListener('abort', ring, { once: true });
        await rung.promise;
        rung = Promise.withResolvers();
      },
      close: () => void this.#rings.delete(ring),
    };
  }

  get subscriberCount(): number {
    return this.#rings.size;
  }

  release(count: number): void {
    this.free += count;
    for (const ring of this.#rings) ring();
  }

  take(need: number, project = 'p') {
    return async () => {
      this.attempts += 1;
      await Promise.resolve();
      if (this.blocked.has(project)) throw new WrennError('QUOTA_EXCEEDED', `${project} is full`);
      if (this.free < need) throw new WrennError('NO_HOST_LEFT', `${this.free} left`);
      this.free -= need;
      return need;
    };
  }
}

function turn(fields: { queueTimeoutMs?: number; project?: string; signal?: AbortSignal; limitMs?: number } = {}) {
  const { queueTimeoutMs = 60_000, project = 'p', signal = new AbortController().signal, limitMs = 60_000 } = fields;
  return { project, queueTimeoutMs, caller: { signal, deadlineAtMs: Date.now() + limitMs } };
}

const reasonOf = (call: Promise<unknown>) => call.then(String, (error: WrennError) => error.reason);

test('refuses at once what does not want to wait', async () => {
  const queue = new CreateQueue(new Room());
  const refused = queue.run(turn({ queueTimeoutMs: 0 }), new Room().take(1));
  await expect(refused).rejects.toMatchObject({ reason: 'NO_HOST_LEFT', message: '0 left' });
  expect(queue.length).toBe(0);
});

test('lets them in one after the other as room comes, in the order in which they came', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  const order: number[] = [];
  const waiting = [1, 2, 3].map(async (n) => {
    await queue.run(turn(), room.take(1));
    order.push(n);
  });
  await eventually('all wait', () => queue.length === 3);
  room.release(1);
  await eventually('one is in', () => order.length === 1);
  room.release(2);
  await Promise.all(waiting);
  expect(order).toEqual([1, 2, 3]);
  expect(room.subscriberCount).toBe(0);
});

test('lets nobody pass one that waits for much', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  const large = queue.run(turn(), room.take(3));
  await eventually('it waits', () => queue.length === 1);
  const small = queue.run(turn(), room.take(1));
  await eventually('both wait', () => queue.length === 2);
  room.release(2);
  expect(await reasonOf(queue.run(turn({ queueTimeoutMs: 0 }), room.take(1)))).toBe('NO_HOST_LEFT');
  expect(queue.length).toBe(2);
  room.release(2);
  expect(await Promise.all([large, small])).toEqual([3, 1]);
});

test('lets other projects pass one whose own quota is used up', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  room.free = 1;
  room.blocked.add('greedy');
  const greedy = queue.run(turn({ project: 'greedy' }), room.take(1, 'greedy'));
  await eventually('it waits', () => queue.length === 1);
  expect(await queue.run(turn({ project: 'modest' }), room.take(1, 'modest'))).toBe(1);
  room.blocked.clear();
  room.release(1);
  expect(await greedy).toBe(1);
});

test('gives up after the time it may wait, or its caller has, and says what was lacking', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  for (const fields of [{ queueTimeoutMs: 30 }, { limitMs: 30 }]) {
    await expect(queue.run(turn(fields), room.take(1))).rejects.toMatchObject({
      reason: 'NO_HOST_LEFT',
      message: expect.stringMatching(/^0 left \(after \d+\.\d s in the queue\)$/),
    });
  }
  expect(queue.length).toBe(0);
  await eventually('nobody listens any more', () => room.subscriberCount === 0);
});

test('lets the next one in when the first leaves', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  const abort = new AbortController();
  const first = reasonOf(queue.run(turn({ signal: abort.signal }), room.take(2)));
  await eventually('it waits', () => queue.length === 1);
  const second = queue.run(turn(), room.take(1));
  await eventually('both wait', () => queue.length === 2);
  room.release(1);
  abort.abort();
  expect(await first).toBe('CANCELLED');
  expect(await second).toBe(1);
});

test('waits for nothing that can never be had', async () => {
  const queue = new CreateQueue(new Room());
  const tooLarge = new WrennError('NO_HOST_LEFT', 'never', { meta: { too_large: 'memory_bytes' } });
  expect(await reasonOf(queue.run(turn(), () => Promise.reject(tooLarge)))).toBe('NO_HOST_LEFT');
});

test('tries nobody while nothing is released', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  const waiting = Array.from({ length: 50 }, () => reasonOf(queue.run(turn({ queueTimeoutMs: 300 }), room.take(1))));
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(['NO_HOST_LEFT']));
  // Each once when it came, and the first of the row once for each that joined or left it.
  expect(room.attempts).toBeLessThanOrEqual(50 + 2 * 50 + 1);
});

test('keeps its place while the database is away, and passes on any other failure', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  let failure: WrennError | undefined;
  const take = room.take(1);
  const waiting = queue.run(turn(), () => (failure ? Promise.reject(failure) : take()));
  await eventually('it waits', () => queue.length === 1);
  failure = new WrennError('DATABASE_UNAVAILABLE', 'away');
  room.release(1);
  const other = reasonOf(queue.run(turn(), () => Promise.reject(failure ?? new WrennError('NO_HOST_LEFT', 'full'))));
  await eventually('both wait', () => queue.length === 2);
  failure = undefined;
  queue.look();
  expect(await waiting).toBe(1);
  failure = new WrennError('STATE_CONFLICT', 'broken');
  queue.look();
  expect(await other).toBe('STATE_CONFLICT');
});

test('sends everybody away when it closes, and takes nobody in after', async () => {
  const room = new Room();
  const queue = new CreateQueue(room);
  const waiting = Array.from({ length: 3 }, () => reasonOf(queue.run(turn(), room.take(1))));
  await eventually('all wait', () => queue.length === 3);
  queue.close();
  expect(await Promise.all(waiting)).toEqual(Array(3).fill('SERVICE_UNAVAILABLE'));
  expect(await reasonOf(queue.run(turn(), room.take(1)))).toBe('SERVICE_UNAVAILABLE');
  room.free = 1;
  expect(await queue.run(turn(), room.take(1))).toBe(1);
});
