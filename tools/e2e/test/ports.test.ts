// Servers in a guest, wherever they are bound: told of, and reachable through the edge.
import { randomBytes } from 'node:crypto';

import { inMs } from '@wrenn/kit/deadlines';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { beforeAll, expect, test } from 'vitest';

import { sha256 } from '../src/guest-files.ts';
import type { Guest } from '../src/guest.ts';
import { reasonOf } from '../src/reasons.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh({ templates: ['debian'] });
let guest: Guest;
beforeAll(async () => {
  guest = await mesh.now.create('debian');
});

// Answers each request with the bytes it brought, or with the address it came to.
const server = `
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.answer(self.connection.getsockname()[0].encode())
    def do_POST(self): self.answer(self.rfile.read(int(self.headers['Content-Length'])))
    def answer(self, body):
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()`;

async function serve(address: string, port: number): Promise<void> {
  const process = { command: 'python3', args: ['-c', server, address, String(port)] };
  const request = { sandboxId: guest.id, process, tag: `server-${port}` };
  await mesh.now.client.processes.start(request)[Symbol.asyncIterator]().next();
}

async function stop(port: number): Promise<void> {
  const process = { selector: { case: 'tag', value: `server-${port}` } } as const;
  await mesh.now.client.processes.signal({ sandboxId: guest.id, process, signal: 9 }, inMs(10_000));
}

const at = (port: number) => `http://${mesh.now.mesh.addresses.edgeProxy}/proxy/${guest.id}/${port}/`;

// What a watcher is told, as `+port`, `-port`, and `l` for one that is bound to loopback only.
function watchPorts() {
  const leave = new AbortController();
  const told: string[] = [];
  const ended = (async () => {
    for await (const { change } of mesh.now.client.ports.watch({ sandboxId: guest.id }, { signal: leave.signal })) {
      const { port = 0, isLoopbackOnly = false } = change.value ?? {};
      told.push(`${change.case === 'opened' ? '+' : '-'}${port}${isLoopbackOnly ? 'l' : ''}`);
    }
  })();
  const reason = reasonOf(ended);
  return { told, leave: () => (leave.abort(), reason) };
}

test('servers on 127.0.0.1, on ::1 and on all addresses are told of, reached from outside, and told of when they end', async () => {
  const early = watchPorts();
  await Promise.all([serve('0.0.0.0', 8001), serve('127.0.0.1', 8002), serve('::1', 8003)]);
  for (const change of ['+8001', '+8002l', '+8003l']) {
    await eventually(`${change} is told`, () => early.told.includes(change), 20_000);
  }
  const bodies = await Promise.all([8001, 8002, 8003].map(async (port) => (await fetch(at(port))).text()));
  expect(bodies).toEqual(['169.254.0.21', '127.0.0.1', '::1']);

  const late = watchPorts();
  await eventually('a later watcher is told the same', () => late.told.length === 3);
  expect(late.told.toSorted()).toEqual(['+8001', '+8002l', '+8003l']);

  await Promise.all([stop(8002), stop(8003)]);
  for (const change of ['-8002', '-8003']) {
    await eventually(`${change} is told`, () =>
      [early, late].every(({ told }) => told.some((t) => t.startsWith(change))),
    );
  }
  expect((await fetch(at(8002))).status).toBe(502);
  expect((await fetch(at(8001))).status).toBe(200);
  expect(late.told).toHaveLength(5);
  expect([await early.leave(), await late.leave()]).toEqual(['CANCELLED', 'CANCELLED']);
});

test('any bytes pass both ways to a server that is bound to loopback, over more connections than its queue holds', async () => {
  await serve('127.0.0.1', 8004);
  await eventually('it is reached', async () => (await fetch(at(8004))).ok, 20_000);
  const bodies = Array.from({ length: 24 }, () => randomBytes(400_000));
  const answers = await Promise.all(
    bodies.map(async (body) => {
      const response = await fetch(at(8004), { method: 'POST', body });
      return response.ok ? sha256(await response.bytes()) : response.text();
    }),
  );
  expect(answers).toEqual(bodies.map(sha256));
  await stop(8004);
});

test('a server that comes back on the same port is forwarded again', async () => {
  for (let turn = 0; turn < 2; turn++) {
    await serve('127.0.0.1', 8005);
    await eventually('it is reached', async () => (await fetch(at(8005))).ok, 20_000);
    await stop(8005);
    await eventually('it is gone', async () => (await fetch(at(8005))).status === 502, 20_000);
  }
});

test('the watch of a sandbox that ends, ends with it', async () => {
  const other = await mesh.now.create('debian');
  const events = mesh.now.client.ports.watch({ sandboxId: other.id })[Symbol.asyncIterator]();
  const ended = reasonOf(events.next());
  await other.exec('true');
  await other.destroy();
  expect(['VMM_DIED', 'SANDBOX_NOT_RUNNING', 'AGENT_UNREACHABLE']).toContain(await ended);
});

endsWithoutLeaks(mesh);
