// Rounds of work, each with one fault in it; after each the mesh must agree with itself, and nothing that ran
// may be lost. The faults come from a shuffled deck, so that every one has its turn before any has its second.
import { setTimeout as sleep } from 'node:timers/promises';

import { planServices } from '@wrenn/cli/mesh/service-plan';
import { askHealth } from '@wrenn/cli/mesh/readiness';
import { messageOf } from '@wrenn/kit/errors';
import type { TestMesh } from '@wrenn/e2e/mesh';

import { Calls } from './calls.ts';
import type { Dice } from './dice.ts';
import { type Fault, allFaults, vmmsOf } from './faults.ts';
import type { History } from './history.ts';
import { Population } from './population.ts';

export interface ChaosOptions {
  readonly mesh: TestMesh;
  readonly dice: Dice;
  readonly seed: number;
  readonly history: History;
  readonly endMs: number;
  readonly failpointFile: string;
  // Only faults whose name holds this text.
  readonly filter: string;
}

const maxResidents = 4;
const quietMs = 1500;

export async function runChaos(options: ChaosOptions): Promise<void> {
  const { mesh, dice, seed, history, endMs } = options;
  const calls = new Calls(history);
  const population = new Population(mesh, calls, history, seed);
  const faults = allFaults({ ...options, population }).filter(({ name }) => name.includes(options.filter));
  if (faults.length === 0) throw new Error(`no fault has "${options.filter}" in its name`);
  const signal = { isOver: () => Date.now() > endMs };
  await Promise.all([population.create(), population.create()]);
  let deck: Fault[] = [];
  for (let round = 1; !signal.isOver(); round++) {
    if (deck.length === 0) deck = shuffled(faults, dice);
    const fault = deck.pop();
    if (!fault) return;
    history.note(`round ${round}: ${fault.name}`);
    await work(population, dice, fault, history);
    await settle(options, population, fault);
  }
}

async function work(population: Population, dice: Dice, fault: Fault, history: History): Promise<void> {
  const tasks: Promise<void>[] = [];
  const steps = 4 + dice.below(4);
  const faultAt = dice.below(steps);
  for (let step = 0; step < steps; step++) {
    tasks.push(nextTask(population, dice));
    if (step === faultAt) {
      tasks.push(inject(fault, history).then(() => strike(fault, population, dice)));
    }
    await sleep(dice.between(200, 1200));
  }
  await Promise.all(tasks);
  await fault.lift?.();
}

async function inject(fault: Fault, history: History): Promise<void> {
  history.note(`fault: ${fault.name}: ${await fault.inject()}`);
}

// A fault that lies in wait gets what it waits for.
async function strike({ struckBy }: Fault, population: Population, dice: Dice): Promise<void> {
  const { settled } = population;
  if (struckBy === 'create') await population.create();
  if (struckBy === 'destroy' && settled.length > 0) await population.destroy(dice.pick(settled));
}

// None of these rejects: what goes wrong is noted, and what must not is a breach.
function nextTask(population: Population, dice: Dice): Promise<void> {
  const { settled, size } = population;
  const wish = dice.next();
  if (settled.length === 0 || (size < maxResidents && wish < 0.45)) return population.create();
  const resident = dice.pick(settled);
  return wish < 0.75 ? population.check(resident) : population.destroy(resident);
}

async function settle({ mesh, history }: ChaosOptions, population: Population, fault: Fault): Promise<void> {
  const startMs = Date.now();
  let agreedSinceMs = Infinity;
  for (;;) {
    const problems = await problemsOf(mesh, population);
    const nowMs = Date.now();
    agreedSinceMs = problems.length > 0 ? Infinity : Math.min(agreedSinceMs, nowMs);
    // Twice in a row, with a look of the reconciler in between.
    if (nowMs - agreedSinceMs >= quietMs) {
      history.note(`agreed after ${agreedSinceMs - startMs} ms; ${population.size} run`);
      break;
    }
    if (agreedSinceMs === Infinity && nowMs - startMs > fault.settleLimitMs) {
      for (const problem of problems) history.breach(`after ${fault.settleLimitMs / 1000} s: ${problem}`);
      break;
    }
    await sleep(250);
  }
  await population.evictStrangers().catch((error: unknown) => history.breach(`evicting: ${messageOf(error)}`));
  await Promise.all(population.settled.map((resident) => population.check(resident)));
}

async function problemsOf(mesh: TestMesh, population: Population): Promise<string[]> {
  const services = planServices(mesh.mesh.options);
  const answers = await Promise.all(services.map((plan) => askHealth(plan)));
  const down = services.filter((_plan, index) => !answers[index]?.isServing).map(({ name }) => `${name} is down`);
  if (down.length > 0) return down;
  try {
    return await population.disagreements(vmmsOf(mesh));
  } catch (error) {
    return [`the mesh cannot be asked: ${messageOf(error)}`];
  }
}

function shuffled<T>(things: readonly T[], dice: Dice): T[] {
  const left = [...things];
  const order: T[] = [];
  while (left.length > 0) order.push(...left.splice(dice.below(left.length), 1));
  return order;
}
