import { expect, test } from 'vitest';

import { FullScreen } from './full-screen.ts';

test('knows whose screen it is, however the sequences are cut', () => {
  const on = '\u001b[?1049h';
  for (let at = 0; at <= on.length; at++) {
    const screen = new FullScreen();
    screen.see(Buffer.from(`text${on.slice(0, at)}`));
    screen.see(Buffer.from(`${on.slice(at)}text`));
    expect(screen.isOn).toBe(true);
    screen.see(Buffer.from('\u001b[?1049h\u001b[?1049l'));
    expect(screen.isOn).toBe(false);
  }
});

test('takes plain text for what it is', () => {
  const screen = new FullScreen();
  screen.see(Buffer.from('[?1049h \u001b[31mred\u001b[m'));
  expect([screen.isOn, screen.isTouched]).toEqual([false, false]);
  screen.see(Buffer.from('\u001b[?25l'));
  expect([screen.isOn, screen.isTouched]).toEqual([false, true]);
});
