// Lets requests pass to the sandboxes that they may reach. Nothing is dialled and nothing is woken before that.
import { setTimeout as sleep } from 'node:timers/promises';

import type { Clock } from '@wrenn/kit/clock';
import type { SandboxId } from '@wrenn/kit/ids';

import { type Access, type Admission, admitted } from './domain/access.ts';
import { Refusal } from './domain/refusal.ts';
import type { RequestHead } from './domain/request-head.ts';
import type { GuestRoute } from './domain/route.ts';

export interface GateOptions {
  readonly accessOf: (id: SandboxId) => Promise<Access | undefined>;
  readonly clock: Clock;
  readonly refusesAfterMs?: number;
}

// Longer than a question to the scheduler commonly takes: how soon the answer comes does not tell whether it was one
// about a sandbox that is there.
const refusesAfterMs = 50;

export class Gate {
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  async admit(request: RequestHead, route: GuestRoute): Promise<Admission> {
    const beganMs = performance.now();
    try {
      const access = await this.#options.accessOf(route.sandboxId);
      return admitted(access, request, route, this.#options.clock.now().getTime() / 1000);
    } catch (error) {
      if (error instanceof Refusal && error.code === 'NOT_FOUND') {
        const leftMs = beganMs + (this.#options.refusesAfterMs ?? refusesAfterMs) - performance.now();
        await sleep(Math.max(0, leftMs));
      }
      throw error;
    }
  }
}
