// What two edges say to each other before bytes pass: which port of which sandbox, and whether it was reached.
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';

import { BadMessage, isDigits, readHead } from './fields.ts';
import { Refusal, type RefusalCode, refusals } from './refusal.ts';

export const maxHopHeadBytes = 1024;
export const reached = 'HTTP/1.1 200 OK\r\n\r\n';

export interface HopRequest {
  readonly id: SandboxId;
  readonly port: number;
}

export function hopRequest({ id, port }: HopRequest): string {
  return `CONNECT ${id}:${port} HTTP/1.1\r\nHost: ${id}:${port}\r\n\r\n`;
}

export function parseHopRequest(head: Buffer): HopRequest {
  const [method, place = '', version, ...more] = readHead(head).start.split(' ');
  const [id = '', digits = '', ...others] = place.split(':');
  const port = Number(digits);
  const isPlace = isSandboxId(id) && isDigits(digits) && port > 0 && port <= 65_535 && others.length === 0;
  if (method !== 'CONNECT' || version !== 'HTTP/1.1' || more.length > 0 || !isPlace) {
    throw new BadMessage('this is not what edges ask');
  }
  return { id, port };
}

export function hopRefusal(code: RefusalCode, message: string): string {
  const { status, phrase } = refusals[code];
  return `HTTP/1.1 ${status} ${phrase}\r\nWrenn-Refusal: ${code}\r\nWrenn-Message: ${message}\r\n\r\n`;
}

// Throws what the other edge was refused.
export function requireReached(head: Buffer): void {
  const { start, fields } = readHead(head);
  if (start === 'HTTP/1.1 200 OK') return;
  const of = (key: string) => fields.find((field) => field.key === key)?.value ?? '';
  const code = of('wrenn-refusal');
  if (!isRefusalCode(code)) throw new BadMessage('this is not how edges answer');
  throw new Refusal(code, of('wrenn-message'));
}

const isRefusalCode = (text: string): text is RefusalCode => Object.hasOwn(refusals, text);
