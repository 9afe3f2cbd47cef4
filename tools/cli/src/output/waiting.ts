// One line about what is being waited for and for how long already, rewritten in place. Only for a terminal.
import { formatMs } from './units.ts';

export interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const everyMs = 200;

export async function whileWaiting<T>(what: string, terminal: Terminal, work: () => Promise<T>): Promise<T> {
  if (!terminal.isTTY) return work();
  const startMs = performance.now();
  const show = () => terminal.write(`\r\x1b[K${what}  ${formatMs(performance.now() - startMs)}`);
  show();
  const timer = setInterval(show, everyMs);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    terminal.write('\r\x1b[K');
  }
}
