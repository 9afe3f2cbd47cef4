// What operators see of a mesh: figures of every process, in formats that Prometheus takes; what each sandbox uses;
// consoles that outlive their sandboxes; logs whose level changes while they run.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { repositoryRoot, serviceNames } from '@wrenn/cli/mesh/options';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { beforeAll, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { runCli, startCli } from '../src/run-cli.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh();
const program = (name: string) => join(repositoryRoot, '.build/bin', name);
const minuteMs = 60_000;
let guest: Guest;

// A sandbox that was made, served a request, and was paused and resumed: most figures have something to tell.
beforeAll(async () => {
  guest = await mesh.now.create();
  await guest.pause();
  await guest.resume();
  await fetch(`http://${mesh.now.mesh.addresses.edgeProxy}/proxy/${guest.id}/8000/`);
});

const wrenn = (...args: string[]) => runCli(args, { env: cliEnv() });
const cliEnv = () => ({
  WRENN_GATEWAY: mesh.now.mesh.addresses.gateway,
  WRENN_RUN_DIR: mesh.now.mesh.options.runDir,
});

async function scrape(accept: string): Promise<string[]> {
  const all = serviceNames.map(async (name) => {
    const response = await fetch(`http://${mesh.now.mesh.addresses.metrics[name]}/metrics`, { headers: { accept } });
    return response.text();
  });
  return Promise.all(all);
}

test('every process serves its figures and its health, and promtool has nothing to say against them', async () => {
  for (const name of serviceNames) {
    expect([name, (await fetch(`http://${mesh.now.mesh.addresses.metrics[name]}/healthz`)).status]).toEqual([
      name,
      200,
    ]);
  }
  for (const input of await scrape('text/plain')) {
    const { status, stdout, stderr } = spawnSync(program('promtool'), ['check', 'metrics'], {
      input,
      encoding: 'utf8',
    });
    expect([status, stdout, stderr]).toEqual([0, '', '']);
  }
  for (const text of await scrape('application/openmetrics-text')) expect(text.endsWith('# EOF\n')).toBe(true);
});

const toldNames = async () => new Set((await scrape('text/plain')).join('').match(/(?<=^# TYPE )\w+/gm));

test('docs/metrics.md lists what this mesh tells, and nothing else', async () => {
  const table = await readFile(join(repositoryRoot, 'docs/metrics.md'), 'utf8');
  const listed = [...table.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name);
  expect(new Set(listed)).toEqual(await toldNames());
});

test('every metric of the dashboards and alerts is one that this mesh tells', async () => {
  const told = await toldNames();
  const dashboards = join(repositoryRoot, 'deploy/grafana/dashboards');
  const files = (await readdir(dashboards)).map((name) => join(dashboards, name));
  for (const path of [...files, join(repositoryRoot, 'deploy/prometheus/alerts.yml')]) {
    const used = (await readFile(path, 'utf8')).match(/\b(wrenn|process)_[a-z0-9_]+/g) ?? [];
    const unknown = used.filter((name) => !told.has(name) && !told.has(name.replace(/_(bucket|sum|count)$/, '')));
    expect([path, unknown]).toEqual([path, []]);
  }
});

test('Prometheus itself scrapes every process, and finds what was done', { timeout: 3 * minuteMs }, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'wrenn-prometheus-'));
  const targets = serviceNames.map((name) => mesh.now.mesh.addresses.metrics[name]);
  const config = { scrape_configs: [{ job_name: 'wrenn', scrape_interval: '1s', static_configs: [{ targets }] }] };
  await writeFile(join(dir, 'prometheus.yml'), JSON.stringify(config));
  // One of the ports that are this mesh's, and that it leaves alone.
  const address = `127.0.0.1:${mesh.now.mesh.options.ports.gateway + 60}`;
  const args = ['--config.file=prometheus.yml', '--storage.tsdb.path=data', `--web.listen-address=${address}`];
  const prometheus = spawn(program('prometheus'), args, { cwd: dir, stdio: 'ignore' });
  const ended = new Promise((resolve) => prometheus.once('exit', resolve));
  const ask = async (query: string) => {
    const response = await fetch(`http://${address}/api/v1/query?query=${encodeURIComponent(query)}`);
    const { data } = (await response.json()) as { data: { result: { value: [number, string] }[] } };
    return data.result.map(({ value }) => Number(value[1]));
  };
  try {
    await eventually('all are scraped', async () => (await ask('sum(up)'))[0] === targets.length, minuteMs);
    expect(await ask('sum(wrenn_scheduler_operation_seconds_count{operation="pause",outcome="ok"})')).toEqual([1]);
    expect(await ask('sum(wrenn_vm_runtime_operation_seconds_count{operation="restore"})')).toEqual([1]);
    expect(await ask('sum(wrenn_network_slots{state="leased"})')).toEqual([1]);
    expect(await ask('sum(wrenn_edge_proxy_answers_total)')).toEqual([1]);
  } finally {
    prometheus.kill();
    await ended;
    await rm(dir, { recursive: true });
  }
});

