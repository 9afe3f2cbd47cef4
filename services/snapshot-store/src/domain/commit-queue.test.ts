import { type SnapshotId, newSnapshotId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { CommitQueue } from './commit-queue.ts';

interface Started {
  readonly id: SnapshotId;
  readonly signal: AbortSignal;
  end(error?: Error): void;
}

// Commits that end when the test says so.
function queueOver(parents: ReadonlyMap<SnapshotId, SnapshotId> = new Map(), retryMs = 60_000) {
  const started: Started[] = [];
  const queue = new CommitQueue({
    retryMs,
    parentOf: (id) => parents.get(id) ?? null,
    commit: (id, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => reject(new Error('aborted')));
      started.push({ id, signal, end: (error) => (error ? reject(error) : resolve()) });
      return promise;
    },
  });
  const next = (count: number) => eventually('a commit starts', () => started.length === count && started[count - 1]);
  return { queue, started, next };
}

test('one commit runs at a time, and a child waits for its parent whatever came first', async () => {
  const [parent, child, other] = [newSnapshotId(), newSnapshotId(), newSnapshotId()];
  const { queue, started, next } = queueOver(new Map([[child, parent]]));
  queue.add(other);
  queue.add(child);
  queue.add(parent);
  (await next(1)).end();
  expect((await next(2)).id).toBe(parent);
  const waited = queue.ended(child);
  (await next(2)).end();
  expect((await next(3)).id).toBe(child);
  started[2]!.end();
  await waited;
  expect(started.map(({ id }) => id)).toEqual([other, parent, child]);
});

test('a failure reaches the child too, and who waits has both tried again', async () => {
  const [parent, child] = [newSnapshotId(), newSnapshotId()];
  const { queue, next } = queueOver(new Map([[child, parent]]));
  queue.add(parent);
  queue.add(child);
  const failed = expect(queue.ended(child)).rejects.toThrow('no room');
  (await next(1)).end(new Error('no room'));
  await failed;
  expect(queue.failureOf(parent)?.message).toBe('no room');
  const again = queue.ended(child);
  (await next(2)).end();
  (await next(3)).end();
  await again;
  expect(queue.failureOf(parent)).toBeUndefined();
});

test('what failed is tried again after a while', async () => {
  const id = newSnapshotId();
  const { queue, next } = queueOver(new Map(), 5);
  queue.add(id);
  (await next(1)).end(new Error('no room'));
  (await next(2)).end();
  await queue.ended(id);
  await queue.close();
});

test('a cancelled commit ends, whether it runs or waits, and the others go on', async () => {
  const [first, second, third] = [newSnapshotId(), newSnapshotId(), newSnapshotId()];
  const { queue, started, next } = queueOver();
  for (const id of [first, second, third]) queue.add(id);
  await next(1);
  const gone = expect(queue.ended(second)).rejects.toMatchObject({ reason: 'SNAPSHOT_NOT_FOUND' });
  await queue.cancel(second);
  await queue.cancel(first);
  await gone;
  expect(started[0]?.signal.aborted).toBe(true);
  expect((await next(2)).id).toBe(third);
  expect(queue.failureOf(first)).toBeUndefined();
  started[1]!.end();
});

test('closing tells those who wait that the store stops', async () => {
  const id = newSnapshotId();
  const { queue, next } = queueOver();
  queue.add(id);
  const told = expect(queue.ended(id)).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE' });
  await next(1);
  await queue.close();
  await told;
});
