// Follows, in what is written to a terminal, whether a program has a screen of its own, as editors and pagers do.

// The longest of these, `ESC [ ? 1 0 4 9 h`, may come in two pieces.
const tailBytes = 7;
// oxlint-disable-next-line no-control-regex -- control sequences are what it looks for.
const sides = /\u001b\[\?(?:47|1047|1049)([hl])/g;
// oxlint-disable-next-line no-control-regex
const modes = /\u001b(?:\[\?|=)/;

export class FullScreen {
  isOn = false;
  isTouched = false; // Something was set that does not end by itself.
  #tail = '';

  see(bytes: Uint8Array): void {
    const text = this.#tail + Buffer.from(bytes).toString('latin1');
    for (const [, side] of text.matchAll(sides)) this.isOn = side === 'h';
    this.isTouched ||= modes.test(text);
    this.#tail = text.slice(-tailBytes);
  }
}
