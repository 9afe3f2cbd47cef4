// What nice-grpc runs a call as, with one watcher around it: messages are yielded by streams and returned by unary
// calls. What is done about a call, its span, its deadline and its errors, is so in one order that can be read off.
export type RpcSteps<T> = AsyncGenerator<never, T, undefined> | AsyncGenerator<T, void, undefined>;

export interface StepWatcher {
  // Each step of the call, made within it.
  within?<R>(step: () => R): R;
  // A message came: of a unary call its answer.
  came(message: unknown): void;
  // The call failed; returns what its caller is told.
  failed(error: unknown): unknown;
  // It is over, whichever way: once, and last.
  ended(): void;
}

const asItIs = <R>(step: () => R): R => step();

export class WatchedSteps<T> implements AsyncGenerator<T, T | void, undefined> {
  readonly #open: () => RpcSteps<T> | Promise<RpcSteps<T>>;
  readonly #watcher: StepWatcher;
  readonly #within: <R>(step: () => R) => R;
  #inner: RpcSteps<T> | undefined;
  #isOver = false;

  // `open` begins the call, when its first message is asked for; what it throws is a failure of the call.
  constructor(open: () => RpcSteps<T> | Promise<RpcSteps<T>>, watcher: StepWatcher) {
    this.#open = open;
    this.#watcher = watcher;
    this.#within = watcher.within?.bind(watcher) ?? asItIs;
  }

  next(): Promise<IteratorResult<T, T | void>> {
    return this.#step((inner) => inner.next());
  }

  throw(error: unknown): Promise<IteratorResult<T, T | void>> {
    return this.#step((inner) => inner.throw(error));
  }

  // Its reader leaves.
  async return(value?: unknown): Promise<IteratorResult<T, T | void>> {
    const left = { done: true as const, value: value as T | void };
    if (this.#isOver) return left;
    try {
      await this.#within(() => this.#inner?.return(undefined as never));
      return left;
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#end();
    }
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async #step(
    make: (inner: RpcSteps<T>) => Promise<IteratorResult<T, T | void>>,
  ): Promise<IteratorResult<T, T | void>> {
    if (this.#isOver) return { done: true, value: undefined };
    try {
      this.#inner ??= await this.#open();
      const inner = this.#inner;
      const step = await this.#within(() => make(inner));
      if (step.value !== undefined) this.#watcher.came(step.value);
      if (step.done) this.#end();
      return step;
    } catch (error) {
      const failure = this.#failed(error);
      this.#end();
      throw failure;
    }
  }

  #failed(error: unknown): unknown {
    return this.#within(() => this.#watcher.failed(error));
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#watcher.ended();
  }
}
