// What counts as use, in a real mesh: work keeps a sandbox alive, and once nobody uses it it ends.
import { durationOfMs } from '@wrenn/kit/duration';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { expect, test } from 'vitest';

import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const ttlMs = 3000;

test('a stream keeps a sandbox of 3 s alive for as long as it is open, and no longer', async () => {
  const guest = await mesh.now.create('minimal', { ttl: durationOfMs(ttlMs) });
  const startMs = Date.now();
  const seen: string[] = [];
  const process = { command: 'sh', args: ['-c', 'sleep 10; echo done'] };
  const stream = mesh.now.client.processes.start({ sandboxId: guest.id, process }, {});
  for await (const { event } of stream) {
    if (event?.event.case === 'stdout') seen.push(Buffer.from(event.event.value).toString());
  }
  expect(seen.join('')).toBe('done\n');
  expect(Date.now() - startMs).toBeGreaterThan(3 * ttlMs);
  expect((await guest.get()).state).toBe(SandboxState.RUNNING);
  await eventually(
    'it ends once nobody uses it',
    async () => (await guest.get()).state === SandboxState.DESTROYED,
    15_000,
  );
});

test('a page that a server inside sends through the edge keeps it alive', async () => {
  const guest = await mesh.now.create('minimal', { ttl: durationOfMs(ttlMs) });
  await guest.sh('mkdir -p /srv; echo hello > /srv/index.html; httpd -p 8000 -h /srv');
  const startMs = Date.now();
  const url = `http://${mesh.now.mesh.addresses.edgeProxy}/proxy/${guest.id}/8000/`;
  await eventually(
    'three times its ttl has passed',
    async () => {
      expect(await (await fetch(url)).text()).toBe('hello\n');
      return Date.now() - startMs > 3 * ttlMs;
    },
    30_000,
  );
  expect((await guest.get()).state).toBe(SandboxState.RUNNING);
  await guest.destroy();
});

endsWithoutLeaks(mesh);
