// Pause and resume at three sizes of guest memory, of which neither may know. The sizes take turns, and each resume
// stands beside a QEMU that restores the same files by hand.
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';

import { execTrue, timed } from './exec.ts';
import { type Measurement, median, percentile, row } from './measurement.ts';
import { RawRestore } from './raw-restore.ts';
import { spanMs, startMs, textOf } from './stages.ts';

const template = 'minimal';
export const sizesMiB = [256, 1024, 2048] as const;
const rounds = 21;
const limitMs = 120_000;
const figures = ['pause', 'frozen', 'paused_seen', 'resume', 'first_exec', 'raw_restore'] as const;
type Figure = (typeof figures)[number];
interface Sized {
  readonly guest: Guest;
  readonly raw: RawRestore;
  readonly times: Record<Figure, number[]>;
}

export const snapshotSizes: Measurement = {
  ids: [
    ...sizesMiB.flatMap((size) => figures.map((figure) => `snapshots.${figure}_${size}_ms`)),
    'snapshots.pause_growth',
    'snapshots.first_exec_growth',
    ...sizesMiB.map((size) => `snapshots.first_exec_${size}_ratio`),
  ],
  async run(mesh, tell) {
    const all = await Promise.all(sizesMiB.map((size) => startSized(mesh, size)));
    for (let round = 0; round <= rounds; round++) {
      for (const [index, sized] of all.entries()) {
        const said = await cycle(mesh, sized, round > 0); // The first one fills caches for all.
        tell(`round ${round} of ${rounds}: ${sizesMiB[index]} MiB: ${said}`);
      }
    }
    for (const { guest } of all) await guest.destroy();
    const at = (index: number, figure: Figure) => median(all.at(index)!.times[figure]);
    // What else a machine does only ever adds time: sizes are compared by their lower quartiles.
    const quick = (index: number, figure: Figure) => percentile(all.at(index)!.times[figure], 0.25);
    const growth = (figure: Figure) => quick(-1, figure) / quick(0, figure);
    return [
      ...sizesMiB.flatMap((size, index) =>
        figures.map((figure) => {
          const goal = figure === 'pause' ? ({ relation: '<=', value: 25 } as const) : null;
          return row(`snapshots.${figure}_${size}_ms`, at(index, figure), 'ms', goal);
        }),
      ),
      row('snapshots.pause_growth', growth('pause'), 'x 256 MiB', { relation: '<=', value: 1.5 }),
      row('snapshots.first_exec_growth', growth('first_exec'), 'x 256 MiB', { relation: '<=', value: 1.2 }),
      ...sizesMiB.map((size, index) => {
        // Round by round, as the two stand beside each other: a raw restore takes now 300, now 450 ms, and of few
        // rounds a quartile of each falls on either.
        const { first_exec, raw_restore } = all.at(index)!.times;
        const ratio = median(first_exec.map((ms, round) => ms / raw_restore.at(round)!));
        return row(`snapshots.first_exec_${size}_ratio`, ratio, 'x raw restore', { relation: '<=', value: 1.5 });
      }),
    ];
  },
};

async function startSized(mesh: TestMesh, sizeMiB: number): Promise<Sized> {
  const guest = await mesh.create(template, { memoryBytes: BigInt(sizeMiB) * 2n ** 20n });
  await guest.pause();
  await guest.resume();
  const times = { pause: [], frozen: [], paused_seen: [], resume: [], first_exec: [], raw_restore: [] };
  return { guest, raw: new RawRestore(mesh, guest, template), times };
}

async function cycle(mesh: TestMesh, { guest, raw, times }: Sized, counts: boolean): Promise<string> {
  const { sandboxes } = mesh.client;
  const beganMs = performance.now();
  const paused = await sandboxes.pause({ sandboxId: guest.id }, inMs(limitMs));
  // What a caller has to wait from the stop on, the way back to it included.
  const seenMs = performance.now() - beganMs - startMs(paused.timings, 'stop');
  await sandboxes.pause({ sandboxId: guest.id, waitDurable: true }, inMs(limitMs)); // Nothing is written beside what follows.
  const rawMs = await raw.run(paused.sandbox?.snapshotId ?? '');
  let resumeMs = 0;
  let resumed = '';
  const firstExecMs = await timed(async () => {
    resumeMs = await timed(async () => {
      const { timings } = await sandboxes.resume({ sandboxId: guest.id }, inMs(limitMs));
      resumed = textOf(timings);
    });
    await execTrue(mesh, guest.id);
  });
  if (counts) {
    // Until the record says `paused`, and, of that, until the sandbox is a snapshot that no process can lose.
    times.pause.push(spanMs(paused.timings, 'stop', 'record'));
    times.frozen.push(spanMs(paused.timings, 'stop', 'journal'));
    times.paused_seen.push(seenMs);
    times.resume.push(resumeMs);
    times.first_exec.push(firstExecMs);
    times.raw_restore.push(rawMs);
  }
  const ms = (value: number) => `${value.toFixed(0)} ms`;
  return `paused (${textOf(paused.timings)}), raw ${ms(rawMs)}, resume ${ms(resumeMs)} (${resumed}), exec ${ms(firstExecMs)}`;
}
