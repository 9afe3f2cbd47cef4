import { expect, test } from 'vitest';

import { WrennError } from './errors.ts';
import { whileAlive } from './while-alive.ts';

const untilAborted = (signal: AbortSignal) =>
  new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new WrennError('CANCELLED', 'aborted')), { once: true });
  });

test('gives up a callee that is silent, and names it', async () => {
  const call = whileAlive('scheduler', 20, undefined, ({ signal }) => untilAborted(signal));
  await expect(call).rejects.toMatchObject({ reason: 'SERVICE_UNAVAILABLE', message: /^scheduler did not answer/ });
});

test('waits for one that has sent its header, and still ends with its caller', async () => {
  const caller = new AbortController();
  const call = whileAlive('scheduler', 20, caller.signal, ({ signal, onHeader }) => {
    onHeader();
    return untilAborted(signal);
  });
  await expect(Promise.race([call, new Promise((resolve) => setTimeout(resolve, 60, 'waits'))])).resolves.toBe('waits');
  caller.abort();
  await expect(call).rejects.toMatchObject({ reason: 'CANCELLED' });
});

test('passes on what the callee answers, and why it refused', async () => {
  expect(await whileAlive('scheduler', 1000, undefined, async () => 7)).toBe(7);
  const refused = whileAlive('scheduler', 1000, undefined, async () => {
    throw new WrennError('SANDBOX_NOT_FOUND', 'no');
  });
  await expect(refused).rejects.toMatchObject({ reason: 'SANDBOX_NOT_FOUND' });
});
