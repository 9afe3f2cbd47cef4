// What tracing costs a command. Three meshes run it in turns: one records every call and keeps it, one records none
// of them, and in the third tracing is not there at all. All else is the same, so a machine that is busy for a while is
// busy for all. Guests differ by more than tracing costs, so each also runs it straight at its agent, and what counts is
// what a mesh adds to that; what the agent does for a call that is recorded is told by the same guest.
import { join } from 'node:path';

import type { Guest } from '@wrenn/e2e/guest';
import { TestMesh } from '@wrenn/e2e/mesh';

import { AgentExec, execTrue, timed } from './exec.ts';
import { type Measurement, median, row } from './measurement.ts';

const rounds = 400;
const warmUpRounds = 200; // Until every process on the way runs compiled code.
const ownSlots = 8;

const settings = {
  off: { OTEL_SDK_DISABLED: 'true' },
  none: { OTEL_TRACES_SAMPLER: 'parentbased_always_off' },
} as const;

const names = ['off', 'none', 'all'] as const;
type Name = (typeof names)[number];
const recorded = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

export const tracing: Measurement = {
  ids: ['trace.exec_all_ratio', 'trace.exec_none_ratio', 'trace.exec_off_ms', 'trace.agent_ms'],
  async run(mesh, tell) {
    await using off = await besideMesh(mesh, 'off', 1);
    await using none = await besideMesh(mesh, 'none', 2);
    const sides = { off: await Side.in(off), none: await Side.in(none), all: await Side.in(mesh) };
    const timing: number[] = [];
    for (let round = 0; round < warmUpRounds + rounds; round++) {
      // Each comes first as often as the others.
      for (let turn = 0; turn < names.length; turn++) await sides[names[(round + turn) % names.length] as Name].turn();
      const recordedMs = await timed(() => sides.off.agent.runTrue(recorded));
      timing.push(recordedMs - (sides.off.straight.at(-1) ?? 0));
    }
    const agentMs = median(timing.slice(warmUpRounds));
    const offMs = median(sides.off.through.slice(warmUpRounds));
    const [added, addedAll, addedNone] = [sides.off.addedMs(), sides.all.addedMs(), sides.none.addedMs()];
    for (const side of Object.values(sides)) await side.close();
    const told = `off ${added.toFixed(2)}, none ${addedNone.toFixed(2)}, all ${addedAll.toFixed(2)} ms`;
    tell(`${rounds} rounds: added to ${offMs.toFixed(2)} ms: ${told}; in the agent ${agentMs.toFixed(2)} ms`);
    const ratio = (extraMs: number) => 1 + extraMs / offMs;
    return [
      row('trace.exec_all_ratio', ratio(addedAll - added + agentMs), 'x', { relation: '<=', value: 1.1 }),
      row('trace.exec_none_ratio', ratio(addedNone - added), 'x', { relation: '<=', value: 1.02 }),
      row('trace.exec_off_ms', offMs, 'ms'),
      row('trace.agent_ms', agentMs, 'ms'),
    ];
  },
};

// One mesh's guest, both ways in turns.
class Side {
  readonly agent: AgentExec;
  readonly through: number[] = [];
  readonly straight: number[] = [];
  readonly #mesh: TestMesh;
  readonly #guest: Guest;

  private constructor(mesh: TestMesh, guest: Guest, agent: AgentExec) {
    this.#mesh = mesh;
    this.#guest = guest;
    this.agent = agent;
  }

  static async in(mesh: TestMesh): Promise<Side> {
    const guest = await mesh.create();
    return new Side(mesh, guest, await AgentExec.at(guest));
  }

  async turn(): Promise<void> {
    this.through.push(await timed(() => execTrue(this.#mesh, this.#guest.id)));
    this.straight.push(await timed(() => this.agent.runTrue()));
  }

  addedMs(): number {
    return median(this.through.slice(warmUpRounds)) - median(this.straight.slice(warmUpRounds));
  }

  async close(): Promise<void> {
    this.agent.close();
    await this.#guest.destroy();
  }
}

// On the slots behind those of the bench's own mesh.
function besideMesh(mesh: TestMesh, name: keyof typeof settings, nth: number): Promise<TestMesh> {
  const { dataDir, lastSlot } = mesh.mesh.options;
  const firstSlot = lastSlot + 1 + (nth - 1) * ownSlots;
  const place = { dataDir: join(dataDir, `tracing-${name}`), firstSlot, lastSlot: firstSlot + ownSlots - 1 };
  const env = { ...process.env, ...settings[name] };
  return TestMesh.start({ place, templates: ['minimal'], logLevel: 'warn', env });
}
