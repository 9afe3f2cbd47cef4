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

const tokenChars = new Set(Array.from("!#$%&'*+-.^_`|~0123456789", (char) => char.charCodeAt(0)));
for (let letter = 65; letter <= 90; letter++) tokenChars.add(letter).add(letter + 32);

export function isTokenByte(byte: number): boolean {
  return tokenChars.has(byte);
}

export function isToken(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (!tokenChars.has(text.charCodeAt(at))) return false;
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
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at]!;
    const before = at > 0 ? bytes[at - 1] : undefined;
    if (byte === LF) {
      if (before !== CR) throw new BadMessage('a line ends without CR');
      if (at >= 3 && bytes[at - 2] === LF) return at + 1;
    } else if (before === CR) throw new BadMessage('a CR stands alone');
    else if ((byte < 32 && byte !== CR && byte !== TAB) || byte === 127) {
      throw new BadMessage('the head holds a control character');
    } else if (at === 0 && !isTokenByte(byte)) throw new BadMessage('this is not HTTP');
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

// The values of a comma-separated list over all fields of a name, in lower case.
export function listOf(fields: readonly Field[], key: string): string[] {
  return fields
    .filter((field) => field.key === key)
    .flatMap(({ value }) => value.split(','))
    .map((item) => trimmed(item, 0).toLowerCase())
    .filter((item) => item !== '');
}

// The framing that the fields declare; undefined where they declare none. One length or chunked, once.
export function declaredFraming(fields: readonly Field[]): Framing | undefined {
  const lengths = fields.filter(({ key }) => key === 'content-length');
  const encodings = fields.filter(({ key }) => key === 'transfer-encoding');
  if (lengths.length + encodings.length > 1) throw new BadMessage('the length of the body is declared more than once');
  if (encodings[0]) {
    if (encodings[0].value.toLowerCase() !== 'chunked') throw new BadMessage('the only transfer coding is chunked');
    return { kind: 'chunked' };
  }
  if (!lengths[0]) return undefined;
  const { value } = lengths[0];
  if (!isDigits(value) || value.length > 15) throw new BadMessage('the content length is not a number');
  return { kind: 'length', length: Number(value) };
}

function trimmed(text: string, from: number): string {
  const isSpace = (at: number) => text.charCodeAt(at) === 32 || text.charCodeAt(at) === TAB;
  let start = from;
  let end = text.length;
  while (start < end && isSpace(start)) start++;
  while (end > start && isSpace(end - 1)) end--;
  return text.slice(start, end);
}
