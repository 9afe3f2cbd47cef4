// What becomes of a sandbox whose snapshot is damaged, or whose memory is taken away while it runs: it is refused or
// ended with the reason, and nothing else is touched.
import { copyFile, open, readdir, rename, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { listProcesses } from '@wrenn/cli/proc';
import { WrennError } from '@wrenn/kit/errors';
import { signalProcess } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { beforeAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const MiB = 2 ** 20;
// More than what a pause copies out of a VMM: the next restore takes its memory through a pager.
const muchBytes = 40 * MiB;
const blob = '/dev/shm/blob';

let neighbour: Guest;

beforeAll(async () => {
  neighbour = await mesh.now.create();
});

async function guestWith(bytes: number): Promise<{ guest: Guest; sum: string }> {
  const guest = await mesh.now.create();
  await guest.sh(`head -c ${bytes} /dev/urandom > ${blob}`);
  return { guest, sum: await guest.sh(`sha256sum ${blob}`) };
}

// The files of the snapshot that it stands on.
async function filesOf(guest: Guest): Promise<{ home: string; id: string }> {
  const { snapshotId } = await guest.get();
  return { home: join(mesh.now.mesh.options.dataDir, 'snapshot-store', 'snapshots', snapshotId), id: snapshotId };
}

const pagerOf = ({ id }: Guest) =>
  listProcesses().find(({ args }) => args.includes('--listen') && args.some((arg) => arg.includes(id)));

async function endsInError(guest: Guest, reason: string): Promise<void> {
  const isOver = async () => (await guest.get()).state === SandboxState.ERROR;
  await eventually('it is found out', isOver, 30_000);
  expect((await guest.get()).errorReason).toBe(reason);
  expect(await neighbour.sh('echo well')).toBe('well');
  await guest.destroy();
}

async function flipByte(path: string, at: number): Promise<void> {
  await using file = await open(path, 'r+');
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
  await file.write(Buffer.from([buffer[0]! ^ 0xff]), 0, 1, at);
}

test('a damaged snapshot is refused by file and generation, stays paused, and is well again once its file is', async () => {
  const { guest, sum } = await guestWith(MiB);
  await guest.pause(true);
  await guest.resume();
  await guest.pause(true);
  const { home, id } = await filesOf(guest);
  const own = join(home, `memfile.${id}`);
  for (const [file, damage] of [
    [own, () => flipByte(own, 5000)],
    [join(home, 'vmstate'), () => truncate(join(home, 'vmstate'), 100)],
    [own, () => rm(own)],
  ] as const) {
    const kept = `${file}.kept`;
    await rename(file, kept);
    await copyFile(kept, file);
    await damage();
    const refused = await guest.resume().then(
      () => undefined,
      (error: unknown) => error as WrennError,
    );
    expect(refused?.reason).toBe('SNAPSHOT_CORRUPT');
    expect(refused?.meta).toMatchObject({ file: file.slice(home.length + 1), generation: '1' });
    expect((await guest.get()).state).toBe(SandboxState.PAUSED);
    await rm(file, { force: true });
    await rename(kept, file);
  }
  await guest.resume();
  expect(await guest.sh(`sha256sum ${blob}`)).toBe(sum);
  await guest.destroy();
});

test('a memory file that is cut while a guest runs on it ends that guest alone', async () => {
  const { guest } = await guestWith(8 * MiB);
  await guest.pause(true);
  await guest.resume();
  const { home } = await filesOf(guest);
  const names = (await readdir(home)).filter((name) => name.startsWith('memfile.sn-') && !name.endsWith('.sums'));
  for (const name of names) await truncate(join(home, name), 0);
  // Whether it answers before it is gone makes no difference.
  await guest.exec('sha256sum', [blob]).catch(() => undefined);
  await endsInError(guest, 'VMM_DIED');
});

describe('a guest that a pager serves', () => {
  async function served(): Promise<{ guest: Guest; sum: string }> {
    const made = await guestWith(MiB);
    const { guest } = made;
    await guest.pause(true);
    await guest.resume();
    await guest.sh(`head -c ${muchBytes} /dev/urandom > /dev/shm/much`);
    await guest.pause(true);
    await guest.resume();
    expect(pagerOf(guest)).toBeDefined();
    return made;
  }

  test('holds what it held, and pauses and resumes like any other', async () => {
    const { guest, sum } = await served();
    expect(await guest.sh(`sha256sum ${blob}`)).toBe(sum);
    await guest.pause();
    await guest.resume();
    expect(await guest.sh(`sha256sum ${blob}`)).toBe(sum);
    await guest.destroy();
  });

  test('ends with it, and says so', async () => {
    const { guest } = await served();
    signalProcess(pagerOf(guest)!, 'SIGKILL');
    await endsInError(guest, 'PAGER_DIED');
  });

  test('is never given a page that is not what it was: it ends before it sees one', async () => {
    const { guest } = await served();
    const { home, id } = await filesOf(guest);
    const path = join(home, `memfile.${id}`);
    // Every page that it has not fetched yet.
    await using file = await open(path, 'r+');
    const { size } = await file.stat();
    for (let at = 0; at < size; at += 4096) await file.write(Buffer.from('damaged'), 0, 7, at);
    await guest.exec('sha256sum', ['/dev/shm/much']).catch(() => undefined);
    await endsInError(guest, 'MEMORY_CORRUPT');
  });
});

test('a pause that a VMM stands still through fails, and the sandbox goes on with it', async () => {
  const { guest, sum } = await guestWith(MiB);
  const vmm = guest.vmm()!;
  signalProcess(vmm, 'SIGSTOP');
  // Long enough for its guest to have been asked in vain, not so long that it would be given up.
  const goesOn = sleep(8000).then(() => signalProcess(vmm, 'SIGCONT'));
  await expect(guest.pause(false)).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
  await goesOn;
  await eventually('it runs', async () => (await guest.get()).state === SandboxState.RUNNING, 30_000);
  expect(await guest.sh(`sha256sum ${blob}`)).toBe(sum);
  expect(guest.vmm()).toEqual(vmm);
  await guest.pause(false);
  await guest.resume();
  expect(await guest.sh(`sha256sum ${blob}`)).toBe(sum);
  await guest.destroy();
});

test('a sandbox whose VMM stands still for good while it is paused is found out', async () => {
  const guest = await mesh.now.create();
  signalProcess(guest.vmm()!, 'SIGSTOP');
  await expect(guest.pause(false)).rejects.toBeInstanceOf(WrennError);
  await endsInError(guest, 'VMM_STUCK');
});

test('the neighbour was not touched by any of it', async () => {
  expect((await neighbour.get()).state).toBe(SandboxState.RUNNING);
  await neighbour.destroy();
});

endsWithoutLeaks(mesh);
