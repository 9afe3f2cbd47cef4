import { inMs } from '@wrenn/kit/deadlines';

import type { MeshClient } from '../client.ts';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

const atOnce = 8;

// Destroys every sandbox that still holds anything, a few at a time. Returns how many there were.
export async function destroyAll(client: MeshClient, tell: (line: string) => void): Promise<number> {
  const ids: string[] = [];
  for await (const { id, state } of client.list()) if (state !== SandboxState.DESTROYED) ids.push(id);
  if (ids.length > 0) tell(`destroying ${ids.length} sandbox${ids.length === 1 ? '' : 'es'}`);
  const queue = ids.values();
  const work = async () => {
    for (const sandboxId of queue) await client.sandboxes.destroy({ sandboxId }, inMs(60_000));
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return ids.length;
}
