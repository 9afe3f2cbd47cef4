// The limit on what a guest sends, on real packets. A bucket allows what it holds and what has run into it since:
// that bound holds on a machine of any speed, and the guest beside it, under the same load, goes past it.
import { inMs } from '@wrenn/kit/deadlines';
import { newSandboxId } from '@wrenn/kit/ids';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { type RunningService, clear, remainsOf, startService } from './service.ts';
import { StandIn, startGuest, startInternet } from './stand-ins.ts';

const limited = { first: 20_050, last: 20_050 };
const unlimited = { first: 20_052, last: 20_052 };
const uplink = { id: 20_053, host: '192.31.196.4', server: '192.31.196.5' };
const sendLimit = { bytesPerSecond: 2_000_000, burstBytes: 1_000_000 };
const bucket = sendLimit.bytesPerSecond + sendLimit.burstBytes;

const scope = new AsyncDisposableStack();
let slow: RunningService;
let fast: RunningService;

beforeAll(async () => {
  for (const used of [limited, unlimited]) await clear(used); // A run that was killed may have left some.
  const start = async (range: typeof limited, limit: object) =>
    scope.use(await startService({ range, dir: scope.use(await tempDir()).path, poolSize: 0, ...limit }));
  slow = await start(limited, { sendLimit });
  fast = await start(unlimited, {});
  await scope.use(await startInternet(uplink)).receive();
});

afterAll(async () => {
  await scope.disposeAsync();
  const leaked = [...(await remainsOf(limited)), ...(await remainsOf(unlimited))];
  await clear(limited);
  await clear(unlimited);
  expect(leaked).toEqual([]);
});

async function withGuest<T>(service: RunningService, work: (guest: StandIn) => Promise<T>): Promise<T> {
  const owner = newSandboxId();
  const { slot } = await service.client.leaseSlot({ owner }, inMs(5000));
  if (!slot) throw new Error('no slot in the answer');
  try {
    await using guest = await startGuest(slot);
    return await work(guest);
  } finally {
    await service.client.releaseSlot({ owner }, inMs(5000));
  }
}

test('an upload has its burst at once and then the rate, also in a slot that is leased again', async () => {
  const bytes = bucket + 2 * sendLimit.bytesPerSecond;
  for (let lease = 0; lease < 2; lease++) {
    await withGuest(slow, async (guest) => {
      const seconds = await guest.upload(bytes, uplink.server);
      expect(bytes).toBeLessThanOrEqual(bucket + sendLimit.bytesPerSecond * seconds);
      // What TCP makes of the drops is still most of the rate.
      expect(bytes).toBeGreaterThan(bucket + 0.3 * sendLimit.bytesPerSecond * seconds);
    });
  }
  await withGuest(fast, async (guest) => {
    const seconds = await guest.upload(bytes, uplink.server);
    expect(bytes).toBeGreaterThan(bucket + sendLimit.bytesPerSecond * seconds);
  });
});
