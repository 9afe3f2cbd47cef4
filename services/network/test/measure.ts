// Prints how long leases, builds and releases take on this machine. As root:
//   node services/network/test/measure.ts
import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';

import { clear, startService } from './service.ts';

const range = { first: 20_050, last: 20_063 };
const rounds = 40;

function report(what: string, ms: number[]): void {
  const sorted = ms.toSorted((a, b) => a - b);
  const at = (share: number) => (sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN).toFixed(1);
  process.stdout.write(`${what.padEnd(34)} p50 ${at(0.5)} ms   p95 ${at(0.95)} ms   n ${ms.length}\n`);
}

async function measure(poolSize: number, what: string): Promise<void> {
  await using dir = await tempDir();
  await using service = await startService({ range, dir: dir.path, poolSize });
  const [leases, repeats, releases]: [number[], number[], number[]] = [[], [], []];
  const timed = async (into: number[], call: () => Promise<unknown>) => {
    const beganMs = performance.now();
    await call();
    into.push(performance.now() - beganMs);
  };
  for (let round = 0; round <= rounds; round += 1) {
    const readyCount = async () => (await service.client.listSlots({}, inMs(5000))).readyCount;
    await eventually('the pool is full', async () => (await readyCount()) === poolSize);
    const owner = newSandboxId();
    await timed(leases, () => service.client.leaseSlot({ owner }, inMs(5000)));
    await timed(repeats, () => service.client.leaseSlot({ owner }, inMs(5000)));
    await timed(releases, () => service.client.releaseSlot({ owner }, inMs(5000)));
  }
  // The first round is not counted: it connects, and warms both sides up.
  report(`lease, ${what}`, leases.slice(1));
  report('  the same owner again', repeats.slice(1));
  report('  release', releases.slice(1));
}

try {
  await measure(4, 'a slot is ready');
  await measure(0, 'built in line');
} finally {
  await clear(range);
}
