// Makes lines of bytes that come in pieces, which may end anywhere, in the middle of a character too.
const longestLine = 8192;

export class LineSplitter {
  readonly #decoder = new TextDecoder();
  #rest = '';

  // The lines that are complete now. One without an end is cut.
  take(bytes: Uint8Array): string[] {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    const lines = this.#rest.split(/\r?\n/);
    this.#rest = lines.pop() ?? '';
    while (this.#rest.length > longestLine) {
      lines.push(this.#rest.slice(0, longestLine));
      this.#rest = this.#rest.slice(longestLine);
    }
    return lines;
  }

  // What is left.
  end(): string {
    return this.#rest + this.#decoder.decode();
  }
}
