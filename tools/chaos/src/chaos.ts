// First death at each step of create and destroy, one after the other; then rounds of work, each with one fault
// in it, from a shuffled deck, so that every one has its turn before any has its second. After each fault the
// mesh must agree with itself and with the machine, and nothing that ran may be lost.
import { setTimeout as sleep } from 'node:timers/promises';

import { planServices } from '@wrenn/cli/mesh/service-plan';
import { askHealth } from '@wrenn/cli/mesh/readiness';
import { messageOf } from '@wrenn/kit/errors';
import type { TestMesh } from '@wrenn/e2e/mesh';

import { Calls } from './calls.ts';
import type { Dice } from '@wrenn/kit/testkit/dice';
import { type Fault, enumeratedFaults, randomFaults, vmmsOf } from './faults.ts';
import type { History } from './history.ts';
import { strangersOn } from './host-view.ts';
import { Population } from './population.ts';

export interface ChaosOptions {
  readonly mesh: TestMesh;
  readonly dice: Dice;
  readonly seed: number;
  readonly history: History;
  // For the rounds; the steps take as long as they take.
  readonly roundsMs: number;
  readonly failpointFile: string;
  // Only faults whose name holds this text.
  readonly filter: string;
  // Without the pass over every step.
  readonly isRoundsOnly: boolean;
}

const maxResidents = 4;
const quietMs = 1500;
const strikeLimitMs = 5000;

export async function runChaos(options: ChaosOptions): Promise<void> {
  const { mesh, dice, seed, history, roundsMs } = options;
  const calls = new Calls(history);
  const population = new Population(mesh, calls, history, seed);
  const isChosen = ({ name }: Fault) => name.includes(options.filter);
  const steps = enumeratedFaults({ ...options, population }).filter(isChosen);
  const faults = [...randomFaults({ ...options, population }).filter(isChosen), ...steps];
  if (faults.length === 0) throw new Error(`no fault has "${options.filter}" in its name`);
  await Promise.all([population.create(), population.create()]);
  for (const [index, fault] of alternated(options.isRoundsOnly ? [] : steps).entries()) {
    if (history.isOver) return;
    history.note(`step ${index + 1} of ${steps.length}: ${fault.name}`);
    await dieOnce(population, dice, fault, history);
    await settle(options, population, fault);
  }
  const endMs = Date.now() + roundsMs;
  let deck: Fault[] = [];
  for (let round = 1; Date.now() < endMs && !history.isOver; round++) {
    if (deck.length === 0) deck = dice.shuffled(faults);
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

// Creates and destroys in turn, so that there is always something to destroy and never too much.
function alternated(steps: readonly Fault[]): Fault[] {
  const creates = steps.filter(({ trap }) => trap?.struckBy === 'create');
  const destroys = steps.filter(({ trap }) => trap?.struckBy === 'destroy');
  const order: Fault[] = [];
  while (creates.length + destroys.length > 0) {
    order.push(...creates.splice(0, 1), ...destroys.splice(0, 1));
  }
  return order;
}

async function dieOnce(population: Population, dice: Dice, fault: Fault, history: History): Promise<void> {
  while (population.size >= maxResidents) await population.destroy(dice.pick(population.settled));
  if (population.settled.length < 2) await population.create();
  await inject(fault, history);
  await strike(fault, population, dice);
  const endMs = Date.now() + strikeLimitMs;
  while (fault.trap?.hasStruck() === false && Date.now() < endMs) await sleep(20);
  if (fault.trap?.hasStruck() === false) history.breach(`${fault.name}: never came to it`);
  await fault.lift?.();
}

// A fault that lies in wait gets what it waits for.
async function strike({ trap }: Fault, population: Population, dice: Dice): Promise<void> {
  const { settled } = population;
  if (trap?.struckBy === 'create') await population.create();
  if (trap?.struckBy === 'destroy' && settled.length > 0) await population.destroy(dice.pick(settled));
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
    const problems = await population.disagreements(vmmsOf(mesh));
    return problems.length > 0 ? problems : await strangersOn(mesh, vmmsOf(mesh));
  } catch (error) {
    return [`the mesh cannot be asked: ${messageOf(error)}`];
  }
}
