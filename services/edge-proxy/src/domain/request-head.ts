// Reads the head of a request, strictly: whoever stands behind this proxy must find the same request in
// the same bytes.
import {
  BadMessage,
  type Field,
  type Framing,
  type Head,
  TooManyFields,
  isDigits,
  isToken,
  listOf,
  readHead,
} from './fields.ts';
import { Refusal } from './refusal.ts';

export const maxHeadBytes = 16 * 1024;

export type Version = '1.0' | '1.1';

export interface RequestHead {
  readonly version: Version;
  readonly method: string;
  readonly target: string; // Origin form: a path and perhaps a query, byte for byte.
  readonly host: string; // As sent.
  readonly fields: readonly Field[];
  readonly options: readonly string[]; // What Connection lists, in lower case.
  readonly framing: Framing;
  readonly upgrade: string | undefined; // The protocol to change to.
}

// `head` includes the empty line and has passed findHeadEnd.
export function parseRequestHead(head: Buffer): RequestHead {
  try {
    return parsed(readHead(head));
  } catch (error) {
    if (error instanceof TooManyFields) throw new Refusal('HEAD_TOO_LARGE', error.message);
    if (error instanceof BadMessage) throw new Refusal('BAD_REQUEST', error.message);
    throw error;
  }
}

function parsed({ start, fields, declared, options }: Head): RequestHead {
  const { method, target: sent, version } = parseRequestLine(start);
  const host = hostOf(fields);
  if (!isHost(host)) throw new BadMessage('the Host is not a name or address');
  if (listOf(fields, 'expect').some((expectation) => expectation !== '100-continue')) {
    throw new Refusal('EXPECTATION_FAILED', 'the only expectation is 100-continue');
  }
  const framing = declared ?? noBody;
  if (version === '1.0' && framing.kind === 'chunked') throw new BadMessage('HTTP/1.0 knows no chunks');
  const upgrade = version === '1.0' ? undefined : upgradeOf(fields, options, framing);
  return { version, method, target: originForm(sent, host), host, fields, options, framing, upgrade };
}

const noBody: Framing = { kind: 'none' };

function hostOf(fields: readonly Field[]): string {
  let host: string | undefined;
  for (const { key, value } of fields) {
    if (key !== 'host') continue;
    if (host !== undefined) throw new BadMessage('exactly one Host is needed');
    host = value;
  }
  if (host === undefined) throw new BadMessage('exactly one Host is needed');
  return host;
}

function parseRequestLine(line: string): Pick<RequestHead, 'method' | 'target' | 'version'> {
  const methodEnd = line.indexOf(' ');
  const targetEnd = line.indexOf(' ', methodEnd + 1);
  const method = line.slice(0, Math.max(methodEnd, 0));
  const target = line.slice(methodEnd + 1, Math.max(targetEnd, 0));
  const version = line.slice(targetEnd + 1);
  if (method === 'PRI' && target === '*' && version === 'HTTP/2.0') {
    throw new Refusal('HTTP2_REFUSED', 'this port speaks HTTP/1.1 only');
  }
  if (targetEnd < 0 || !isToken(method) || target === '') throw new BadMessage('the request line is malformed');
  if (version !== 'HTTP/1.1' && version !== 'HTTP/1.0') {
    if (!isVersion(version)) throw new BadMessage('the request line is malformed');
    throw new Refusal('VERSION_NOT_SUPPORTED', 'this port speaks HTTP/1.1 only');
  }
  // TRACE would show a page what its browser and this proxy add to a request.
  if (method === 'CONNECT' || method === 'TRACE') throw new Refusal('METHOD_NOT_ALLOWED', `${method} is not served`);
  for (let at = 0; at < target.length; at++) {
    const code = target.charCodeAt(at);
    if (code < 33 || code > 126 || code === 35)
      throw new BadMessage('the target holds a character that must be encoded');
  }
  return { method, target, version: version === 'HTTP/1.1' ? '1.1' : '1.0' };
}

const isVersion = (text: string) =>
  text.length === 8 && text.startsWith('HTTP/') && text[6] === '.' && isDigits(text[5]! + text[7]!);

// Takes `http://host/path` only where it says what the Host says.
function originForm(target: string, host: string): string {
  if (target.startsWith('/')) return target;
  const scheme = 'http://';
  if (target.slice(0, scheme.length).toLowerCase() !== scheme) throw new BadMessage('the target is not a path');
  const rest = target.slice(scheme.length);
  const ends = [rest.indexOf('/'), rest.indexOf('?')].filter((at) => at >= 0);
  const end = ends.length > 0 ? Math.min(...ends) : rest.length;
  if (rest.slice(0, end).toLowerCase() !== host.toLowerCase()) throw new BadMessage('target and Host name two hosts');
  const path = rest.slice(end);
  return path.startsWith('/') ? path : `/${path}`;
}

const bytesOf = (chars: string) => {
  const bytes = new Uint8Array(256);
  for (const byte of Buffer.from(chars)) bytes[byte] = 1;
  return bytes;
};
const hostBytes = bytesOf('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_');
const ipv6Bytes = bytesOf('0123456789abcdefABCDEF:.');

function isHost(text: string): boolean {
  const isIpv6 = text.startsWith('[');
  const nameEnd = isIpv6 ? text.indexOf(']') + 1 : text.includes(':') ? text.indexOf(':') : text.length;
  const name = isIpv6 ? text.slice(1, nameEnd - 1) : text.slice(0, nameEnd);
  const port = text.slice(nameEnd);
  if (name === '' || text.length > 300) return false;
  const allowed = isIpv6 ? ipv6Bytes : hostBytes;
  for (let at = 0; at < name.length; at++) if (allowed[name.charCodeAt(at)] !== 1) return false;
  return port === '' || (port.startsWith(':') && port.length <= 6 && isDigits(port.slice(1)));
}

// An offer to change the protocol may be ignored; h2c always is, since HTTP/2 never passes here. A body
// in front of the change would leave it open where the new protocol starts.
function upgradeOf(fields: readonly Field[], options: readonly string[], framing: Framing): string | undefined {
  if (!options.includes('upgrade')) return undefined;
  const offers = listOf(fields, 'upgrade');
  if (offers.length !== 1 || offers[0] === 'h2c') return undefined;
  if (framing.kind !== 'none') throw new BadMessage('a request that changes the protocol has no body');
  return fields.find(({ key }) => key === 'upgrade')!.value;
}
