import { WrennError } from '@wrenn/kit/errors';

// The reason a call fails for; a call that succeeds or fails otherwise has none.
export async function reasonOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof WrennError) return error.reason;
    throw error;
  }
  return 'none: the call succeeded';
}
