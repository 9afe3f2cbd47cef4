// Many sandboxes made and destroyed, a quarter of them with a caller that leaves at some moment of it.
import { setTimeout as sleep } from 'node:timers/promises';

import { destroyAll } from '@wrenn/cli/mesh/destroy-all';
import { hasReason, messageOf } from '@wrenn/kit/errors';
import type { TestMesh } from '@wrenn/e2e/mesh';

import { Calls } from './calls.ts';
import type { Dice } from '@wrenn/kit/testkit/dice';
import { vmmsOf } from './faults.ts';
import { type UsageByService, measure } from './growth.ts';
import type { History } from './history.ts';

export interface SoakOptions {
  readonly mesh: TestMesh;
  readonly dice: Dice;
  readonly history: History;
  readonly count: number;
}

const atOnce = 3;
const warmUpCount = 6;
const abortedShare = 0.25;
// How many lives tell how long one takes just now.
const recentCount = 12;

// Returns what the services took before.
export async function runSoak({ mesh, dice, history, count }: SoakOptions): Promise<UsageByService> {
  const calls = new Calls(history);
  let made = 0;
  let aborted = 0;
  const recentMs: number[] = [];
  const one = async (what: string, abortAfterMs: number | undefined) => {
    const startMs = Date.now();
    const abort = new AbortController();
    const timer = abortAfterMs === undefined ? undefined : setTimeout(() => abort.abort(), abortAfterMs);
    try {
      await calls.once(what, 120_000, async (deadlineAtMs) => {
        const options = { deadlineAtMs, signal: abort.signal };
        const { sandbox } = await mesh.client.sandboxes.create({ template: 'minimal' }, options);
        made += 1;
        await mesh.client.sandboxes.destroy({ sandboxId: sandbox?.id ?? '' }, options);
      });
      recentMs.push(Date.now() - startMs);
      if (recentMs.length > recentCount) recentMs.shift();
    } catch (error) {
      if (hasReason(error, 'CANCELLED')) aborted += 1;
      else history.breach(`${what} failed: ${messageOf(error)}`);
    } finally {
      clearTimeout(timer);
    }
  };

  for (let i = 0; i < warmUpCount; i += atOnce) {
    await Promise.all(Array.from({ length: atOnce }, (_, lane) => one(`warm-up ${i + lane}`, undefined)));
  }
  const before = measure(mesh.mesh);
  // Drawn ahead, so that the order in which lanes take them changes nothing: at which part of its life each of
  // them ends, of one as short as the shortest of late, so that it comes to that.
  const plans = Array.from({ length: count }, () => (dice.chance(abortedShare) ? dice.next() : undefined));
  const queue = plans.entries();
  const lane = async () => {
    for (const [index, abortedAt] of queue) {
      if (history.isOver) return;
      await one(`life ${index}`, abortedAt === undefined ? undefined : abortedAt * Math.min(...recentMs));
      if ((index + 1) % 50 === 0) history.note(`${index + 1} lives: ${made} made, ${aborted} aborted`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  history.note(`${count} lives: ${made - warmUpCount} made, ${aborted} aborted`);

  // Those whose caller left while they were destroyed go on by themselves.
  await destroyAll(mesh.client, (line) => history.note(line));
  const endMs = Date.now() + 10_000;
  while (vmmsOf(mesh).size > 0 && Date.now() < endMs) await sleep(100);
  for (const id of vmmsOf(mesh)) history.breach(`${id} has a VMM still`);
  return before;
}
