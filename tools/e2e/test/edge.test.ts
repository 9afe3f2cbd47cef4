import { randomBytes } from 'node:crypto';
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { beforeAll, expect, test } from 'vitest';

import { EdgeProcess } from '../src/edge-process.ts';
import type { Guest } from '../src/guest.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh({ templates: ['debian'] });
const port = 8000;
let guest: Guest;

interface Answer {
  readonly status: number | undefined;
  readonly body: Buffer;
}

// One GET through the edge, with the Host that names a port of a sandbox.
function get(host: string, path: string): Promise<Answer> {
  const [address = '', edgePort] = mesh.now.mesh.addresses.edgeProxy.split(':');
  return new Promise((resolve, reject) => {
    const options = { host: address, port: Number(edgePort), path, headers: { Host: host }, timeout: 20_000 };
    const outgoing = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks) }));
      response.on('error', reject);
    });
    outgoing.on('error', reject);
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer within 20 s')));
    outgoing.end();
  });
}

beforeAll(async () => {
  guest = await mesh.now.create('debian');
  await guest.sh('mkdir -p /tmp/site && echo "<h1>hello from inside</h1>" > /tmp/site/index.html');
  const process = { command: 'python3', args: ['-m', 'http.server', `${port}`, '--directory', '/tmp/site'] };
  const stream = mesh.now.client.processes.start({ sandboxId: guest.id, process });
  await stream[Symbol.asyncIterator]().next();
});

test('a page of a server in a sandbox is served under the sandbox’s name', async () => {
  const answer = await eventually('the server is up', async () => {
    const got = await get(`${port}-${guest.id}.localhost`, '/');
    return got.status === 200 && got;
  });
  expect(answer.body.toString()).toBe('<h1>hello from inside</h1>\n');
});

test('a large file arrives whole', async () => {
  const bytes = randomBytes(2_000_000);
  await guest.exec('/bin/sh', ['-c', 'cat > /tmp/site/large'], { stdin: bytes });
  const { status, body } = await get(`${port}-${guest.id}.localhost`, '/large');
  expect(status).toBe(200);
  expect(Buffer.compare(body, bytes)).toBe(0);
});

test('the guest’s own answers come through, errors too', async () => {
  expect((await get(`${port}-${guest.id}.localhost`, '/missing')).status).toBe(404);
});

test('the guest agent’s port, an unserved port and unknown sandboxes are refused', async () => {
  expect((await get(`49983-${guest.id}.localhost`, '/')).status).toBeGreaterThanOrEqual(400);
  expect((await get(`8001-${guest.id}.localhost`, '/')).status).toBeGreaterThanOrEqual(500);
  expect((await get(`${port}-cl-${'0'.repeat(25)}.localhost`, '/')).status).toBe(404);
  expect((await get('elsewhere.example', '/')).status).toBeGreaterThanOrEqual(400);
});

test('an edge that is on no host reaches the guest through the edge that is on its', async () => {
  const { scheduler } = mesh.now.mesh.addresses;
  const { hosts } = await mesh.now.client.hosts.list({}, inMs(10_000));
  const hostId = hosts[0]?.id ?? '';
  await using dir = await mkdtempDisposable(join(tmpdir(), 'wrenn-hop-'));
  const secretFile = join(dir.path, 'secret');
  await writeFile(secretFile, randomBytes(32), { mode: 0o600 });
  const both = { WRENN_SCHEDULER: scheduler, WRENN_HOP_SECRET_FILE: secretFile };
  await using host = await EdgeProcess.start({ ...both, WRENN_HOST_ID: hostId, WRENN_HOP_LISTEN: '127.0.0.1:0' }, 2);
  const page = async (edgePort?: number) => {
    const response = await fetch(`http://127.0.0.1:${edgePort}/proxy/${guest.id}/${port}/`);
    return { status: response.status, body: await response.text() };
  };
  for (const hopPort of host.ports) {
    await using front = await EdgeProcess.start({ ...both, WRENN_HOPS: `${hostId}=127.0.0.1:${hopPort}` }, 1);
    const { status, body } = await page(front.ports[0]);
    // Of the two that the host's edge serves, one is for clients and takes no edge anywhere.
    if (hopPort === host.ports[0]) expect([status, body]).toEqual([200, '<h1>hello from inside</h1>\n']);
    else expect([status, body]).toEqual([503, expect.stringContaining('SERVICE_UNAVAILABLE')]);
  }
});

endsWithoutLeaks(mesh);
