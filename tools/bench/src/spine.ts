// The cost of the mesh over what it is built on. Both sides run in turns, so that a machine that is
// busy for a while is busy for both.
import { setTimeout as sleep } from 'node:timers/promises';

import { bareCall, bareClient } from './bare-client.ts';
import { AgentExec, execTrue, timed } from './exec.ts';
import { LoadProcess } from './load-process.ts';
import { type Measurement, median, row } from './measurement.ts';
import { PlainClient } from './plain-client.ts';
import { RawBoot } from './raw-boot.ts';

const template = 'minimal';
const createRounds = 9;
const execBlocks = 20;
const blockRounds = 20;
// Until every process on the way runs compiled code, which goes on for as long as that.
const warmUpRounds = 1000;

export const spineCreate: Measurement = {
  ids: ['spine.create_ratio', 'spine.create_ms', 'spine.raw_boot_ms', 'spine.destroy_ms'],
  async run(mesh, tell) {
    const model = await mesh.create(template);
    const raw = new RawBoot(mesh, model, template);
    await raw.run(); // The first one fills caches for both.
    const times = { raw: [] as number[], create: [] as number[], destroy: [] as number[] };
    for (let round = 1; round <= createRounds; round++) {
      times.raw.push(await raw.run());
      const startedAtMs = performance.now();
      const guest = await mesh.create(template);
      times.create.push(performance.now() - startedAtMs);
      const endingAtMs = performance.now();
      await guest.destroy();
      times.destroy.push(performance.now() - endingAtMs);
      const [rawMs, createMs] = [times.raw.at(-1) ?? 0, times.create.at(-1) ?? 0];
      tell(`round ${round} of ${createRounds}: raw ${rawMs.toFixed(0)} ms, create ${createMs.toFixed(0)} ms`);
    }
    await model.destroy();
    const [createMs, rawMs] = [median(times.create), median(times.raw)];
    return [
      row('spine.create_ratio', createMs / rawMs, 'x', { relation: '<=', value: 1.15 }),
      row('spine.create_ms', createMs, 'ms'),
      row('spine.raw_boot_ms', rawMs, 'ms'),
      row('spine.destroy_ms', median(times.destroy), 'ms'),
    ];
  },
};

export const spineExec: Measurement = {
  ids: [
    ...['spine.exec_overhead_ms', 'spine.exec_mesh_ms', 'spine.exec_agent_ms'],
    ...['spine.two_bare_hops_ms', 'spine.two_plain_hops_ms'],
  ],
  async run(mesh, tell) {
    const guest = await mesh.create(template);
    const agent = await AgentExec.at(guest);
    const straight = () => agent.runTrue();
    const throughMesh = () => execTrue(mesh, guest.id);
    // As many processes as the mesh has between its client and the agent, that do nothing but pass a call on: by grpc-js
    // alone, and by all that the mesh's code stands on.
    await using lastBare = await LoadProcess.run('bare-hop.ts');
    await using firstBare = await LoadProcess.run('bare-hop.ts', lastBare.told);
    await using lastPlain = await LoadProcess.run('plain-hop.ts');
    await using firstPlain = await LoadProcess.run('plain-hop.ts', lastPlain.told);
    const bare = bareClient(Number(firstBare.told));
    const throughBare = () => bareCall(bare, Buffer.alloc(64));
    const plain = new PlainClient(Number(firstPlain.told));
    const throughPlain = () => plain.runTrue(guest.id);
    const times = { agent: [] as number[], mesh: [] as number[], bare: [] as number[], plain: [] as number[] };
    for (let round = 0; round < warmUpRounds; round++) {
      for (const way of [straight, throughMesh, throughBare, throughPlain]) await way();
    }
    for (let block = 0; block < execBlocks; block++) {
      let agentMs = 0;
      // One behind the other, each as often behind the other way: a guest that has waited takes a millisecond longer.
      for (let round = 0; round <= blockRounds; round++) {
        agentMs = await timed(straight);
        const meshMs = await timed(throughMesh);
        if (round === 0) continue;
        times.agent.push(agentMs);
        times.mesh.push(meshMs);
      }
      for (let round = 0; round < blockRounds; round++) {
        // At rest for as long as a command takes, as the mesh's processes are while one runs.
        await sleep(agentMs);
        times.bare.push(await timed(throughBare));
        await sleep(agentMs);
        times.plain.push(await timed(throughPlain));
      }
    }
    bare.close();
    plain.close();
    agent.close();
    await guest.destroy();
    const [meshMs, agentMs] = [median(times.mesh), median(times.agent)];
    tell(`${times.mesh.length} rounds: agent ${agentMs.toFixed(2)} ms, mesh ${meshMs.toFixed(2)} ms`);
    return [
      row('spine.exec_overhead_ms', meshMs - agentMs, 'ms', { relation: '<=', value: 3 }),
      row('spine.exec_mesh_ms', meshMs, 'ms'),
      row('spine.exec_agent_ms', agentMs, 'ms'),
      row('spine.two_bare_hops_ms', median(times.bare), 'ms'),
      row('spine.two_plain_hops_ms', median(times.plain), 'ms'),
    ];
  },
};
