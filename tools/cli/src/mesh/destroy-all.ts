import { inMs } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';
import { setTimeout as sleep } from 'node:timers/promises';

import type { MeshClient } from '../client.ts';

const atOnce = 8;
const patienceMs = 20_000;

// Destroys every sandbox that still holds anything, a few at a time. Returns how many there were.
export async function destroyAll(client: MeshClient, tell: (line: string) => void): Promise<number> {
  const endMs = Date.now() + patienceMs;
  const ids = await untilAvailable(() => Array.fromAsync(client.list(), ({ id }) => id), endMs);
  if (ids.length > 0) tell(`destroying ${ids.length} sandbox${ids.length === 1 ? '' : 'es'}`);
  const queue = ids.values();
  const work = async () => {
    for (const sandboxId of queue) {
      await untilAvailable(() => client.sandboxes.destroy({ sandboxId }, inMs(60_000)), endMs);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return ids.length;
}

// A service that was killed a moment ago is being restarted: listing and destroying can be asked again.
async function untilAvailable<T>(ask: () => Promise<T>, endMs: number): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const isPassing = hasReason(error, 'SERVICE_UNAVAILABLE', 'DATABASE_UNAVAILABLE');
      if (!isPassing || Date.now() > endMs) throw error;
      await sleep(200);
    }
  }
}
