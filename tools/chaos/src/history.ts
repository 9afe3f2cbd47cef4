// What happened, in order: one line each, shown while it runs and kept beside the seed.
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

export class History {
  readonly #path: string;
  readonly #startMs = Date.now();
  readonly #breaches: string[] = [];

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

  note(what: string): void {
    const line = `${((Date.now() - this.#startMs) / 1000).toFixed(2).padStart(8)} ${what}\n`;
    appendFileSync(this.#path, line);
    process.stdout.write(line);
  }

  breach(what: string): void {
    this.#breaches.push(what);
    this.note(`BREACH ${what}`);
  }
}
