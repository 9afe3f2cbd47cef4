// A private mesh for tests and measurements: the supervisor of `wrenn up`, with directories, ports and
// network slots that no other mesh uses. Closing it destroys all sandboxes and checks for leaks.
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { MeshClient } from '@wrenn/cli/client';
import { type Inventory, awaitNoLeftovers, takeInventory } from '@wrenn/cli/leak-check/leak-check';
import { destroyAll } from '@wrenn/cli/mesh/destroy-all';
import { Mesh } from '@wrenn/cli/mesh/mesh';
import {
  type MeshOptions,
  type MeshPorts,
  type ServiceName,
  defaultImagesDir,
  keepsTraces,
  portsFrom,
  ramDirFor,
} from '@wrenn/cli/mesh/options';
import { untilServing } from '@wrenn/cli/mesh/readiness';
import { tidy } from '@wrenn/cli/mesh/tidy';
import { inMs } from '@wrenn/kit/deadlines';
import { messageOf } from '@wrenn/kit/errors';
import { type LogLevel, openLog } from '@wrenn/kit/log';
import { signalProcess } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';

import { Guest } from './guest.ts';

// What two meshes on one machine must not share.
export interface Place {
  readonly dataDir: string;
  readonly firstSlot: number;
  readonly lastSlot: number;
}

export interface TestMeshOptions {
  readonly place: Place;
  readonly templates?: readonly string[];
  readonly databaseUrl?: string;
  readonly logLevel?: LogLevel;
  readonly failpointFile?: string;
  readonly env?: NodeJS.ProcessEnv; // Of the supervisor; this process's unless set.
}

const replaceLimitMs = 60_000;

export class TestMesh implements AsyncDisposable {
  static readonly #open = new Set<TestMesh>();
  readonly mesh: Mesh;
  readonly client: MeshClient;
  readonly #root: string;
  readonly #before: Inventory;
  #leftovers: Promise<string[]> | undefined;

  private constructor(mesh: Mesh, root: string, before: Inventory) {
    this.mesh = mesh;
    this.client = new MeshClient(mesh.addresses.gateway, mesh.addresses.gatewayBulk);
    this.#root = root;
    this.#before = before;
  }

  static async start(options: TestMeshOptions): Promise<TestMesh> {
    const root = await mkdtemp(join(tmpdir(), 'wrenn-e2e-'));
    await chmod(root, 0o711);
    const meshOptions = testMeshOptions(join(root, 'run'), options);
    const before = await takeInventory(meshOptions);
    const log = openLog('supervisor', 'warn');
    const mesh = new Mesh(meshOptions, { log, env: options.env ?? process.env, tell: () => undefined });
    const testMesh = new TestMesh(mesh, root, before);
    TestMesh.#open.add(testMesh);
    await mesh.start();
    return testMesh;
  }

  // For a program that is told to end: returns what is left behind, and why one could not be closed.
  static async closeAll(): Promise<string[]> {
    const closing = [...TestMesh.#open].map((mesh) => mesh.close().catch((error: unknown) => [messageOf(error)]));
    return (await Promise.all(closing)).flat();
  }

  get logsDir(): string {
    return join(this.mesh.options.runDir, 'logs');
  }

  async create(template = 'minimal', request: Readonly<Record<string, unknown>> = {}): Promise<Guest> {
    const { sandbox } = await this.client.sandboxes.create({ template, ...request }, inMs(120_000));
    return new Guest(this, sandbox?.id ?? '');
  }

  // By kill -9 and all at once; returns when the supervisor has others in their place, and those serve.
  async replaceKilled(...names: readonly ServiceName[]): Promise<void> {
    const services = names.map((name) => this.mesh.service(name));
    const victims = services.map(({ running }) => running);
    for (const victim of victims) if (victim) signalProcess(victim, 'SIGKILL');
    for (const [i, service] of services.entries()) {
      const isReplaced = () => service.running !== undefined && service.running.pid !== victims[i]?.pid;
      await eventually(`another ${service.plan.name} runs`, isReplaced, replaceLimitMs);
      await untilServing(service.plan, replaceLimitMs, AbortSignal.timeout(replaceLimitMs));
    }
  }

  // Destroys every sandbox, stops everything, and returns what is left behind all the same.
  close(): Promise<string[]> {
    this.#leftovers ??= this.#close();
    return this.#leftovers;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const leftovers = await this.close();
    if (leftovers.length > 0) throw new Error(`left behind:\n${leftovers.join('\n')}`);
  }

  async #close(): Promise<string[]> {
    TestMesh.#open.delete(this);
    try {
      await destroyAll(this.client, () => undefined);
    } finally {
      this.client[Symbol.dispose]();
      await this.mesh.close();
    }
    const leftovers = await awaitNoLeftovers(this.mesh.options, this.#before);
    if (leftovers.length === 0) {
      await tidy(this.mesh.options);
      await rm(this.#root, { recursive: true, force: true });
    }
    return leftovers;
  }
}

export function testMeshOptions(runDir: string, options: TestMeshOptions): MeshOptions {
  return {
    runDir,
    ramDir: ramDirFor(runDir),
    imagesDir: defaultImagesDir,
    ...options.place,
    poolSize: 2,
    ports: portsOfSlots(options.place.firstSlot),
    logLevel: options.logLevel ?? 'info',
    databaseUrl: options.databaseUrl,
    templates: options.templates,
    keepsTraces: keepsTraces(options.env ?? process.env),
    failpointFile: options.failpointFile,
  };
}

// As slots are a mesh's own, so are ports that follow from them, four for each slot: meshes side by side never pick
// the same. They are below those that the kernel gives to whoever asks for any, who could take one between its
// choice and its use.
function portsOfSlots(firstSlot: number): MeshPorts {
  return portsFrom(10_000 + ((4 * firstSlot) % 20_000));
}
