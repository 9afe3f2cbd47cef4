// The keys that leave a terminal without ending it. What might be their beginning is held back until the next key
// tells, but for an Enter, which the terminal gets at once.
import { UsageError } from '../exit-codes.ts';

export const defaultDetachKeys = 'enter,~,.';
const enter = 13;

export interface Typed {
  readonly passed: Uint8Array;
  readonly isDetaching: boolean; // What was typed behind is dropped.
}

// Like `ctrl-p,ctrl-q` or `enter,~,.`: keys that come one after the other.
export function parseDetachKeys(text: string): number[] {
  const keys = text.split(',').map(keyOf);
  if (keys.every((key) => key === enter)) throw new UsageError('--detach-keys: Enter alone would be no command line');
  return keys;
}

function keyOf(text: string): number {
  const control = /^ctrl-([a-z@[\\\]^_])$/.exec(text)?.[1];
  if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 31;
  if (text === 'enter') return enter;
  const code = text.charCodeAt(0);
  if (text.length === 1 && code > 32 && code < 127) return code;
  throw new UsageError(
    `--detach-keys: "${text}" is no key; give a character, ctrl-<letter> or enter, joined by commas`,
  );
}

export class DetachKeys {
  readonly #keys: readonly number[];
  #matchedCount: number;

  constructor(keys: readonly number[]) {
    this.#keys = keys;
    // A terminal that was just entered is at the beginning of a line.
    this.#matchedCount = keys[0] === enter ? 1 : 0;
  }

  take(typed: Uint8Array): Typed {
    const passed: number[] = [];
    for (const key of typed) {
      if (key !== this.#keys[this.#matchedCount]) {
        passed.push(...this.#held());
        this.#matchedCount = 0;
      }
      if (key !== this.#keys[this.#matchedCount]) {
        passed.push(key);
        continue;
      }
      this.#matchedCount += 1;
      if (this.#matchedCount === this.#keys.length) return { passed: Uint8Array.from(passed), isDetaching: true };
      if (this.#matchedCount === 1 && key === enter) passed.push(key);
    }
    return { passed: Uint8Array.from(passed), isDetaching: false };
  }

  #held(): readonly number[] {
    return this.#keys.slice(this.#keys[0] === enter ? 1 : 0, this.#matchedCount);
  }
}
