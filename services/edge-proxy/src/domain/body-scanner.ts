// Finds the end of a body in the bytes that follow a head. Bytes are counted and passed on as they are;
// chunk lines are held to the grammar, since a line that two parsers read differently hides a request.
import { BadMessage, type Framing, parseField } from './fields.ts';

const CR = 13;
const LF = 10;
const SEMICOLON = 59;
const hexDigits = '0123456789abcdef';
const maxSizeDigits = 12;
const maxLineBytes = 4096;
const maxTrailerBytes = 16 * 1024;
const forbiddenTrailers = new Set(['content-length', 'transfer-encoding', 'host', 'connection', 'trailer']);

type State = 'data' | 'size line' | 'data end' | 'trailers' | 'done';

export class BodyScanner {
  readonly #isChunked: boolean;
  #state: State;
  #remaining = 0; // Bytes left of the body or of the chunk.
  #line = '';
  #trailerBytes = 0;

  constructor(framing: Framing) {
    this.#isChunked = framing.kind === 'chunked';
    this.#remaining = framing.kind === 'length' ? framing.length : framing.kind === 'close' ? Infinity : 0;
    this.#state = this.#isChunked ? 'size line' : this.#remaining > 0 ? 'data' : 'done';
  }

  get isDone(): boolean {
    return this.#state === 'done';
  }

  // How many of the bytes belong to the body; what comes after them does not. Throws BadMessage.
  take(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && this.#state !== 'done') {
      if (this.#state === 'data') {
        const count = Math.min(this.#remaining, bytes.length - at);
        at += count;
        this.#remaining -= count;
        if (this.#remaining === 0) this.#state = this.#isChunked ? 'data end' : 'done';
      } else {
        this.#takeLineByte(bytes[at]!);
        at++;
      }
    }
    return at;
  }

  #takeLineByte(byte: number): void {
    const afterCr = this.#line.endsWith('\r');
    if (afterCr !== (byte === LF)) throw new BadMessage('a line of the body ends without CR LF');
    if (!afterCr) {
      if ((byte < 32 && byte !== 9 && byte !== CR) || byte === 127) {
        throw new BadMessage('a line of the body holds a control character');
      }
      if (byte !== CR) this.#check(byte);
      this.#line += String.fromCharCode(byte);
      if (this.#line.length > maxLineBytes) throw new BadMessage('a line of the body is too long');
      return;
    }
    const line = this.#line.slice(0, -1);
    this.#line = '';
    this.#endLine(line);
  }

  // Refuses a byte as soon as it is wrong: what was passed on until then is the start of a proper body.
  #check(byte: number): void {
    if (this.#state === 'data end') throw new BadMessage('a chunk is longer than it says');
    if (this.#state !== 'size line' || this.#line.includes(';')) return;
    const isDigit = hexDigits.includes(String.fromCharCode(byte).toLowerCase());
    if (!isDigit && (byte !== SEMICOLON || this.#line === '')) throw new BadMessage('a chunk size is not a number');
    if (isDigit && this.#line.length === maxSizeDigits) throw new BadMessage('a chunk size is too large');
  }

  #endLine(line: string): void {
    switch (this.#state) {
      case 'size line':
        this.#remaining = chunkSize(line);
        this.#state = this.#remaining > 0 ? 'data' : 'trailers';
        return;
      case 'data end':
        this.#state = 'size line';
        return;
      default:
        if (line === '') this.#state = 'done';
        else this.#takeTrailer(line);
    }
  }

  #takeTrailer(line: string): void {
    this.#trailerBytes += line.length;
    if (this.#trailerBytes > maxTrailerBytes) throw new BadMessage('the trailers are too long');
    if (forbiddenTrailers.has(parseField(line).key)) throw new BadMessage('a trailer changes what was sent before it');
  }
}

// `1a` or `1a;name=value`, checked already. What an extension says is of no interest here.
function chunkSize(line: string): number {
  const [digits = ''] = line.split(';', 1);
  if (digits === '') throw new BadMessage('a chunk size is missing');
  return Number.parseInt(digits, 16);
}
