// Sends a call to the host of its sandbox. A call runs at most once, unless repeating it is harmless or
// the host refused it before it began: asking where the sandbox is resumes one that is paused and may be resumed.
import { hasReason } from '@wrenn/kit/errors';

import { type HostAddress, isSameHost } from './peers.ts';
import type { RouteCache } from './route-cache.ts';

export interface RoutedCall<Answer> {
  readonly sandboxId: string;
  readonly isIdempotent: boolean;
  // False for one whose requests can be read only once: its route must be right the first time.
  readonly isRepeatable: boolean;
  // Asks where the sandbox is.
  resolve(): Promise<HostAddress>;
  // Makes the call at a host.
  attempt(host: HostAddress): AsyncIterable<Answer>;
}

export class SandboxRouter {
  readonly #routes: RouteCache;

  constructor(routes: RouteCache) {
    this.#routes = routes;
  }

  async *run<Answer>(call: RoutedCall<Answer>): AsyncGenerator<Answer, void, undefined> {
    const { sandboxId, isIdempotent, isRepeatable } = call;
    const known = isRepeatable ? this.#routes.get(sandboxId) : undefined;
    let refusal: unknown;
    if (known?.isFresh) {
      let hasAnswered = false;
      try {
        for await (const answer of this.#attempt(call, known.host)) {
          hasAnswered = true;
          yield answer;
        }
        return;
      } catch (error) {
        if (hasAnswered || !mayRepeat(error, isIdempotent)) throw error;
        refusal = error;
      }
    }
    const host = await this.#resolve(call);
    // The scheduler stands by the route: a host that is down stays down, but one that did not have the sandbox may
    // have been told to restore it just now.
    const isSame = known !== undefined && isSameHost(host, known.host);
    if (refusal !== undefined && isSame && !wasRefused(refusal)) throw refusal;
    yield* this.#attempt(call, host);
  }

  async *#attempt<Answer>(call: RoutedCall<Answer>, host: HostAddress): AsyncGenerator<Answer, void, undefined> {
    try {
      yield* call.attempt(host);
    } catch (error) {
      if (isAgainstRoute(error)) this.#routes.delete(call.sandboxId, host);
      throw error;
    }
  }

  async #resolve<Answer>({ sandboxId, resolve }: RoutedCall<Answer>): Promise<HostAddress> {
    try {
      const host = await resolve();
      this.#routes.set(sandboxId, host);
      return host;
    } catch (error) {
      // A scheduler that is down must not cut people off from sandboxes that run.
      const old = this.#routes.get(sandboxId);
      if (old && hasReason(error, 'SERVICE_UNAVAILABLE', 'DATABASE_UNAVAILABLE')) return old.host;
      if (old) this.#routes.delete(sandboxId, old.host);
      throw error;
    }
  }
}

function isAgainstRoute(error: unknown): boolean {
  return wasRefused(error) || hasReason(error, 'SANDBOX_PAUSED', 'VMM_DIED', 'SERVICE_UNAVAILABLE');
}

// One that a pause cut off is not among these: to repeat it would resume what was just paused.
function wasRefused(error: unknown): boolean {
  return hasReason(error, 'SANDBOX_NOT_FOUND', 'SANDBOX_NOT_RUNNING');
}

function mayRepeat(error: unknown, isIdempotent: boolean): boolean {
  return wasRefused(error) || (isIdempotent && hasReason(error, 'SERVICE_UNAVAILABLE'));
}
