// Text from guests and callers may hold terminal escapes: nothing of it reaches a terminal unescaped.

// Control characters, and the invisible ones that reorder or hide text around them.
const unsafe = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu;

export function printable(text: string): string {
  return text.replaceAll(unsafe, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

// The same for a console log, whose lines stay lines.
export function printableLines(text: string): string {
  const lines = text.replaceAll('\r\n', '\n').split('\n');
  return lines.map((line) => printable(line.replaceAll('\t', '    '))).join('\n');
}
