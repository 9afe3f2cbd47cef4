// The leak check: everything of a mesh that is there now and was not there before.
import { setTimeout as sleep } from 'node:timers/promises';

import { collectors } from './collectors.ts';
import type { MeshScope } from './scope.ts';

export type Inventory = ReadonlyMap<string, ReadonlySet<string>>; // By kind.
export type { MeshScope };

export async function takeInventory(scope: MeshScope): Promise<Inventory> {
  const entries = Object.entries(collectors).map(
    async ([kind, collect]) => [kind, new Set(await collect(scope))] as const,
  );
  return new Map(await Promise.all(entries));
}

// One line each; without a `before`, whatever is there.
export function findLeftovers(before: Inventory | undefined, after: Inventory): string[] {
  return [...after].flatMap(([kind, things]) =>
    [...things].filter((thing) => !before?.get(kind)?.has(thing)).map((thing) => `${kind}: ${thing}`),
  );
}

// Waits until nothing is left over, at most `limitMs`; returns what still is.
export async function awaitNoLeftovers(scope: MeshScope, before: Inventory, limitMs = 10_000): Promise<string[]> {
  const endMs = Date.now() + limitMs;
  for (;;) {
    const leftovers = findLeftovers(before, await takeInventory(scope));
    if (leftovers.length === 0 || Date.now() > endMs) return leftovers;
    await sleep(100);
  }
}
