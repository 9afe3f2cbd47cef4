// What the edge costs per request and per byte, against nginx and haproxy with one worker each before the same
// server. All share the machine's cores with their client and that server, so what counts is work done per second
// of processor time that the proxy itself used. They take turns.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';

import { type HttpServer, HttpServers, cpuSeconds, mibPath } from './http-servers.ts';
import { type Measurement, type Row, median, row } from './measurement.ts';

const warmUpRounds = 3; // Until everything runs compiled code.
const rounds = 7;
const secondsEach = 2;
const connections = 16; // Fewer than any of them keeps to its server.
const loads = [
  ['tiny', '/'],
  ['1mib', mibPath],
] as const;
const names = ['wrenn', 'nginx', 'haproxy'] as const;

interface Sample {
  readonly perSecond: number;
  readonly perCpuSecond: number;
  readonly p99Ms: number;
}

export const edgeHttp: Measurement = {
  ids: loads.flatMap(([load]) => [
    ...names.flatMap((name) => [`edge.http_${load}_rps_${name}`, `edge.http_${load}_p99_${name}`]),
    `edge.http_${load}_per_core_nginx`,
    `edge.http_${load}_per_core_haproxy`,
  ]),
  async run(_mesh, tell) {
    const dir = await mkdtemp(join(tmpdir(), 'wrenn-http-'));
    try {
      await using servers = new HttpServers(dir);
      const backend = await servers.startBackend();
      const all = [
        await servers.startEdge(backend),
        await servers.startNginx(backend),
        await servers.startHaproxy(backend),
      ];
      const samples = new Map<string, Sample[]>();
      for (let round = 1 - warmUpRounds; round <= rounds; round++) {
        for (const [load, path] of loads) {
          for (const server of all) {
            const sample = await measured(server, path);
            tell(
              `round ${round} of ${rounds}: ${load} ${server.name} ${sample.perSecond.toFixed(0)}/s, ${sample.perCpuSecond.toFixed(0)} per CPU second`,
            );
            const key = `${load} ${server.name}`;
            if (round > 0) samples.set(key, [...(samples.get(key) ?? []), sample]);
          }
        }
      }
      return loads.flatMap(([load]) => rowsOf(load, samples));
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
};

function rowsOf(load: string, samples: ReadonlyMap<string, readonly Sample[]>): Row[] {
  const of = (name: string, what: keyof Sample) => median((samples.get(`${load} ${name}`) ?? []).map((s) => s[what]));
  const ratio = (other: string) => of('wrenn', 'perCpuSecond') / of(other, 'perCpuSecond');
  return [
    ...names.flatMap((name) => [
      row(`edge.http_${load}_rps_${name}`, of(name, 'perSecond'), 'req/s'),
      row(`edge.http_${load}_p99_${name}`, of(name, 'p99Ms'), 'ms'),
    ]),
    row(`edge.http_${load}_per_core_nginx`, ratio('nginx'), 'x nginx', { relation: '>=', value: 0.5 }),
    row(`edge.http_${load}_per_core_haproxy`, ratio('haproxy'), 'x haproxy'),
  ];
}

async function measured(server: HttpServer, path: string): Promise<Sample> {
  const before = await cpuSeconds(server.process);
  const args = ['-t1', `-c${connections}`, `-d${secondsEach}s`, '--latency', '-H', `Host: ${server.host}`];
  const report = await runProgram('wrk', [...args, server.url + path]);
  const cpu = (await cpuSeconds(server.process)) - before;
  if (/Non-2xx|Socket errors/.test(report)) throw new Error(`${server.name}: ${report}`);
  const requests = Number(/(\d+) requests in/.exec(report)?.[1]);
  const [, p99 = '', unit = ''] = /99%\s+([\d.]+)(us|ms|s)/.exec(report) ?? [];
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(report)?.[1]),
    perCpuSecond: requests / cpu,
    p99Ms: Number(p99) * { us: 0.001, ms: 1, s: 1000, '': Number.NaN }[unit]!,
  };
}
