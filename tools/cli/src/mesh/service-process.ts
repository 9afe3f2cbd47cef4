// One service of the mesh as a child process: started, restarted when it dies, stopped on request.
import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { Log } from '@wrenn/kit/log';
import { type ProcessIdentity, identifyProcess } from '@wrenn/kit/process-identity';

import { endProcess } from '../proc.ts';
import { runnable } from '../programs/programs.ts';
import { Backoff } from './backoff.ts';
import { openForAppend, tailOf } from './log-file.ts';
import { adminAddress, compileCacheDir, repositoryRoot } from './options.ts';
import { givePrecedence } from './precedence.ts';
import { meshMark } from './orphans.ts';
import { untilServing } from './readiness.ts';
import type { ServicePlan } from './service-plan.ts';

export interface ServiceProcessOptions {
  readonly plan: ServicePlan;
  readonly runDir: string;
  readonly inherited: Readonly<Record<string, string>>;
  readonly log: Log;
  readonly onChange: () => void; // It has another pid now, or none.
}

const stopGraceMs = 15_000;
// For one that hangs, since one that ends is noticed at once: those that come after others may take long to start
// on a busy machine.
const readyLimitMs = 90_000;

export class ServiceProcess {
  readonly plan: ServicePlan;
  readonly logFile: string;
  readonly #options: ServiceProcessOptions;
  readonly #backoff = new Backoff();
  #running: ProcessIdentity | undefined;
  #hasEnded = new AbortController(); // Of the process that was started last. The reason tells how.
  #restartCount = 0;
  #isWanted = false;
  #isKept = false;
  #restartTimer: NodeJS.Timeout | undefined;

  constructor(options: ServiceProcessOptions) {
    this.plan = options.plan;
    this.#options = options;
    this.logFile = join(options.runDir, 'logs', `${options.plan.name}.log`);
  }

  get running(): ProcessIdentity | undefined {
    return this.#running;
  }

  get restartCount(): number {
    return this.#restartCount;
  }

  async start(): Promise<void> {
    this.#isWanted = true;
    const { plan, runDir, inherited } = this.#options;
    const logFile = await openForAppend(this.logFile);
    const startedAtMs = Date.now();
    const program = runnable(repositoryRoot, `services/${plan.program}/src/main.ts`);
    const child = spawn(process.execPath, [...plan.nodeFlags, program, meshMark(runDir)], {
      cwd: repositoryRoot,
      env: { NODE_COMPILE_CACHE: compileCacheDir, ...inherited, ...plan.env },
      stdio: ['ignore', logFile.fd, logFile.fd],
      // A session of its own: Ctrl-C at a foreground supervisor is the supervisor's to handle, in order.
      detached: true,
    });
    const hasEnded = new AbortController();
    this.#hasEnded = hasEnded;
    child.on('error', (error) => this.#options.log.error({ err: error, part: plan.name }, 'cannot be started'));
    child.on('exit', (code, signal) => {
      this.#running = undefined;
      hasEnded.abort(signal ? `was ended by ${signal}` : `exited with ${code}`);
      this.#ended(code, signal, Date.now() - startedAtMs);
    });
    this.#running = child.pid === undefined ? undefined : identifyProcess(child.pid);
    this.#options.onChange();
    await logFile.close();
  }

  // Gives it its precedence as well. Not before: starting is a second of work in one go, and two services of the
  // real-time class that start at once kept two processors from everybody else, the database included.
  async untilServing(giveUp?: AbortSignal): Promise<void> {
    const hasEnded = this.#hasEnded.signal;
    try {
      const signal = giveUp ? AbortSignal.any([giveUp, hasEnded]) : hasEnded;
      await untilServing(this.plan, readyLimitMs, signal);
    } catch (error) {
      throw hasEnded.aborted ? await this.#startFailure(String(hasEnded.reason)) : error;
    }
    if (this.#running) this.#rank(this.#running);
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
    if (!this.#isWanted || !this.#isKept) return;
    const delayMs = this.#backoff.nextDelayMs(livedMs);
    this.#restartCount += 1;
    log.warn({ part: plan.name, code, signal, livedMs, delayMs }, 'a service ended; restarting it');
    this.#restartTimer = setTimeout(() => void this.#restart(), delayMs);
  }

  async #restart(): Promise<void> {
    try {
      await this.start();
      await this.untilServing();
    } catch (error) {
      const { log, plan } = this.#options;
      if (this.#isWanted) log.error({ err: error, part: plan.name }, 'restart failed');
    }
  }

  async #startFailure(how: string): Promise<Error> {
    const tail = await tailOf(this.logFile).catch(() => '(no log)');
    return new Error(`${this.plan.name} ${how} while starting; the end of ${this.logFile}:\n${tail}`);
  }
}
