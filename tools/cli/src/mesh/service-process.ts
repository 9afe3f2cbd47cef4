// One service of the mesh as a child process: started, restarted when it dies, stopped on request.
import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { Log } from '@wrenn/kit/log';
import { type ProcessIdentity, identifyProcess } from '@wrenn/kit/process-identity';

import { endProcess } from '../proc.ts';
import { Backoff } from './backoff.ts';
import { openForAppend, tailOf } from './log-file.ts';
import { adminAddress, compileCacheDir, repositoryRoot } from './options.ts';
import { givePrecedence } from './precedence.ts';
import { meshMark } from './orphans.ts';
import type { ServicePlan } from './service-plan.ts';

export interface ServiceProcessOptions {
  readonly plan: ServicePlan;
  readonly runDir: string;
  readonly inherited: Readonly<Record<string, string>>;
  readonly log: Log;
  readonly onChange: () => void; // It has another pid now, or none.
}

const stopGraceMs = 15_000;

export class ServiceProcess {
  readonly plan: ServicePlan;
  readonly logFile: string;
  readonly #options: ServiceProcessOptions;
  readonly #backoff = new Backoff();
  readonly #firstEnd = Promise.withResolvers<never>();
  #running: ProcessIdentity | undefined;
  #restartCount = 0;
  #isWanted = false;
  #isKept = false;
  #restartTimer: NodeJS.Timeout | undefined;

  constructor(options: ServiceProcessOptions) {
    this.plan = options.plan;
    this.#options = options;
    this.logFile = join(options.runDir, 'logs', `${options.plan.name}.log`);
    this.#firstEnd.promise.catch(() => undefined); // Whoever waits for it has a promise of their own.
  }

  get running(): ProcessIdentity | undefined {
    return this.#running;
  }

  get restartCount(): number {
    return this.#restartCount;
  }

  // Rejects when the service ends before keep() was called: a start that failed.
  get endedEarly(): Promise<never> {
    return this.#firstEnd.promise;
  }

  async start(): Promise<void> {
    this.#isWanted = true;
    const { plan, runDir, inherited } = this.#options;
    const logFile = await openForAppend(this.logFile);
    const startedAtMs = Date.now();
    const child = spawn(process.execPath, [join('services', plan.program, 'src/main.ts'), meshMark(runDir)], {
      cwd: repositoryRoot,
      env: { NODE_COMPILE_CACHE: compileCacheDir, ...inherited, ...plan.env },
      stdio: ['ignore', logFile.fd, logFile.fd],
      // A session of its own: Ctrl-C at a foreground supervisor is the supervisor's to handle, in order.
      detached: true,
    });
    await logFile.close();
    child.on('error', (error) => this.#options.log.error({ err: error, part: plan.name }, 'cannot be started'));
    child.on('exit', (code, signal) => {
      this.#running = undefined;
      this.#ended(code, signal, Date.now() - startedAtMs);
    });
    this.#running = child.pid === undefined ? undefined : identifyProcess(child.pid);
    if (this.#running) this.#rank(this.#running);
    this.#options.onChange();
  }

  // From now on it is restarted whenever it ends.
  keep(): void {
    this.#isKept = true;
  }

  async stop(): Promise<void> {
    this.#isWanted = false;
    clearTimeout(this.#restartTimer);
    if (this.#running) await endProcess(this.#running, stopGraceMs);
    // One that is ended while it starts, or killed, leaves its sockets behind.
    const { plan, runDir } = this.#options;
    for (const address of [plan.address, adminAddress(runDir, plan.name)]) {
      if (address.startsWith('unix:')) await rm(address.slice('unix:'.length), { force: true });
    }
  }

  // A service works without it, only slower when the machine is busy.
  #rank({ pid }: ProcessIdentity): void {
    const { log, plan } = this.#options;
    if (plan.precedence === 'usual') return;
    givePrecedence(pid, plan.precedence).catch((error: unknown) => {
      log.warn({ err: error, part: plan.name }, 'it has not the precedence that it should have');
    });
  }

  #ended(code: number | null, signal: string | null, livedMs: number): void {
    const { log, plan, onChange } = this.#options;
    onChange();
    if (!this.#isWanted) return;
    if (!this.#isKept) {
      void this.#failStart(code, signal); // Never rejects: it settles endedEarly.
      return;
    }
    const delayMs = this.#backoff.nextDelayMs(livedMs);
    this.#restartCount += 1;
    log.warn({ part: plan.name, code, signal, livedMs, delayMs }, 'a service ended; restarting it');
    this.#restartTimer = setTimeout(() => {
      this.start().catch((error: unknown) => log.error({ err: error, part: plan.name }, 'restart failed'));
    }, delayMs);
  }

  async #failStart(code: number | null, signal: string | null): Promise<void> {
    const tail = await tailOf(this.logFile).catch(() => '(no log)');
    const how = signal ? `was ended by ${signal}` : `exited with ${code}`;
    this.#firstEnd.reject(new Error(`${this.plan.name} ${how} while starting; the end of ${this.logFile}:\n${tail}`));
  }
}
