// The part of the HTTP/1.1 grammar that request and response heads share. What is read two ways by two
// parsers is how requests are smuggled, so everything that is not plainly right is refused.
export class BadMessage extends Error {
  override readonly name = 'BadMessage';
}

export interface Field {
  readonly name: string; // As sent.
  readonly key: string; // In lower case.
  readonly value: string; // Latin-1: one character a byte. Without the white space around it.
}

// How the end of a body is known.
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'close' };

const CR = 13;
const LF = 10;
const TAB = 9;
const maxFields = 100;

const letters = 'abcdefghijklmnopqrstuvwxyz';
const tokenBytes = new Uint8Array(256);
for (const byte of Buffer.from(`!#$%&'*+-.^_\`|~0123456789${letters}${letters.toUpperCase()}`)) tokenBytes[byte] = 1;

export function isToken(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (tokenBytes[text.charCodeAt(at)] !== 1) return false;
  return text !== '';
}

export function isDigits(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 48 || code > 57) return false;
  }
  return text !== '';
}

// What a head may hold beside the ends of its lines.
const textBytes = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) if ((byte >= 32 && byte !== 127) || byte === TAB) textBytes[byte] = 1;

// Where the head ends, or undefined while its end has not come. Looks at bytes from `from` on only, so
// that a head that trickles in is read once.
export function findHeadEnd(bytes: Uint8Array, from: number): number | undefined {
  if (from === 0 && bytes.length > 0 && tokenBytes[bytes[0]!] !== 1) throw new BadMessage('this is not HTTP');
  let before = from > 0 ? bytes[from - 1] : 0;
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte === LF) {
      if (before !== CR) throw new BadMessage('a line ends without CR');
      if (bytes[at - 2] === LF) return at + 1;
    } else if (before === CR) throw new BadMessage('a CR stands alone');
    else if (textBytes[byte] !== 1 && byte !== CR) throw new BadMessage('the head holds a control character');
    before = byte;
  }
  return undefined;
}

// A view of all there is costs more than a look at how much that is.
export function upTo(bytes: Buffer, end: number): Buffer {
  return bytes.length <= end ? bytes : bytes.subarray(0, end);
}

export interface Head {
  readonly start: string; // The first line.
  readonly fields: readonly Field[];
  readonly declared: Framing | undefined; // What they say of the body: one length, or chunked, once.
  readonly options: readonly string[]; // What Connection lists, in lower case.
}

// Reads a complete head, its empty line included, that findHeadEnd has passed. One pass: the edge does little else.
export function readHead(head: Buffer): Head {
  const text = head.toString('latin1');
  const startEnd = text.indexOf('\r\n');
  const fields: Field[] = [];
  let declared: Framing | undefined;
  let options = nothing;
  for (let at = startEnd + 2; at < text.length - 2;) {
    if (fields.length === maxFields) throw new TooManyFields(`more than ${maxFields} header fields`);
    const end = text.indexOf('\r\n', at);
    const field = parseField(text, at, end);
    if (field.key === 'content-length' || field.key === 'transfer-encoding') {
      if (declared) throw new BadMessage('the length of the body is declared more than once');
      declared = framingOf(field);
    } else if (field.key === 'connection') options = joined(options, itemsOf(field.value));
    fields.push(field);
    at = end + 2;
  }
  return { start: text.slice(0, startEnd), fields, declared, options };
}

export class TooManyFields extends BadMessage {}

// Names as they are sent most, each a proper one: what is known needs neither a check nor a copy.
const commonNames =
  'Accept Accept-Encoding Accept-Language Accept-Ranges Authorization Cache-Control Connection Content-Encoding ' +
  'Content-Length Content-Type Cookie Date ETag Expires Host If-Modified-Since If-None-Match Last-Modified Location ' +
  'Origin Pragma Range Referer Server Set-Cookie TE Transfer-Encoding Upgrade User-Agent Vary';
const knownKeys = new Map<string, string>();
for (const name of commonNames.split(' ')) {
  knownKeys.set(name, name.toLowerCase());
  knownKeys.set(name.toLowerCase(), name.toLowerCase());
}

// One line of `text`.
export function parseField(text: string, start = 0, end = text.length): Field {
  const colon = text.indexOf(':', start);
  const name = text.slice(start, colon < 0 || colon > end ? start : colon);
  const known = knownKeys.get(name);
  // A folded line starts with white space, which no name holds.
  if (known === undefined && !isToken(name)) throw new BadMessage('a header field has no proper name');
  return { name, key: known ?? name.toLowerCase(), value: trimmed(text, colon + 1, end) };
}

const nothing: readonly string[] = [];

// The values of a comma-separated list over all fields of a name, in lower case.
export function listOf(fields: readonly Field[], key: string): readonly string[] {
  let items = nothing;
  for (const field of fields) if (field.key === key) items = joined(items, itemsOf(field.value));
  return items;
}

function itemsOf(value: string): readonly string[] {
  if (!value.includes(',')) return value === '' ? nothing : [value.toLowerCase()];
  return value
    .split(',')
    .map((item) => trimmed(item).toLowerCase())
    .filter((item) => item !== '');
}

const joined = (before: readonly string[], more: readonly string[]) =>
  before.length === 0 ? more : [...before, ...more];

function framingOf({ key, value }: Field): Framing {
  if (key === 'transfer-encoding') {
    if (value.toLowerCase() !== 'chunked') throw new BadMessage('the only transfer coding is chunked');
    return { kind: 'chunked' };
  }
  if (!isDigits(value) || value.length > 15) throw new BadMessage('the content length is not a number');
  return { kind: 'length', length: Number(value) };
}

export function trimmed(text: string, from = 0, to = text.length): string {
  let start = from;
  let end = to;
  while (start < end && isSpace(text.charCodeAt(start))) start++;
  while (end > start && isSpace(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

const isSpace = (code: number) => code === 32 || code === TAB;
