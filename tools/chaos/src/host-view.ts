// What the machine holds for sandboxes, held against those that run: a leak is found right after the fault that
// made it, before a later restart clears it up.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { takeInventory } from '@wrenn/cli/leak-check/leak-check';
import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { NetworkService } from '@wrenn/proto/wrenn/network/v1/network';

export async function strangersOn({ mesh }: TestMesh, running: ReadonlySet<string>): Promise<string[]> {
  const inventory = await takeInventory(mesh.options);
  const strangers = [...inventory].flatMap(([kind, things]) =>
    [...things]
      .filter((thing) => (thing.match(/cl-[0-9a-z]{25}/g) ?? []).some((id) => !running.has(id)))
      .map((thing) => `${kind} of no sandbox that runs: ${thing}`),
  );
  const staged = await readdir(join(mesh.options.dataDir, 'snapshot-store/tmp'));
  return [
    ...strangers,
    ...staged.map((name) => `the snapshot store has half of something: tmp/${name}`),
    ...(await strangeSlots(mesh.addresses.network, running, inventory.get('network namespace')?.size ?? 0)),
  ];
}

async function strangeSlots(address: string, running: ReadonlySet<string>, namespaceCount: number): Promise<string[]> {
  const lanes = new Lanes(address, 'network');
  try {
    const { leases, readyCount } = await lanes.client('control', NetworkService).listSlots({}, inMs(5000));
    const owners = new Set(leases.map(({ owner }) => owner));
    const problems = [...owners].filter((id) => !running.has(id)).map((id) => `${id} has a slot, and does not run`);
    problems.push(...[...running].filter((id) => !owners.has(id)).map((id) => `${id} runs, and has no slot`));
    const known = owners.size + readyCount;
    if (namespaceCount !== known) problems.push(`there are ${namespaceCount} network namespaces, ${known} are known`);
    return problems;
  } finally {
    lanes.close();
  }
}
