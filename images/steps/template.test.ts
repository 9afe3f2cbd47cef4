import { expect, test } from 'vitest';
import { imageBytes } from './template.ts';

const MiB = 2 ** 20;

test('an image is a multiple of 64 MiB and leaves at least a fifth of its content free', () => {
  for (const content of [MiB, 64 * MiB, 300 * MiB, 2000 * MiB]) {
    const bytes = imageBytes(content);
    expect(bytes % (64 * MiB)).toBe(0);
    expect(bytes).toBeGreaterThanOrEqual(content * 1.2 + 32 * MiB);
    expect(bytes).toBeLessThan(content * 1.2 + 96 * MiB);
  }
});
