// `wrenn up` and `wrenn down` as people use them, and what happens when the supervisor is killed.
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type Inventory, awaitNoLeftovers, takeInventory } from '@wrenn/cli/leak-check/leak-check';
import type { MeshOptions } from '@wrenn/cli/mesh/options';
import { type MeshState, readState } from '@wrenn/cli/mesh/state-file';
import { identifyProcess, isRunning } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { testMeshOptions } from '../src/mesh.ts';
import { ownPlace } from '../src/place.ts';
import { runCli } from '../src/run-cli.ts';

let root: string;
let flags: string[];
let scope: MeshOptions;
let before: Inventory;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'wrenn-e2e-'));
  await chmod(root, 0o711);
  scope = testMeshOptions(join(root, 'run'), { place: ownPlace() });
  const slots = ['--first-slot', `${scope.firstSlot}`, '--last-slot', `${scope.lastSlot}`];
  const dirs = ['--run-dir', scope.runDir, '--data-dir', scope.dataDir];
  flags = [...dirs, ...slots, '--pool-size', '2', '--port-base', `${scope.ports.gateway}`];
  before = await takeInventory(scope);
});
afterAll(async () => {
  await runCli(['down', ...flags]);
  await rm(root, { recursive: true, force: true });
});

async function up(): Promise<MeshState> {
  const result = await runCli(['up', ...flags]);
  expect(result.code, result.stderr).toBe(0);
  expect(result.stdout).toContain('grpcurl -plaintext');
  const state = await readState(scope.runDir);
  if (!state) throw new Error('up left no mesh.json');
  return state;
}

test('up starts everything and returns; a second up says it runs; doctor finds it healthy', async () => {
  const state = await up();
  expect(Object.keys(state.services).sort()).toEqual([
    'edge-proxy',
    'gateway',
    'gateway-bulk',
    'network',
    'scheduler',
    'snapshot-store',
    'trace-keeper',
    'vm-runtime',
  ]);
  const again = await runCli(['up', ...flags]);
  expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining('the mesh already runs') as string });
  const doctor = await runCli(['doctor', '--json', ...flags]);
  const checks = JSON.parse(doctor.stdout) as { name: string; state: string }[];
  expect(checks.filter((check) => check.state === 'bad')).toEqual([]);
  expect(checks.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['programs', 'gateway', 'vm-runtime', 'host local']),
  );
});

test('no secret is to be seen in a process list or an open file', async () => {
  const state = await readState(scope.runDir);
  const url = await readFile(join(scope.runDir, 'database-url'), 'utf8');
  const password = new URL(url).password;
  expect(password.length).toBeGreaterThan(8);
  expect((await stat(join(scope.runDir, 'database-url'))).mode & 0o077).toBe(0);
  for (const { pid } of [state!.supervisor, ...Object.values(state!.services)]) {
    const seen = (await readFile(`/proc/${pid}/cmdline`, 'utf8')) + (await readFile(`/proc/${pid}/environ`, 'utf8'));
    expect(seen).not.toContain(password);
  }
});

test('down destroys sandboxes, stops everything and leaves nothing', async () => {
  const state = await readState(scope.runDir);
  const gateway = ['--gateway', state?.addresses.gateway ?? ''];
  const created = await runCli(['create', 'minimal', ...gateway]);
  expect(created.code, created.stderr).toBe(0);
  const result = await runCli(['down', ...flags]);
  expect(result.code, result.stderr).toBe(0);
  expect(result.stderr).toContain('destroying 1 sandbox');
  expect(await awaitNoLeftovers(scope, before)).toEqual([]);
  const again = await runCli(['down', ...flags]);
  expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining('no mesh runs') as string });
});

test('a supervisor that stops keeps the sandboxes, and the next up takes them over', async () => {
  const state = await up();
  const gateway = ['--gateway', state.addresses.gateway];
  const id = (await runCli(['create', 'minimal', ...gateway])).stdout.trim();
  process.kill(state.supervisor.pid, 'SIGTERM');
  await eventually('it is gone', () => !isRunning(state.supervisor), 60_000);
  await up();
  const result = await eventually('commands run again', async () => {
    const run = await runCli(['exec', id, ...gateway, '--', 'echo', 'alive']);
    return run.code === 0 && run;
  });
  expect(result.stdout).toBe('alive\n');
});

test('a supervisor that is killed leaves services running; the next up replaces them', async () => {
  const state = await readState(scope.runDir);
  process.kill(state!.supervisor.pid, 'SIGKILL');
  await eventually('it is gone', () => !isRunning(state!.supervisor));
  for (const service of Object.values(state!.services)) expect(isRunning(service)).toBe(true);
  const doctor = await runCli(['doctor', ...flags]);
  expect(doctor).toMatchObject({ code: 1, stdout: expect.stringContaining('its supervisor was killed') as string });
  const next = await up();
  for (const service of Object.values(state!.services)) expect(isRunning(service)).toBe(false);
  expect(identifyProcess(next.supervisor.pid)).toBeDefined();
});

test('down after the supervisor was killed removes services, sandboxes and all they held', async () => {
  const state = await readState(scope.runDir);
  const listed = await runCli(['ls', '-q', '--gateway', state?.addresses.gateway ?? '']);
  expect(listed.stdout).toMatch(/^cl-/);
  process.kill(state!.supervisor.pid, 'SIGKILL');
  process.kill(state!.services['gateway']!.pid, 'SIGKILL');
  const result = await runCli(['down', ...flags]);
  expect(result.code, result.stderr).toBe(0);
  expect(await awaitNoLeftovers(scope, before)).toEqual([]);
});

test('a start that fails says why and leaves nothing', async () => {
  const squatter = createServer().listen(scope.ports.gateway, '127.0.0.1');
  await once(squatter, 'listening');
  const result = await runCli(['up', ...flags]);
  squatter.close();
  expect(result.code).toBe(1);
  expect(result.stderr).toMatch(/gateway exited with 1 while starting; the end of .*EADDRINUSE/s);
  expect(existsSync(scope.ramDir)).toBe(false);
  expect(await awaitNoLeftovers(scope, before)).toEqual([]);
});
