import { WrennError } from '@wrenn/kit/errors';

// Waits for shared work on behalf of one caller; when the caller leaves, the work goes on.
export async function whileCalled<T>(work: Promise<T>, caller: AbortSignal, farewell: string): Promise<T> {
  const { promise: left, reject } = Promise.withResolvers<never>();
  const leave = () => reject(new WrennError('CANCELLED', farewell));
  if (caller.aborted) leave();
  caller.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([work, left]);
  } finally {
    caller.removeEventListener('abort', leave);
  }
}
