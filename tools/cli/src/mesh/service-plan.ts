// Which services make a mesh, in which order they start, and the environment each of them gets: its own
// variables and no other service's (they refuse what they do not know).
import { join } from 'node:path';

import { passingBytes } from './heap-flags.ts';
import {
  type MeshAddresses,
  type MeshOptions,
  type ServiceName,
  addressesOf,
  adminAddress,
  storeRamDir,
} from './options.ts';
import type { Precedence } from './precedence.ts';

export type ProgramName = Exclude<ServiceName, 'gateway-bulk'>;

export interface ServicePlan {
  readonly name: ServiceName;
  readonly program: ProgramName;
  readonly stage: number; // Services of one stage start together, after those of the stage before.
  readonly address: string;
  readonly speaks: 'grpc' | 'http';
  readonly precedence: Precedence;
  readonly nodeFlags: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

// Guests take all the processor they can get, and bytes in number as much; what a command passes through works a
// moment at a time and must not wait for either (docs/performance.md), nor for who writes down what they did.
const precedenceOf: Partial<Record<ServiceName, Precedence>> = {
  gateway: 'commands',
  'vm-runtime': 'commands',
  'gateway-bulk': 'bytes',
  'trace-keeper': 'bytes',
};

const passesBytesOn: ReadonlySet<ServiceName> = new Set(['gateway', 'gateway-bulk', 'vm-runtime']);

// All sandboxes of a one-machine mesh stay with this host, whatever the machine is called later.
export const localHostId = 'local';

export function databaseUrlFile(options: MeshOptions): string {
  return join(options.runDir, 'database-url');
}

export function planServices(options: MeshOptions): ServicePlan[] {
  const at = addressesOf(options);
  const plans: [ServiceName, number, string, Record<string, string>][] = [
    ...(options.keepsTraces ? [traceKeeper(at)] : []),
    ['network', 1, at.network, networkEnv(options)],
    ['snapshot-store', 1, at.snapshotStore, snapshotStoreEnv(options)],
    ['scheduler', 1, at.scheduler, { WRENN_DATABASE_URL_FILE: databaseUrlFile(options) }],
    ['vm-runtime', 2, at.vmRuntime, vmRuntimeEnv(options, at)],
    ['gateway', 2, at.gateway, gatewayEnv(options, at)],
    ['gateway-bulk', 2, at.gatewayBulk, { WRENN_SCHEDULER: at.scheduler }],
    ['edge-proxy', 2, at.edgeProxy, { WRENN_SCHEDULER: at.scheduler }],
  ];
  return plans.map(([name, stage, address, own]) => ({
    name,
    program: name === 'gateway-bulk' ? 'gateway' : name,
    stage,
    address,
    speaks: name === 'edge-proxy' ? 'http' : 'grpc',
    precedence: precedenceOf[name] ?? 'usual',
    nodeFlags: passesBytesOn.has(name) ? passingBytes : [],
    env: {
      ...own,
      ...(options.keepsTraces &&
        name !== 'trace-keeper' && { OTEL_EXPORTER_OTLP_ENDPOINT: `http://${at.traceIntake}` }),
      ...(withFailpoints.has(name) && failpointEnv(options)),
      WRENN_LISTEN: address,
      WRENN_METRICS_LISTEN: at.metrics[name],
      WRENN_ADMIN_LISTEN: adminAddress(options.runDir, name),
      WRENN_LOG_LEVEL: options.logLevel,
    },
  }));
}

function traceKeeper(at: MeshAddresses): [ServiceName, number, string, Record<string, string>] {
  return ['trace-keeper', 1, at.traceKeeper, { WRENN_INTAKE_LISTEN: at.traceIntake }];
}

function gatewayEnv({ keepsTraces }: MeshOptions, at: MeshAddresses): Record<string, string> {
  const traces = { WRENN_TRACE_KEEPER: at.traceKeeper, WRENN_TRACES_LISTEN: at.traces };
  return { WRENN_SCHEDULER: at.scheduler, ...(keepsTraces && traces) };
}

function snapshotStoreEnv({ dataDir, ramDir }: MeshOptions): Record<string, string> {
  return { WRENN_DATA_DIR: join(dataDir, 'snapshot-store'), WRENN_RAM_DIR: storeRamDir(ramDir) };
}

function networkEnv(options: MeshOptions): Record<string, string> {
  return {
    WRENN_STATE_DIR: join(options.runDir, 'network'),
    WRENN_FIRST_SLOT: String(options.firstSlot),
    WRENN_LAST_SLOT: String(options.lastSlot),
    WRENN_POOL_SIZE: String(options.poolSize),
  };
}

function vmRuntimeEnv(options: MeshOptions, at: MeshAddresses): Record<string, string> {
  return {
    WRENN_ADVERTISE: at.vmRuntime,
    WRENN_BULK_LISTEN: at.vmRuntimeBulk,
    WRENN_BULK_ADVERTISE: at.vmRuntimeBulk,
    WRENN_EDGE_URL: `http://${at.edgeProxy}`,
    WRENN_HOST_ID: localHostId,
    WRENN_SCHEDULER: at.scheduler,
    WRENN_NETWORK: at.network,
    WRENN_SNAPSHOT_STORE: at.snapshotStore,
    WRENN_KERNEL: join(options.imagesDir, 'vmlinuz'),
    WRENN_VMLINUX: join(options.imagesDir, 'vmlinux'),
    WRENN_INITRAMFS: join(options.imagesDir, 'initramfs'),
    WRENN_AGENT_BINARY: join(options.imagesDir, 'wrenn-agent'),
    WRENN_PAGER: join(options.imagesDir, 'wrenn-pager'),
    WRENN_SHIM: join(options.imagesDir, 'libwrenn_shim.so'),
    WRENN_RUN_DIR: join(options.runDir, 'vm-runtime'),
    WRENN_DATA_DIR: join(options.dataDir, 'vm-runtime'),
    WRENN_RAM_DIR: options.ramDir,
  };
}

// Those that take part in a create or destroy by themselves; gateways only pass it on.
const withFailpoints: ReadonlySet<ServiceName> = new Set(['network', 'snapshot-store', 'scheduler', 'vm-runtime']);

function failpointEnv({ failpointFile }: MeshOptions): Record<string, string> {
  if (failpointFile === undefined) return {};
  return { WRENN_FAILPOINTS: `@${failpointFile}`, WRENN_ALLOW_FAILPOINTS: '1' };
}

// What a service inherits beside its own variables: enough to find programs, and the standard telemetry ones.
export function inheritedEnv(env: NodeJS.ProcessEnv): Record<string, string> {
  const kept = Object.entries(env).filter(
    ([name, value]) => value !== undefined && (/^(PATH|HOME|LANG|TZ|TMPDIR)$/.test(name) || name.startsWith('OTEL_')),
  );
  return Object.fromEntries(kept) as Record<string, string>;
}
