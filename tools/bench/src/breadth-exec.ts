// What a transfer does to commands: `true` in an idle sandbox, in one that a file moves in or out of, and in its
// neighbour; through the mesh and straight at the agent in turns. Guests may be emulated, and then the guest's
// own CPU is what a command waits for: what is judged is what the mesh adds, as the difference of the two ways under
// the same load. Each way draws its own slow moments of the guest, so that difference swings between runs; what the
// mesh added to each command (its time but for the part in which vm-runtime waited for the agent, which it tells)
// does not, and is told beside it.
import { GrpcBytes, RemoteFiles } from '@wrenn/cli/files/remote-files';
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';

import { asStream, chunks, uncut } from './bytes.ts';
import { AgentExec, execTrue, timed } from './exec.ts';
import { type Direction, Load, loadPath } from './load.ts';
import { type Measurement, type Row, percentile, row } from './measurement.ts';
import { takePrecedence } from './precedence.ts';

const template = 'minimal';
const diskBytes = 3n * 2n ** 30n; // For 1 GiB on its way in beside what is read.
const fileBytes = 2 ** 28; // Read again and again; as large as the guest's memory.
const warmUpRounds = 300; // Until every process on the way runs compiled code.
const blocks = 8; // Of each condition, taken in turns; every other one with the other direction.
const blockRounds = 50;
const mostTimes = 1.5;
const conditions = ['idle', 'same', 'neighbour'] as const;
const loaded = ['same', 'neighbour'] as const;
const ratios = ['difference', 'added'] as const;
type Condition = (typeof conditions)[number];
type Samples = Record<'agent' | 'mesh' | 'added', number[]>;

export const breadthExec: Measurement = {
  ids: [
    ...conditions.flatMap((condition) => [
      ...(['agent', 'mesh', 'added'] as const).flatMap((way) =>
        [50, 99].map((p) => `breadth.exec_${condition}_${way}_p${p}`),
      ),
      `breadth.exec_${condition}_difference_p99`,
    ]),
    ...loaded.flatMap((condition) => ratios.map((way) => `breadth.exec_${condition}_${way}_ratio`)),
    'breadth.exec_samples',
  ],
  async run(mesh, tell) {
    await using _precedence = await takePrecedence();
    const [guest, neighbour] = [await mesh.create(template, { diskBytes }), await mesh.create(template, { diskBytes })];
    for (const { id } of [guest, neighbour]) {
      const bytes = new GrpcBytes(new RemoteFiles(mesh.client, id));
      await bytes.write(loadPath, 0, asStream(chunks(fileBytes)), uncut);
    }
    const agent = await AgentExec.at(guest);
    const samples = { idle: emptySamples(), same: emptySamples(), neighbour: emptySamples() };
    await takeTurns(mesh, guest, agent, warmUpRounds, emptySamples());
    for (let block = 0; block < blocks; block++) {
      for (const condition of conditions) {
        const direction: Direction = block % 2 === 0 ? 'up' : 'down';
        await using load =
          condition === 'idle'
            ? undefined
            : await Load.start(mesh, (condition === 'same' ? guest : neighbour).id, direction);
        await takeTurns(mesh, guest, agent, blockRounds, samples[condition]);
        const beside = load ? `, beside ${direction} ${load.rate.toFixed(0)} MB/s` : '';
        tell(`block ${block + 1} of ${blocks}: ${condition}${beside}`);
      }
    }
    agent.close();
    await guest.destroy();
    await neighbour.destroy();
    return rowsOf(samples);
  },
};

function emptySamples(): Samples {
  return { agent: [], mesh: [], added: [] };
}

async function takeTurns(mesh: TestMesh, guest: Guest, agent: AgentExec, rounds: number, into: Samples) {
  for (let round = 0; round < rounds; round++) {
    into.agent.push(await timed(() => agent.runTrue()));
    let agentMs = 0;
    const meshMs = await timed(async () => (agentMs = await execTrue(mesh, guest.id)));
    into.mesh.push(meshMs);
    into.added.push(meshMs - agentMs);
  }
}

function rowsOf(samples: Record<Condition, Samples>): Row[] {
  const at = (condition: Condition, way: keyof Samples, share: number) => percentile(samples[condition][way], share);
  const difference = (condition: Condition) => at(condition, 'mesh', 0.99) - at(condition, 'agent', 0.99);
  const idleMs = at('idle', 'added', 0.99);
  const goal = { relation: '<=', value: mostTimes } as const;
  return [
    ...conditions.flatMap((condition) => [
      ...(['agent', 'mesh', 'added'] as const).flatMap((way) => [
        row(`breadth.exec_${condition}_${way}_p50`, at(condition, way, 0.5), 'ms'),
        row(`breadth.exec_${condition}_${way}_p99`, at(condition, way, 0.99), 'ms'),
      ]),
      row(`breadth.exec_${condition}_difference_p99`, difference(condition), 'ms'),
    ]),
    ...loaded.flatMap((condition) => [
      row(`breadth.exec_${condition}_difference_ratio`, difference(condition) / idleMs, 'x idle', goal),
      row(`breadth.exec_${condition}_added_ratio`, at(condition, 'added', 0.99) / idleMs, 'x idle'),
    ]),
    row('breadth.exec_samples', samples.idle.mesh.length, 'each'),
  ];
}
