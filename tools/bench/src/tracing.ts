// What tracing costs a command. Three meshes run it in turns: one records every call and keeps it, one records none
// of them, and in the third tracing is not there at all. All else is the same, so a busy machine is busy for all.
import { join } from 'node:path';

import { TestMesh } from '@wrenn/e2e/mesh';

import { execTrue, timed } from './exec.ts';
import { type Measurement, median, row } from './measurement.ts';

const rounds = 600;
const warmUpRounds = 300; // Until every process on the way runs compiled code.
const ownSlots = 8;

const settings = {
  off: { OTEL_SDK_DISABLED: 'true' },
  none: { OTEL_TRACES_SAMPLER: 'parentbased_always_off' },
} as const;

export const tracing: Measurement = {
  ids: ['trace.exec_all_ratio', 'trace.exec_none_ratio', 'trace.exec_off_ms'],
  async run(mesh, tell) {
    await using off = await besideMesh(mesh, 'off', 1);
    await using none = await besideMesh(mesh, 'none', 2);
    const meshes = { off, none, all: mesh };
    const names = ['off', 'none', 'all'] as const;
    const guests = { off: await off.create(), none: await none.create(), all: await mesh.create() };
    const times = { off: [] as number[], none: [] as number[], all: [] as number[] };
    for (let round = 0; round < warmUpRounds + rounds; round++) {
      for (let turn = 0; turn < names.length; turn++) {
        // Each comes first as often as the others.
        const name = names[(round + turn) % names.length] ?? 'off';
        const tookMs = await timed(() => execTrue(meshes[name], guests[name].id));
        if (round >= warmUpRounds) times[name].push(tookMs);
      }
    }
    await guests.all.destroy();
    const [offMs, noneMs, allMs] = [median(times.off), median(times.none), median(times.all)];
    tell(`${rounds} rounds: off ${offMs.toFixed(2)} ms, none ${noneMs.toFixed(2)} ms, all ${allMs.toFixed(2)} ms`);
    return [
      row('trace.exec_all_ratio', allMs / offMs, 'x', { relation: '<=', value: 1.1 }),
      row('trace.exec_none_ratio', noneMs / offMs, 'x', { relation: '<=', value: 1.02 }),
      row('trace.exec_off_ms', offMs, 'ms'),
    ];
  },
};

// On the slots behind those of the bench's own mesh.
function besideMesh(mesh: TestMesh, name: keyof typeof settings, nth: number): Promise<TestMesh> {
  const { dataDir, lastSlot } = mesh.mesh.options;
  const firstSlot = lastSlot + 1 + (nth - 1) * ownSlots;
  const place = { dataDir: join(dataDir, `tracing-${name}`), firstSlot, lastSlot: firstSlot + ownSlots - 1 };
  const env = { ...process.env, ...settings[name] };
  return TestMesh.start({ place, templates: ['minimal'], logLevel: 'warn', env });
}
