// Reads the head of a guest's response. The guest is hostile: what is not plainly one response is refused.
import { BadMessage, type Field, type Framing, isDigits, readHead } from './fields.ts';

export const maxResponseHeadBytes = 64 * 1024;

export interface ResponseHead {
  readonly status: number;
  readonly phrase: string;
  readonly fields: readonly Field[];
  readonly framing: Framing;
  readonly options: readonly string[]; // What Connection lists, in lower case.
  readonly isPersistent: boolean; // The guest's connection may serve another request after this response.
}

export function parseResponseHead(head: Buffer, method: string): ResponseHead {
  const { start: statusLine, fields, declared, options } = readHead(head);
  const version = statusLine.slice(0, 9);
  const digits = statusLine.slice(9, 12);
  if ((version !== 'HTTP/1.1 ' && version !== 'HTTP/1.0 ') || !isDigits(digits) || digits.length !== 3) {
    throw new BadMessage('the status line is malformed');
  }
  const status = Number(digits);
  if (status < 100 || (statusLine.length > 12 && statusLine[12] !== ' '))
    throw new BadMessage('the status line is malformed');
  if (declared?.kind === 'chunked' && version === 'HTTP/1.0 ') throw new BadMessage('HTTP/1.0 knows no chunks');
  const isBodiless = method === 'HEAD' || status < 200 || status === 204 || status === 304;
  const framing = isBodiless ? { kind: 'none' as const } : (declared ?? { kind: 'close' as const });
  const isPersistent = version === 'HTTP/1.1 ' && framing.kind !== 'close' && !options.includes('close');
  return { status, phrase: statusLine.slice(13), fields, framing, options, isPersistent };
}
