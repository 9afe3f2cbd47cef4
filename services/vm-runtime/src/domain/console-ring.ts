// The last bytes of a guest's console. A guest can write without end; the host keeps a bounded tail.
export class ConsoleRing {
  readonly #capacityBytes: number;
  #kept: Buffer = Buffer.alloc(0);

  constructor(capacityBytes: number) {
    this.#capacityBytes = capacityBytes;
  }

  append(bytes: Uint8Array): void {
    this.#kept = Buffer.concat([this.#kept, bytes]);
    if (this.#kept.length > this.#capacityBytes) {
      this.#kept = Buffer.from(this.#kept.subarray(this.#kept.length - this.#capacityBytes));
    }
  }

  get bytes(): Uint8Array {
    return this.#kept;
  }
}
