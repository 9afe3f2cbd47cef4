import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { FakeDisks, FakeSnapshots } from '../../test/fakes.ts';
import { ComingSnapshots } from './coming-snapshots.ts';
import type { StageRequest } from './snapshot.ts';

const id = newSnapshotId();
const request = { snapshotId: id, sandboxId: newSandboxId() } as StageRequest;

function snapshotsWithOneComing() {
  const snapshots = new ComingSnapshots(new FakeSnapshots(new FakeDisks()));
  const gate = Promise.withResolvers<void>();
  const staging = gate.promise.then(() => snapshots.stage(request, inMs(1000)));
  snapshots.expect(id, staging);
  return { snapshots, gate };
}

test('one that is coming is waited for, others are not', async () => {
  const { snapshots, gate } = snapshotsWithOneComing();
  const asked = snapshots.get(id, false, inMs(5000));
  await expect(snapshots.get(newSnapshotId(), false, inMs(5000))).rejects.toMatchObject({
    reason: 'SNAPSHOT_NOT_FOUND',
  });
  expect(await snapshots.list(inMs(5000))).toEqual([]);
  gate.resolve();
  expect(await asked).toMatchObject({ sandboxId: request.sandboxId });
  expect(await snapshots.list(inMs(5000))).toHaveLength(1);
});

test('what is deleted while it is coming does not come afterwards', async () => {
  const { snapshots, gate } = snapshotsWithOneComing();
  const deleted = snapshots.delete(id, inMs(5000));
  gate.resolve();
  await deleted;
  expect(await snapshots.list(inMs(5000))).toEqual([]);
});

test('nobody waits longer than the call may, or than its caller', async () => {
  const { snapshots } = snapshotsWithOneComing();
  const caller = new AbortController();
  const asked = [snapshots.get(id, false, inMs(20)), snapshots.get(id, false, inMs(60_000, caller.signal))];
  caller.abort();
  const refused = asked.map((each) => expect(each).rejects.toMatchObject({ reason: 'SNAPSHOT_NOT_FOUND' }));
  await Promise.all(refused);
});

test('one that never comes is asked for in vain', async () => {
  const { snapshots, gate } = snapshotsWithOneComing();
  gate.reject(new Error('refused'));
  await expect(snapshots.get(id, false, inMs(5000))).rejects.toMatchObject({ reason: 'SNAPSHOT_NOT_FOUND' });
});
