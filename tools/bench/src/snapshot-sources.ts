// Where the memory of a restored VM comes from: lazily or all at once, mapped or by a pager, with a recorded working
// set or without. A guest of 1 GiB that has touched 300 MiB; the ways take turns, each round in another order. What
// else a machine does only ever adds time: of each figure the lower quartile is told.
import type { SnapshotId } from '@wrenn/kit/ids';

import { timed } from './exec.ts';
import { HostAlone, type Source } from './host-alone.ts';
import { type Measurement, percentile, row } from './measurement.ts';
import { textOf } from './stages.ts';

const rounds = 9;
const touch = 'head -c 314572800 /dev/urandom > /dev/shm/touched';
const readOn = 'head -c 8388608 /dev/shm/touched > /dev/null';
const memoryBytes = 2n ** 30n;
// `plain`: of a booted VM, so that nothing was recorded. `recorded`: of one that was restored and did what is measured.
const ways = ['map_plain', 'map_recorded', 'uffd_plain', 'uffd_recorded', 'copy_recorded'] as const;
type Way = (typeof ways)[number];
const figures = ['restore', 'first_exec', 'read_on', 'faults'] as const;
type Figure = (typeof figures)[number];

export const snapshotSources: Measurement = {
  ids: [
    ...ways.flatMap((way) => figures.map((figure) => rowId(way, figure))),
    'snapshots.lazy_map_ratio',
    'snapshots.lazy_uffd_ratio',
    'snapshots.working_set_faults_ratio',
    'snapshots.working_set_exec_ratio',
    'snapshots.working_set_exec_map_ratio',
    'snapshots.map_exec_ratio',
    'snapshots.map_plain_exec_ratio',
  ],
  async run(mesh, tell) {
    await using host = await HostAlone.take(mesh, 'minimal');
    const booted = await host.boot(memoryBytes);
    await host.sh(booted, touch);
    const plain = await host.freeze(booted);
    const { id } = await host.restore(plain, 'uffd');
    await host.sh(id, 'true');
    const snapshots = { plain, recorded: await host.freeze(id) };
    const all = new Map<string, number[]>();
    for (let round = 0; round <= rounds; round++) {
      for (const way of [...ways.slice(round % ways.length), ...ways.slice(0, round % ways.length)]) {
        const [source, kind] = way.split('_') as [Source, keyof typeof snapshots];
        const { seen, timings } = await restoreOnce(host, snapshots[kind], source);
        const { first_exec: execMs, read_on: readMs, faults } = seen;
        const figured = `${execMs.toFixed(0)} ms to exec, ${readMs.toFixed(0)} ms to read, ${faults} faults`;
        tell(`round ${round} of ${rounds}: ${way}: ${figured} (${timings})`);
        if (round === 0) continue; // Fills caches for all.
        for (const figure of figures)
          all.set(rowId(way, figure), [...(all.get(rowId(way, figure)) ?? []), seen[figure]]);
      }
    }
    const at = (way: Way, figure: Figure) => percentile(all.get(rowId(way, figure)) ?? [], 0.25);
    const exec = (way: Way, other: Way) => at(way, 'first_exec') / at(other, 'first_exec');
    const noWorse = { relation: '<=', value: 1.1 } as const; // The rest is noise.
    const fewer = { relation: '<=', value: 0.1 } as const;
    const faultsRatio = at('uffd_recorded', 'faults') / at('uffd_plain', 'faults');
    return [
      ...ways.flatMap((way) =>
        figures.map((figure) => row(rowId(way, figure), at(way, figure), figure === 'faults' ? 'each' : 'ms')),
      ),
      row('snapshots.lazy_map_ratio', exec('map_recorded', 'copy_recorded'), 'x copy', { relation: '<=', value: 1 }),
      row('snapshots.lazy_uffd_ratio', exec('uffd_recorded', 'copy_recorded'), 'x copy', { relation: '<=', value: 1 }),
      row('snapshots.working_set_faults_ratio', faultsRatio, 'x without', fewer),
      row('snapshots.working_set_exec_ratio', exec('uffd_recorded', 'uffd_plain'), 'x without', noWorse),
      row('snapshots.working_set_exec_map_ratio', exec('map_recorded', 'map_plain'), 'x without', noWorse),
      row('snapshots.map_exec_ratio', exec('map_recorded', 'uffd_recorded'), 'x uffd'),
      row('snapshots.map_plain_exec_ratio', exec('map_plain', 'uffd_plain'), 'x uffd'),
    ];
  },
};

async function restoreOnce(host: HostAlone, snapshotId: SnapshotId, source: Source) {
  const beganMs = performance.now();
  const { id, timings } = await host.restore(snapshotId, source);
  const restore = performance.now() - beganMs;
  await host.sh(id, 'true');
  const firstExec = performance.now() - beganMs;
  const faults = await host.faults(id);
  const readMs = await timed(() => host.sh(id, readOn));
  await host.destroy(id);
  return { seen: { restore, first_exec: firstExec, read_on: readMs, faults }, timings: textOf(timings) };
}

function rowId(way: Way, figure: Figure): string {
  return `snapshots.${way}_${figure}${figure === 'faults' ? '' : '_ms'}`;
}
