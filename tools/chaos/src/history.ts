// What happened, in order: one line each, shown while it runs and kept beside the seed.
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

export class History {
  readonly #path: string;
  readonly #startMs = Date.now();
  readonly #breaches: string[] = [];
  #isOver = false;

  constructor(path: string) {
    this.#path = path;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, '');
  }

  get path(): string {
    return this.#path;
  }

  // What must not have happened.
  get breaches(): readonly string[] {
    return this.#breaches;
  }

  // From now on nothing is written: what fails in a mesh that is being closed breaks no promise.
  end(): void {
    this.#isOver = true;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  note(what: string): void {
    if (this.#isOver) return;
    const line = `${((Date.now() - this.#startMs) / 1000).toFixed(2).padStart(8)} ${what}\n`;
    appendFileSync(this.#path, line);
    process.stdout.write(line);
  }

  breach(what: string): void {
    if (this.#isOver) return;
    this.#breaches.push(what);
    this.note(`BREACH ${what}`);
  }
}
