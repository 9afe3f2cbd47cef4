// What a test looks at: states, events and tables.
import { eventually } from '@wrenn/kit/testkit/eventually';
import type { Sandbox, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

import { execute } from './database-servers.ts';
import type { TestHost } from './test-host.ts';
import type { TestMesh } from './test-mesh.ts';

export async function untilState(mesh: TestMesh, id: string, state: SandboxState, limitMs?: number): Promise<Sandbox> {
  const look = async () => {
    const sandbox = await mesh.get(id);
    return sandbox.state === state && sandbox;
  };
  return eventually(`${id} is in state ${state}`, look, limitMs);
}

// As `<new state> <reason>`.
export async function eventsOf(mesh: TestMesh, id: string): Promise<string[]> {
  const sql = `select to_state || ' ' || reason from sandbox_events where sandbox_id = '${id}' order by sequence`;
  return (await execute(mesh.databaseUrl, sql)).flat() as string[];
}

export async function rows(mesh: TestMesh, table: string): Promise<number> {
  return Number((await execute(mesh.databaseUrl, `select count(*) from ${table}`)).flat()[0]);
}

// Long enough for whatever is deleted at the second look.
export async function untilKept(host: TestHost): Promise<void> {
  const before = host.snapshotListings();
  await eventually('its snapshots were compared three times', () => host.snapshotListings() >= before + 4);
}
