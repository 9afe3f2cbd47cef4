// Where one machine's mesh lives: everything that two meshes on one machine must not share.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

import type { LogLevel } from '@wrenn/kit/log';

// The processes of a mesh, in the order of their ports for metrics. The gateway runs twice: clients send bytes in
// number to a process that serves nothing else.
export const serviceNames = [
  'network',
  'snapshot-store',
  'scheduler',
  'vm-runtime',
  'gateway',
  'gateway-bulk',
  'edge-proxy',
  'trace-keeper',
] as const;
export type ServiceName = (typeof serviceNames)[number];

export interface MeshPorts {
  readonly gateway: number;
  readonly scheduler: number;
  readonly vmRuntime: number;
  readonly vmRuntimeBulk: number;
  readonly gatewayBulk: number;
  readonly edgeProxy: number;
  readonly metrics: Readonly<Record<ServiceName, number>>;
  readonly traceIntake: number;
  readonly traces: number;
}

export interface MeshOptions {
  readonly runDir: string; // Sockets, state and logs; gone after a reboot.
  readonly dataDir: string; // Images, disks and the database; kept.
  readonly ramDir: string; // Guest memory, on tmpfs.
  readonly imagesDir: string; // What `make images` built.
  readonly firstSlot: number;
  readonly lastSlot: number;
  readonly poolSize: number; // Network slots built ahead of need.
  readonly ports: MeshPorts;
  readonly logLevel: LogLevel;
  readonly databaseUrl?: string | undefined; // Unset: the embedded PostgreSQL.
  readonly templates?: readonly string[] | undefined; // Unset: every built template.
  readonly keepsTraces: boolean; // False where a collector takes them, or nobody.
  readonly failpointFile?: string | undefined; // Tells services where to fail; for tests only.
}

export interface MeshAddresses {
  readonly gateway: string;
  readonly scheduler: string;
  readonly vmRuntime: string;
  readonly vmRuntimeBulk: string;
  readonly gatewayBulk: string;
  readonly edgeProxy: string;
  readonly network: string;
  readonly snapshotStore: string;
  readonly metrics: Readonly<Record<ServiceName, string>>; // HTTP: /metrics and /healthz of each process.
  readonly traceKeeper: string;
  readonly traceIntake: string; // OTLP over HTTP.
  readonly traces: string; // Pages for a browser.
}

// Looked for, since a bundle of this file lies elsewhere than this file.
export const repositoryRoot = directoryAbove(import.meta.dirname, 'package-lock.json');
// Where Node keeps what it made of our sources: a program starts in half the time when they have not changed.
export const compileCacheDir = join(repositoryRoot, '.build/compile-cache');
export const defaultPortBase = 9470;
// From the gateway's port to that of its second process, for bytes in number.
export const gatewayBulkOffset = 4;
// And to the edge's.
export const edgeOffset = 10;
const metricsOffset = 20;
export const defaultRunDir = '/run/wrenn';

export function portsFrom(base: number): MeshPorts {
  return {
    gateway: base,
    scheduler: base + 1,
    vmRuntime: base + 2,
    vmRuntimeBulk: base + 3,
    gatewayBulk: base + gatewayBulkOffset,
    edgeProxy: base + edgeOffset,
    metrics: perService((_name, n) => base + metricsOffset + n),
    traceIntake: base + 5,
    traces: base + 6,
  };
}

// By the standard variables: where a collector is named, or telemetry is off, the mesh keeps none itself.
export function keepsTraces(env: NodeJS.ProcessEnv): boolean {
  const isExported = env['OTEL_EXPORTER_OTLP_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'];
  return !isExported && env['OTEL_SDK_DISABLED'] !== 'true';
}

export function ramDirFor(runDir: string): string {
  if (runDir === defaultRunDir) return '/dev/shm/wrenn';
  return `/dev/shm/wrenn-${createHash('sha256').update(runDir).digest('hex').slice(0, 8)}`;
}

// Where the snapshot store keeps frozen memory: on the filesystem of the guests' RAM files.
export function storeRamDir(ramDir: string): string {
  return join(ramDir, 'store');
}

export const defaultImagesDir = join(repositoryRoot, '.build/images');

export function addressesOf(options: Pick<MeshOptions, 'runDir' | 'ports'>): MeshAddresses {
  const { runDir, ports } = options;
  return {
    gateway: `127.0.0.1:${ports.gateway}`,
    scheduler: `127.0.0.1:${ports.scheduler}`,
    vmRuntime: `127.0.0.1:${ports.vmRuntime}`,
    vmRuntimeBulk: `127.0.0.1:${ports.vmRuntimeBulk}`,
    gatewayBulk: `127.0.0.1:${ports.gatewayBulk}`,
    edgeProxy: `127.0.0.1:${ports.edgeProxy}`,
    network: `unix:${join(runDir, 'network.sock')}`,
    snapshotStore: `unix:${join(runDir, 'snapshot-store.sock')}`,
    metrics: perService((name) => `127.0.0.1:${ports.metrics[name]}`),
    traceKeeper: `unix:${join(runDir, 'trace-keeper.sock')}`,
    traceIntake: `127.0.0.1:${ports.traceIntake}`,
    traces: `127.0.0.1:${ports.traces}`,
  };
}

// Where a process may be told things; for its own user only.
export function adminAddress(runDir: string, name: ServiceName): string {
  return `unix:${join(runDir, 'admin', `${name}.sock`)}`;
}

export function perService<T>(make: (name: ServiceName, n: number) => T): Record<ServiceName, T> {
  return Object.fromEntries(serviceNames.map((name, n) => [name, make(name, n)])) as Record<ServiceName, T>;
}

function directoryAbove(start: string, marker: string): string {
  let directory = start;
  while (!existsSync(join(directory, marker))) {
    if (directory === dirname(directory)) throw new Error(`no directory above ${start} has a ${marker}`);
    directory = dirname(directory);
  }
  return directory;
}
