// What a guest's response says of places. A server inside a sandbox knows itself by names that lead nowhere
// outside and, behind a path prefix, not by the path its clients see. Text is put together, never normalised:
// `//`, `%2F`, `..;` and the last slash stay as they are.
import { isDigits } from './fields.ts';

export interface Place {
  readonly port: number; // The one that was asked.
  readonly prefix: string; // `/proxy/{id}/{port}`; empty when the Host named the sandbox.
  readonly host: string; // As the client sent it.
  readonly guestHost?: string; // As the guest was told, where that differs: a token is left out.
}

export type Rewrite = (value: string, place: Place) => string;

export const rewriters: ReadonlyMap<string, Rewrite> = new Map<string, Rewrite>([
  ['location', rewriteReference],
  ['content-location', rewriteReference],
  // Without the prefix a worker of one sandbox would be let loose on the pages of all.
  ['service-worker-allowed', rewriteReference],
  ['refresh', rewriteRefresh],
  ['link', rewriteLink],
  ['set-cookie', rewriteCookie],
]);

// A URI reference. Relative ones and those to other hosts are right as they are.
export function rewriteReference(reference: string, place: Place): string {
  const schemeEnd = schemeLength(reference);
  if (reference.startsWith('//', schemeEnd)) return rewriteHost(reference, schemeEnd, place);
  if (schemeEnd > 0 || !reference.startsWith('/') || isBelow(reference, place.prefix)) return reference;
  return place.prefix + reference;
}

// `5; url=/x`, with or without quotes.
export function rewriteRefresh(value: string, place: Place): string {
  const at = value.toLowerCase().indexOf('url=');
  if (at < 0) return value;
  const start = at + 'url='.length;
  const quote = value[start] === '"' || value[start] === "'" ? value[start] : '';
  const close = quote === '' ? -1 : value.indexOf(quote, start + 1);
  const end = close < 0 ? value.length : close;
  const from = start + quote.length;
  return value.slice(0, from) + rewriteReference(value.slice(from, end), place) + value.slice(end);
}

// `</x>; rel=preload, <http://localhost:8000/y>; title="a <b>"`.
export function rewriteLink(value: string, place: Place): string {
  let rewritten = '';
  let done = 0;
  let isQuoted = false;
  for (let at = 0; at < value.length; at++) {
    if (isQuoted && value[at] === '\\') at++;
    else if (value[at] === '"') isQuoted = !isQuoted;
    else if (value[at] === '<' && !isQuoted) {
      const end = value.indexOf('>', at);
      if (end < 0) break;
      rewritten += value.slice(done, at + 1) + rewriteReference(value.slice(at + 1, end), place);
      done = end;
      at = end;
    }
  }
  return rewritten + value.slice(done);
}

// A Path gains the prefix; a Domain is left out, so that no sandbox sets cookies for another.
export function rewriteCookie(value: string, place: Place): string {
  const [pair = '', ...attributes] = value.split(';');
  let rewritten = pair;
  for (const attribute of attributes) {
    const [name, path] = attributeOf(attribute);
    if (name === 'domain') continue;
    const gains = name === 'path' && path.startsWith('/') && !isBelow(path, place.prefix);
    rewritten += gains ? `; Path=${place.prefix}${path}` : `;${attribute}`;
  }
  return rewritten;
}

function attributeOf(attribute: string): [name: string, value: string] {
  const equals = attribute.indexOf('=');
  if (equals < 0) return [attribute.trim().toLowerCase(), ''];
  return [attribute.slice(0, equals).trim().toLowerCase(), attribute.slice(equals + 1).trim()];
}

// Servers that were told of the prefix write it themselves.
function isBelow(path: string, prefix: string): boolean {
  return path.startsWith(prefix) && (path.length === prefix.length || '/?#'.includes(path[prefix.length]!));
}

// The length of `http:` or `https:`; 0 of anything else.
function schemeLength(reference: string): number {
  const start = reference.slice(0, 6).toLowerCase();
  return start === 'https:' ? 6 : start.startsWith('http:') ? 5 : 0;
}

function rewriteHost(reference: string, schemeEnd: number, place: Place): string {
  const start = schemeEnd + 2;
  let end = start;
  while (end < reference.length && !'/?#\\'.includes(reference[end]!)) end++;
  const authority = reference.slice(start, end);
  if (authority.toLowerCase() === place.guestHost?.toLowerCase()) {
    return reference.slice(0, start) + place.host + reference.slice(end);
  }
  const port = guestPort(authority.slice(authority.lastIndexOf('@') + 1).toLowerCase(), schemeEnd === 6 ? 443 : 80);
  if (port === undefined) return reference;
  const rest = reference.startsWith('/', end) ? reference.slice(end) : `/${reference.slice(end)}`;
  if (place.prefix !== '') return place.prefix.slice(0, place.prefix.lastIndexOf('/') + 1) + port + rest;
  // Alone, a path that starts with two slashes would name a host.
  const isPlain = port === place.port && rest[1] !== '/' && rest[1] !== '\\';
  return isPlain ? rest : `//${port}${place.host.slice(place.host.indexOf('-'))}${rest}`;
}

// The port, if the authority is a name by which a guest knows itself or its host knows it.
function guestPort(authority: string, defaultPort: number): number | undefined {
  const colon = authority.lastIndexOf(':');
  const digits = authority.slice(colon + 1);
  const hasPort = colon >= 0 && (digits === '' || isDigits(digits));
  const port = hasPort && digits !== '' ? Number(digits) : defaultPort;
  return isGuestName(hasPort ? authority.slice(0, colon) : authority) && port > 0 && port <= 65_535 ? port : undefined;
}

const ownNames: ReadonlySet<string> = new Set(['localhost', '[::1]', '[::]', '0.0.0.0', '169.254.0.21']);

function isGuestName(name: string): boolean {
  if (ownNames.has(name)) return true;
  const mapped = '[::ffff:';
  const parts = (name.startsWith(mapped) ? name.slice(mapped.length, -1) : name).split('.');
  if (parts.length !== 4 || !parts.every((part) => isDigits(part) && part.length <= 3)) return false;
  return parts[0] === '127' || (parts[0] === '10' && parts[1] === '11');
}