test('what a sandbox uses is told while it runs, and still when it is paused', { timeout: 3 * minuteMs }, async () => {
  const worker = await mesh.now.create();
  await worker.sh('(i=0; while true; do i=$((i+1)); done) >/dev/null 2>&1 & exit 0');
  const points = async () => {
    const { stdout } = await wrenn('stats', worker.id, '--json');
    return stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Record<string, number>]));
  };
  const busy = await eventually(
    'a point of a busy sandbox',
    async () => (await points()).find(({ cpuPercent = 0 }) => cpuPercent > 1),
    2 * minuteMs,
  );
  expect(busy['memoryBytes']).toBeGreaterThan(16 * 2 ** 20);
  expect(busy['diskBytes']).toBeGreaterThan(0);
  expect(busy['coveredMs']).toBeGreaterThan(0);
  await worker.pause();
  expect((await points()).length).toBeGreaterThan(0);
  expect((await worker.get()).state).not.toBe((await guest.get()).state); // Looking has not woken it.
  await worker.destroy();
});

test(
  'a console is followed as it is written, and read when its sandbox has ended',
  { timeout: 2 * minuteMs },
  async () => {
    const speaker = await mesh.now.create();
    const following = startCli(['logs', '-f', speaker.id], { env: cliEnv() });
    let seen = '';
    following.child.stdout?.on('data', (bytes: Buffer) => (seen += bytes.toString()));
    await speaker.sh(String.raw`printf 'first \033[31mred\n' > /dev/console`);
    await eventually('the first line', () => seen.includes(String.raw`first \u{1b}[31mred`) || undefined, minuteMs);
    await speaker.sh('echo second > /dev/console');
    await eventually('the second line', () => seen.includes('second') || undefined, minuteMs);
    await speaker.destroy();
    expect((await following.result).code).toBe(0);
    expect((await wrenn('logs', speaker.id)).stdout).toMatch(/first .*red\nsecond/);
  },
);

test('the level of a log changes at once, for that process alone', async () => {
  const logOf = (name: string) => readFile(join(mesh.now.logsDir, `${name}.log`), 'utf8');
  expect((await logOf('scheduler')).includes('"level":"debug"')).toBe(false);
  const changed = await wrenn('log-level', 'scheduler', 'debug');
  expect(changed).toMatchObject({ code: 0, stderr: 'scheduler: info before, debug now\n' });
  const levels = (await wrenn('log-level')).stdout
    .split('\n')
    .slice(1, -1)
    .map((line) => line.split(/ +/));
  expect(levels).toEqual(serviceNames.map((name) => [name, name === 'scheduler' ? 'debug' : 'info']));
  // A refusal is of interest only to one who looks closely.
  await wrenn('inspect', `cl-${'0'.repeat(25)}`);
  await eventually(
    'a line for the refusal',
    async () => (await logOf('scheduler')).includes('"level":"debug"') || undefined,
  );
  await wrenn('log-level', 'scheduler', 'info');
});

test('every line of every log is one JSON object that says when, how grave, who and what', async () => {
  for (const name of serviceNames) {
    const lines = (await readFile(join(mesh.now.logsDir, `${name}.log`), 'utf8')).trimEnd().split('\n');
    for (const line of lines) {
      const { time, level, service, msg } = JSON.parse(line) as Record<string, string>;
      expect([Number.isNaN(Date.parse(time ?? '')), level, service, msg].includes(undefined), line).toBe(false);
    }
  }
});

endsWithoutLeaks(mesh);
