// Pauses, resumes, forks and snapshots, two sandboxes at a time, in rounds; in each of them something is killed.
// After each the records must agree with the machine, and everything that was not itself killed must be whole.
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf } from '@wrenn/kit/errors';
import type { TestMesh } from '@wrenn/e2e/mesh';

import { Calls } from './calls.ts';
import type { Dice } from '@wrenn/kit/testkit/dice';
import type { Fault } from './faults.ts';
import { Herd, type Member } from './herd.ts';
import type { History } from './history.ts';
import { awaitAgreement, awaitTidy } from './pause-agreement.ts';
import { pauseStrikes, randomKill } from './pause-strikes.ts';

export interface PausesOptions {
  readonly mesh: TestMesh;
  readonly dice: Dice;
  readonly seed: number;
  readonly history: History;
  readonly count: number;
  // It ends early rather than take longer.
  readonly limitMs: number;
  readonly failpointFile: string;
  // Only strikes whose name holds this text.
  readonly filter: string;
}

const herdSize = 3;
const atOnce = 2;
const secondStrikeShare = 0.25;
const churnShare = 0.4;
const trapLimitMs = 5000;
const tidyEvery = 5;

type Cycle = 'pause' | 'durable pause' | 'rest' | 'fork' | 'fork of a paused one' | 'snapshot';
const cycles: readonly Cycle[] = [
  ...(['pause', 'pause', 'pause', 'pause', 'durable pause', 'durable pause', 'durable pause'] as const),
  ...(['rest', 'rest', 'fork', 'fork', 'fork of a paused one', 'snapshot'] as const),
];

interface Plan {
  readonly cycle: Cycle;
  readonly churns: boolean;
  readonly restMs: number;
  readonly childCount: number;
}

export async function runPauses(options: PausesOptions): Promise<void> {
  const { mesh, dice, seed, history, count, limitMs } = options;
  const herd = new Herd(mesh, new Calls(history), history, seed);
  const parts = { ...options, herd };
  const chosen = pauseStrikes(parts).filter(({ name }) => name.includes(options.filter));
  if (chosen.length === 0) throw new Error(`no strike has "${options.filter}" in its name`);
  const endMs = Date.now() + limitMs;
  let deck: Fault[] = [];
  let done = 0;
  for (let round = 1; done < count && Date.now() < endMs && !history.isOver; round++) {
    while (herd.members.length < herdSize) await herd.create();
    if (deck.length === 0) deck = dice.shuffled(chosen);
    const strikes = [deck.pop()!, ...(dice.chance(secondStrikeShare) ? [randomKill(parts)] : [])];
    const plans = dice.shuffled(herd.members).map((member) => ({ member, plan: planOf(dice) }));
    history.note(`round ${round}, ${done} of ${count} done: ${strikes.map(({ name }) => name).join(', then ')}`);
    const work = plans.slice(0, atOnce).map(({ member, plan }) => cycle(herd, member, plan, history));
    await Promise.all([...work, ...strikes.map((strike) => strikeAt(strike, dice.between(0, 2500), history))]);
    done += work.length;
    await untilStruck(strikes, history);
    await recover(parts, Math.max(...strikes.map(({ settleLimitMs }) => settleLimitMs)));
    if (round % tidyEvery === 0) await awaitTidy(mesh, herd, history);
  }
  if (done < count) history.note(`time is up after ${done} of ${count}`);
  for (const { guest } of herd.members) await herd.destroy(guest.id);
  await awaitTidy(mesh, herd, history);
  history.note(`${done} pauses, resumes, forks and snapshots`);
}

function planOf(dice: Dice): Plan {
  return {
    cycle: dice.pick(cycles),
    churns: dice.chance(churnShare),
    restMs: dice.between(200, 2000),
    childCount: 1 + dice.below(2),
  };
}

// Never rejects: what could not be done is looked into afterwards.
async function cycle(herd: Herd, member: Member, plan: Plan, history: History): Promise<void> {
  const what = `${plan.cycle}${plan.churns ? ' after much writing' : ''} of ${member.guest.id}`;
  const startMs = Date.now();
  try {
    if (plan.churns) await herd.churn(member);
    await herd.mark(member);
    await herd.check(member);
    await carryOut(herd, member, plan);
    await herd.mark(member);
    await herd.check(member);
    history.note(`${what}: ${Date.now() - startMs} ms`);
  } catch (error) {
    history.note(`${what}: not done after ${Date.now() - startMs} ms: ${messageOf(error)}`);
  }
}

async function carryOut(herd: Herd, member: Member, { cycle, restMs, childCount }: Plan): Promise<void> {
  if (cycle === 'fork') return herd.fork(member, childCount);
  if (cycle === 'snapshot') return herd.snapshot(member);
  await herd.pause(member, cycle === 'durable pause');
  if (cycle === 'rest') await sleep(restMs);
  if (cycle === 'fork of a paused one') await herd.fork(member, childCount);
  await herd.resume(member);
}

async function strikeAt(strike: Fault, afterMs: number, history: History): Promise<void> {
  // What lies in wait does so from the start.
  if (!strike.trap) await sleep(afterMs);
  history.note(`strike: ${strike.name}: ${await strike.inject()}`);
}

async function untilStruck(strikes: readonly Fault[], history: History): Promise<void> {
  for (const { name, trap, lift } of strikes) {
    const endMs = Date.now() + trapLimitMs;
    while (trap?.hasStruck() === false && Date.now() < endMs) await sleep(20);
    if (trap?.hasStruck() === false) history.note(`${name}: nothing came to it`);
    await lift?.();
  }
}

async function recover({ mesh, herd, history }: PausesOptions & { herd: Herd }, limitMs: number): Promise<void> {
  await awaitAgreement(mesh, history, limitMs);
  await herd.evictStrangers().catch((error: unknown) => history.breach(`evicting: ${messageOf(error)}`));
  const bringBack = async (member: Member) => {
    try {
      await herd.bringBack(member);
    } catch (error) {
      history.breach(`${member.guest.id} does not come back: ${messageOf(error)}`);
      await herd.destroy(member.guest.id);
    }
  };
  await Promise.all(herd.members.map(bringBack));
}
