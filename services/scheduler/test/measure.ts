// What the scheduler itself costs: creates and destroys with hosts that do nothing.
import { startTestMesh, soon } from './support/test-mesh.ts';
import { ownDatabaseServers } from './support/database-servers.ts';

const database = await ownDatabaseServers[0]?.startServer();
if (!database) throw new Error('no database');
const mesh = await startTestMesh(database);
await mesh.addHost('h1', { slotCount: 1000 });

async function life(): Promise<{ createMs: number; destroyMs: number }> {
  const startMs = performance.now();
  const { id } = await mesh.create();
  const createdMs = performance.now();
  await mesh.sandboxes.destroy({ sandboxId: id }, soon());
  return { createMs: createdMs - startMs, destroyMs: performance.now() - createdMs };
}

const middle = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]?.toFixed(1);

for (const inFlight of [1, 16]) {
  const lives: { createMs: number; destroyMs: number }[] = [];
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      for (let i = 0; i < 192 / inFlight; i++) lives.push(await life());
    }),
  );
  const perSecond = (lives.length * 4 * 1000) / (performance.now() - startMs);
  const create = middle(lives.map(({ createMs }) => createMs));
  const destroy = middle(lives.map(({ destroyMs }) => destroyMs));
  console.log(
    `${inFlight} in flight: create p50 ${create} ms, destroy p50 ${destroy} ms, ${perSecond.toFixed(0)} commits/s`,
  );
}
await mesh[Symbol.asyncDispose]();
await database.close();
