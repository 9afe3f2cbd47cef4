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
    else if ((byte < 32 && byte !== CR && byte !== TAB) || byte === 127) {
      throw new BadMessage('the head holds a control character');
    }
    before = byte;
  }
  return undefined;
}

// The lines of a complete head that findHeadEnd has passed.
export function linesOf(head: Uint8Array): string[] {
  return Buffer.from(head.buffer, head.byteOffset, head.byteLength - 4)
    .toString('latin1')
    .split('\r\n');
}

export class TooManyFields extends BadMessage {}

export function parseFields(lines: readonly string[]): Field[] {
  if (lines.length > maxFields) throw new TooManyFields(`more than ${maxFields} header fields`);
  return lines.map(parseField);
}

export function parseField(line: string): Field {
  const colon = line.indexOf(':');
  const name = line.slice(0, Math.max(colon, 0));
  // A folded line starts with white space, which no name holds.
  if (!isToken(name)) throw new BadMessage('a header field has no proper name');
  return { name, key: name.toLowerCase(), value: trimmed(line, colon + 1) };
}

const nothing: readonly string[] = [];

// The values of a comma-separated list over all fields of a name, in lower case.
export function listOf(fields: readonly Field[], key: string): readonly string[] {
  const values = fields.filter((field) => field.key === key);
  if (values.length === 0) return nothing;
  return values
    .flatMap(({ value }) => value.split(','))
    .map((item) => trimmed(item).toLowerCase())
    .filter((item) => item !== '');
}

// The framing that the fields declare; undefined where they declare none. One length or chunked, once.
export function declaredFraming(fields: readonly Field[]): Framing | undefined {
  const declared = fields.filter(({ key }) => key === 'content-length' || key === 'transfer-encoding');
  if (declared.length > 1) throw new BadMessage('the length of the body is declared more than once');
  if (!declared[0]) return undefined;
  const { key, value } = declared[0];
  if (key === 'transfer-encoding') {
    if (value.toLowerCase() !== 'chunked') throw new BadMessage('the only transfer coding is chunked');
    return { kind: 'chunked' };
  }
  if (!isDigits(value) || value.length > 15) throw new BadMessage('the content length is not a number');
  return { kind: 'length', length: Number(value) };
}

export function trimmed(text: string, from = 0): string {
  const isSpace = (at: number) => text.charCodeAt(at) === 32 || text.charCodeAt(at) === TAB;
  let start = from;
  let end = text.length;
  while (start < end && isSpace(start)) start++;
  while (end > start && isSpace(end - 1)) end--;
  return text.slice(start, end);
}
