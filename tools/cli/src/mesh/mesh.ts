// Runs a whole mesh on one machine and keeps it running. Sandboxes outlive it: stopping the services
// destroys none, and the next start takes them over. `wrenn down` destroys them first.
import { chmod, mkdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf } from '@wrenn/kit/errors';
import { inMs } from '@wrenn/kit/deadlines';
import type { Log } from '@wrenn/kit/log';
import { identifyProcess } from '@wrenn/kit/process-identity';

import { MeshClient } from '../client.ts';
import { type Claim, claimRunDir } from './claim.ts';
import { Database } from './database.ts';
import { checkHost, prepareHost } from './host-preparation.ts';
import { rotateIfLarge } from './log-file.ts';
import { type MeshAddresses, type MeshOptions, type ServiceName, addressesOf } from './options.ts';
import { databaseDir, endOrphans } from './orphans.ts';
import { ServiceProcess } from './service-process.ts';
import { type ServicePlan, databaseUrlFile, inheritedEnv, planServices } from './service-plan.ts';
import { type MeshState, removeState, writeState } from './state-file.ts';
import { registerTemplates } from './templates.ts';

export interface MeshParts {
  readonly log: Log;
  readonly env: NodeJS.ProcessEnv; // Of which services inherit PATH and telemetry settings.
  readonly tell: (line: string) => void; // Progress, for people.
}

const rotateEveryMs = 10_000;
// The first time, vm-runtime finds out by booting what accelerates VMs here.
const hostLimitMs = 90_000;

export class Mesh {
  readonly options: MeshOptions;
  readonly addresses: MeshAddresses;
  readonly #parts: MeshParts;
  readonly #services: ServiceProcess[] = [];
  readonly #startedAt = new Date().toISOString();
  #phase: MeshState['phase'] = 'starting';
  #claim: Claim | undefined;
  #database: Database | undefined;
  #rotation: NodeJS.Timeout | undefined;
  #saving: Promise<void> = Promise.resolve();
  #isSaving = true; // Until the end: what happens after it must not bring the file back.
  #starting: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  readonly #giveUp = new AbortController();

  constructor(options: MeshOptions, parts: MeshParts) {
    this.options = options;
    this.addresses = addressesOf(options);
    this.#parts = parts;
  }

  // Returns once sandboxes can be created; after a failure nothing of it runs. Throws AlreadyRunning.
  async start(): Promise<void> {
    this.#claim = await claimRunDir(this.options.runDir);
    this.#starting = this.#startParts();
    try {
      await this.#starting;
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#rotation = setInterval(() => this.#rotateLogs(), rotateEveryMs).unref();
  }

  // Stops every service in reverse order, then the database; a start under way is given up first.
  close(): Promise<void> {
    this.#stopped ??= this.#stopParts();
    return this.#stopped;
  }

  service(name: ServiceName): ServiceProcess {
    const found = this.#services.find(({ plan }) => plan.name === name);
    if (!found) throw new Error(`${name} was not started`);
    return found;
  }

  async #stopParts(): Promise<void> {
    this.#giveUp.abort(new Error('the start was given up'));
    await this.#starting?.catch(() => undefined); // start() itself reports why it failed.
    clearInterval(this.#rotation);
    if (!this.#claim) return;
    this.#phase = 'stopping';
    this.#save();
    for (const service of this.#services.toReversed()) {
      this.#parts.tell(`stopping ${service.plan.name}`);
      await service.stop();
    }
    await this.#database?.close();
    this.#isSaving = false;
    await this.#saving;
    await rm(databaseUrlFile(this.options), { force: true });
    await rmdir(this.options.ramDir).catch(() => undefined); // Not empty: sandboxes run on, or snapshots wait in it.
    await removeState(this.options.runDir);
    await this.#claim.release();
  }

  async #startParts(): Promise<void> {
    const { options } = this;
    const { env, tell } = this.#parts;
    for (const orphan of await endOrphans(options.runDir, options.dataDir)) {
      tell(`ended process ${orphan.pid}, left behind by a mesh that was killed`);
    }
    await prepareHost(await checkHost(options.imagesDir, options.dataDir, env['PATH'] ?? ''), tell);
    // Passable but not listable: VMMs and PostgreSQL run as users of their own and know their paths.
    for (const dir of [options.runDir, options.dataDir]) {
      await mkdir(dir, { recursive: true });
      await chmod(dir, 0o711);
    }
    this.#save();
    await this.#provideDatabase();
    const plans = planServices(options);
    for (const stage of new Set(plans.map((plan) => plan.stage))) {
      this.#giveUp.signal.throwIfAborted();
      await Promise.all(plans.filter((plan) => plan.stage === stage).map((plan) => this.#startService(plan)));
    }
    await registerTemplates(options, tell);
    await this.#untilHostIsKnown();
    for (const service of this.#services) service.keep();
    this.#phase = 'ready';
    this.#save();
    await this.#saving;
  }

  async #provideDatabase(): Promise<void> {
    const { options } = this;
    let { databaseUrl } = options;
    if (databaseUrl === undefined) {
      this.#parts.tell('starting PostgreSQL');
      this.#database = new Database(databaseDir(options.dataDir), this.#parts.log);
      databaseUrl = await this.#database.start();
    }
    // A file, because an environment can be read in /proc and this holds a password.
    await writeFile(databaseUrlFile(options), databaseUrl, { mode: 0o600 });
  }

  async #startService(plan: ServicePlan): Promise<void> {
    const { log, env, tell } = this.#parts;
    const { runDir } = this.options;
    const onChange = () => this.#save();
    const service = new ServiceProcess({ plan, runDir, inherited: inheritedEnv(env), log, onChange });
    this.#services.push(service);
    const startedAtMs = Date.now();
    await service.start();
    await service.untilServing(this.#giveUp.signal);
    tell(`${plan.name} is ready (${Date.now() - startedAtMs} ms)`);
  }

  // Sandboxes can be placed only once this host has reported itself.
  async #untilHostIsKnown(): Promise<void> {
    using client = new MeshClient(this.addresses.gateway);
    const endMs = Date.now() + hostLimitMs;
    for (;;) {
      this.#giveUp.signal.throwIfAborted();
      const { hosts } = await client.hosts.list({}, inMs(5000));
      if (hosts.some((host) => host.isAlive)) return;
      if (Date.now() > endMs)
        throw new Error(`vm-runtime did not report to the scheduler within ${hostLimitMs / 1000} s`);
      await sleep(30);
    }
  }

  #rotateLogs(): void {
    for (const { logFile } of this.#services) {
      rotateIfLarge(logFile).catch((error: unknown) => this.#parts.log.warn({ err: error }, 'log not rotated'));
    }
  }

  // Writes are queued: the last one tells the last state.
  #save(): void {
    if (!this.#isSaving) return;
    this.#saving = this.#saving
      .then(() => writeState(this.#state()))
      .catch((error: unknown) => this.#parts.log.error({ problem: messageOf(error) }, 'mesh.json not written'));
  }

  #state(): MeshState {
    const { runDir, dataDir, ramDir, firstSlot, lastSlot } = this.options;
    const supervisor = identifyProcess(process.pid);
    if (!supervisor) throw new Error('/proc does not know this process');
    const services = this.#services.flatMap(({ plan, running, restartCount }) =>
      running ? [[plan.name, { ...running, restartCount }] as const] : [],
    );
    return {
      phase: this.#phase,
      supervisor,
      startedAt: this.#startedAt,
      ...{ runDir, dataDir, ramDir, firstSlot, lastSlot },
      addresses: this.addresses,
      services: Object.fromEntries(services),
    };
  }
}
