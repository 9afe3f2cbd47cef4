import { expect, test } from 'vitest';

import { whileWaiting } from './waiting.ts';

function terminal(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, written, write: (text: string) => written.push(text) };
}

test('shows a terminal what is waited for, and takes the line away at the end', async () => {
  const screen = terminal(true);
  expect(await whileWaiting('pausing cl-1', screen, async () => 7)).toBe(7);
  expect(screen.written[0]).toContain('pausing cl-1  ');
  expect(screen.written.at(-1)).toBe('\r\x1b[K');
});

test('takes the line away when the work fails, and writes nothing where nobody looks', async () => {
  const screen = terminal(true);
  const failing = whileWaiting('x', screen, async () => {
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow('no');
  expect(screen.written.at(-1)).toBe('\r\x1b[K');
  const pipe = terminal(false);
  await whileWaiting('x', pipe, async () => 1);
  expect(pipe.written).toEqual([]);
});
