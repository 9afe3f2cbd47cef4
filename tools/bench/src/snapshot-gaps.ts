// How long a process of the guest stands still when a snapshot is taken of it while it goes on, and when it is
// forked, against a resume of the same guest. A process in it looks at its clocks every millisecond. What counts is
// the wall clock: the monotonic one stands still with the VM. It jumps once, while all processes are held, because
// the agent sets it before it lets them go; so one gap holds everything from the last look before the freeze to the
// first one after it. Its error is the difference of how late two messages of the agent's came: a few ms. Beside it
// stands what vm-runtime says, from `quiesce` to the end of `init`, by the host's clock.
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';
import { eventually } from '@wrenn/kit/testkit/eventually';

import { timed } from './exec.ts';
import { type Measurement, median, percentile, row } from './measurement.ts';
import { sizesMiB } from './snapshot-sizes.ts';
import { spanMs, textOf } from './stages.ts';

const template = 'debian';
const rounds = 5;
const limitMs = 120_000;
const gapsPath = '/dev/shm/gaps';
const ticker = `
import time
gaps = open('${gapsPath}', 'a', buffering=1)
wall, steady = time.time(), time.monotonic()
while True:
    time.sleep(0.001)
    last_wall, last_steady = wall, steady
    wall, steady = time.time(), time.monotonic()
    if wall - last_wall > 0.01:
        gaps.write(f'{1000 * (wall - last_wall)} {1000 * (steady - last_steady)}\\n')
`;
const figures = ['gap_resume', 'gap_live', 'gap_fork', 'gap_fork_host', 'gap_live_awake', 'gap_fork_awake'] as const;
type Figure = (typeof figures)[number];
type Times = Record<Figure, number[]>;

export const snapshotGaps: Measurement = {
  ids: [
    ...sizesMiB.flatMap((size) => figures.map((figure) => `snapshots.${figure}_${size}_ms`)),
    ...sizesMiB.flatMap((size) => [`snapshots.gap_live_${size}_ratio`, `snapshots.gap_fork_${size}_ratio`]),
    'snapshots.gap_live_growth',
    'snapshots.gap_fork_growth',
  ],
  async run(mesh, tell) {
    const all = await Promise.all(sizesMiB.map((size) => startTicking(mesh, size)));
    for (let round = 0; round <= rounds; round++) {
      for (const [index, { guest, times }] of all.entries()) {
        const said = await lookAt(mesh, guest, round > 0 ? times : emptyTimes());
        tell(`round ${round} of ${rounds}: ${sizesMiB[index]} MiB: ${said}`);
      }
    }
    for (const { guest } of all) await guest.destroy();
    const at = (index: number, figure: Figure) => median(all.at(index)!.times[figure]);
    // What else a machine does only ever adds time: compared with each other are lower quartiles.
    const quick = (index: number, figure: Figure) => percentile(all.at(index)!.times[figure], 0.25);
    const goal = { relation: '<=', value: 1.5 } as const;
    return [
      ...sizesMiB.flatMap((size, index) =>
        figures.map((figure) => row(`snapshots.${figure}_${size}_ms`, at(index, figure), 'ms')),
      ),
      ...sizesMiB.flatMap((size, index) =>
        (['live', 'fork'] as const).map((kind) => {
          const ratio = quick(index, `gap_${kind}`) / quick(index, 'gap_resume');
          return row(`snapshots.gap_${kind}_${size}_ratio`, ratio, 'x resume', goal);
        }),
      ),
      ...(['live', 'fork'] as const).map((kind) => {
        const growth = quick(-1, `gap_${kind}`) / quick(0, `gap_${kind}`);
        return row(`snapshots.gap_${kind}_growth`, growth, 'x 256 MiB', goal);
      }),
    ];
  },
};

function emptyTimes(): Times {
  return Object.fromEntries(figures.map((figure) => [figure, []])) as unknown as Times;
}

async function startTicking(mesh: TestMesh, sizeMiB: number) {
  const guest = await mesh.create(template, { memoryBytes: BigInt(sizeMiB) * 2n ** 20n });
  const process = { command: 'python3', args: ['-c', ticker] };
  for await (const { event } of mesh.client.processes.start({ sandboxId: guest.id, process }, inMs(limitMs))) {
    if (event?.event.case === 'started') break; // It runs on without us.
  }
  const isTicking = async () => (await guest.exec('test', ['-e', gapsPath])).exitCode === 0;
  await eventually('Python ticks in the guest', isTicking, 60_000);
  return { guest, times: emptyTimes() };
}

async function lookAt(mesh: TestMesh, guest: Guest, times: Times): Promise<string> {
  const { sandboxes, snapshots } = mesh.client;
  await guest.pause(true);
  times.gap_resume.push(await timed(() => guest.resume()));

  await guest.sh(`: > ${gapsPath}`);
  const name = 'bench-live';
  await snapshots.create({ sandboxId: guest.id, name }, inMs(limitMs));
  const live = await longestGap(guest);
  await snapshots.delete({ name }, inMs(limitMs));

  await guest.sh(`: > ${gapsPath}`);
  const { sandboxes: children, timings } = await sandboxes.fork({ sandboxId: guest.id, count: 1 }, inMs(limitMs));
  const fork = await longestGap(guest);
  for (const { id } of children) await sandboxes.destroy({ sandboxId: id }, inMs(limitMs));

  times.gap_live.push(live.wallMs);
  times.gap_live_awake.push(live.awakeMs);
  times.gap_fork.push(fork.wallMs);
  times.gap_fork_awake.push(fork.awakeMs);
  times.gap_fork_host.push(spanMs(timings, 'quiesce', 'init'));
  const [resumeMs, liveMs, forkMs] = [times.gap_resume.at(-1) ?? 0, live.wallMs, fork.wallMs].map((ms) =>
    ms.toFixed(0),
  );
  return `resume ${resumeMs} ms, live ${liveMs} ms, fork ${forkMs} ms (${textOf(timings)})`;
}

// `awakeMs` is the part of it in which the VM itself ran: the process was held, or its CPU busy.
async function longestGap(guest: Guest): Promise<{ wallMs: number; awakeMs: number }> {
  const gaps = (await guest.sh(`cat ${gapsPath}`)).split('\n').map((line) => line.split(' ').map(Number));
  const [wallMs = NaN, awakeMs = NaN] = gaps.reduce((longest, gap) => (gap[0]! > longest[0]! ? gap : longest));
  if (!(wallMs > 0)) throw new Error('the process in the guest saw no gap');
  return { wallMs, awakeMs };
}
