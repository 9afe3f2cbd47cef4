// A log that keeps what it is told.
import type { Log } from '@wrenn/kit/log';

export interface LogLine {
  readonly level: string;
  readonly text: string;
  readonly code?: string;
  readonly sandbox?: string;
  readonly port?: number;
  readonly client?: string;
  readonly count?: number;
}

export function recordingLog() {
  const lines: LogLine[] = [];
  const at = (level: string) => (facts: Partial<LogLine>, text: string) => void lines.push({ ...facts, level, text });
  const log = { debug: () => undefined, info: at('info'), warn: at('warn'), error: at('error') };
  return { lines, log: log as unknown as Log };
}
