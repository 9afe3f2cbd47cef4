// Sends a call to the host of its sandbox. A call runs at most once, unless repeating it is harmless or
// the host refused it before it began.
import { hasReason } from '@wrenn/kit/errors';

import type { RouteCache } from './route-cache.ts';

export interface RoutedCall<Answer> {
  readonly sandboxId: string;
  readonly isIdempotent: boolean;
  // Asks where the sandbox is.
  resolve(): Promise<string>;
  // Makes the call at an address.
  attempt(address: string): AsyncIterable<Answer>;
}

export class SandboxRouter {
  readonly #routes: RouteCache;

  constructor(routes: RouteCache) {
    this.#routes = routes;
  }

  async *run<Answer>(call: RoutedCall<Answer>): AsyncGenerator<Answer, void, undefined> {
    const { sandboxId, isIdempotent } = call;
    const known = this.#routes.get(sandboxId);
    let refusal: unknown;
    if (known?.isFresh) {
      let hasAnswered = false;
      try {
        for await (const answer of this.#attempt(call, known.address)) {
          hasAnswered = true;
          yield answer;
        }
        return;
      } catch (error) {
        if (hasAnswered || !mayRepeat(error, isIdempotent)) throw error;
        refusal = error;
      }
    }
    const address = await this.#resolve(call);
    // The scheduler stands by the route: the host's own answer is the best there is.
    if (refusal !== undefined && address === known?.address) throw refusal;
    yield* this.#attempt(call, address);
  }

  async *#attempt<Answer>(call: RoutedCall<Answer>, address: string): AsyncGenerator<Answer, void, undefined> {
    try {
      yield* call.attempt(address);
    } catch (error) {
      if (isAgainstRoute(error)) this.#routes.delete(call.sandboxId, address);
      throw error;
    }
  }

  async #resolve<Answer>({ sandboxId, resolve }: RoutedCall<Answer>): Promise<string> {
    try {
      const address = await resolve();
      this.#routes.set(sandboxId, address);
      return address;
    } catch (error) {
      // A scheduler that is down must not cut people off from sandboxes that run.
      const old = this.#routes.get(sandboxId);
      if (old && hasReason(error, 'SERVICE_UNAVAILABLE', 'DATABASE_UNAVAILABLE')) return old.address;
      if (old) this.#routes.delete(sandboxId, old.address);
      throw error;
    }
  }
}

function isAgainstRoute(error: unknown): boolean {
  return hasReason(error, 'SANDBOX_NOT_FOUND', 'SANDBOX_NOT_RUNNING', 'VMM_DIED', 'SERVICE_UNAVAILABLE');
}

function mayRepeat(error: unknown, isIdempotent: boolean): boolean {
  if (hasReason(error, 'SANDBOX_NOT_FOUND', 'SANDBOX_NOT_RUNNING')) return true;
  return isIdempotent && hasReason(error, 'SERVICE_UNAVAILABLE');
}
