// What tracing costs a command. Three meshes run it in turns: one records every call and keeps it, one records none
// of them, and in the third tracing is not there at all. All else is the same. Guests differ by more than tracing
// costs, and a guest by more from one call to the next: so each also runs it straight at its agent beside each call, what
// counts is what a mesh adds to that, and the meshes are compared within each round. What of it the agent does, for a
// call that is recorded, is told by the guest of the third.
import { join } from 'node:path';

import type { Guest } from '@wrenn/e2e/guest';
import { TestMesh } from '@wrenn/e2e/mesh';

import { AgentExec, execTrue, timed } from './exec.ts';
import { type Measurement, median, middleMean, row } from './measurement.ts';

const rounds = 1200;
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
    const inAgent: number[] = [];
    for (let round = -warmUpRounds; round < rounds; round++) {
      // Each comes first as often as the others.
      for (let turn = 0; turn < names.length; turn++) {
        const name = names[(warmUpRounds + round + turn) % names.length] as Name;
        await sides[name].turn(round >= 0);
        // Directly behind: a guest that has waited for those of other meshes takes a millisecond longer.
        if (name === 'off') inAgent.push(await recordingMs(sides.off.agent, round % 2 === 0));
      }
    }
    const { off: base, none: unrecorded, all } = sides;
    const beside = (side: Side) => middleMean(side.added.map((addedMs, round) => addedMs - (base.added[round] ?? 0)));
    const [noneMs, allMs, agentMs] = [beside(unrecorded), beside(all), middleMean(inAgent.slice(warmUpRounds))];
    const offMs = median(base.through);
    for (const side of Object.values(sides)) await side.close();
    const told = `${middleMean(base.added).toFixed(2)} without, ${noneMs.toFixed(2)} more for none, ${allMs.toFixed(2)} for all, of which`;
    tell(`${rounds} rounds of ${offMs.toFixed(2)} ms: added ${told} ${agentMs.toFixed(2)} in the agent`);
    const ratio = (extraMs: number) => 1 + extraMs / offMs;
    return [
      row('trace.exec_all_ratio', ratio(allMs), 'x', { relation: '<=', value: 1.1 }),
      row('trace.exec_none_ratio', ratio(noneMs), 'x', { relation: '<=', value: 1.02 }),
      row('trace.exec_off_ms', offMs, 'ms'),
      row('trace.agent_ms', agentMs, 'ms'),
    ];
  },
};

// How much longer a call takes an agent that is told of a trace.
async function recordingMs(agent: AgentExec, isFirst: boolean): Promise<number> {
  const withTrace = () => timed(() => agent.runTrue(recorded));
  const without = () => timed(() => agent.runTrue());
  if (isFirst) return (await withTrace()) - (await without());
  const plainMs = await without();
  return (await withTrace()) - plainMs;
}

// One mesh's guest, both ways in turns.
class Side {
  readonly agent: AgentExec;
  readonly through: number[] = [];
  readonly straight: number[] = [];
  readonly added: number[] = [];
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

  async turn(counts: boolean): Promise<void> {
    const throughMs = await timed(() => execTrue(this.#mesh, this.#guest.id));
    const straightMs = await timed(() => this.agent.runTrue());
    if (!counts) return;
    this.through.push(throughMs);
    this.straight.push(straightMs);
    this.added.push(throughMs - straightMs);
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
