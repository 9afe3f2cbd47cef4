// Bounds how long a callee may be silent. One that has sent its header is at work: from then on only the
// deadline of the call counts, so that a slow answer is told from none.
import { WrennError } from './errors.ts';

export interface AliveOptions {
  readonly signal: AbortSignal;
  readonly onHeader: () => void;
}

// Throws SERVICE_UNAVAILABLE when neither header nor answer came in time.
export async function whileAlive<T>(
  peer: string,
  silentMs: number,
  caller: AbortSignal | undefined,
  call: (options: AliveOptions) => Promise<T>,
): Promise<T> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), silentMs);
  const signal = caller ? AbortSignal.any([caller, silence.signal]) : silence.signal;
  try {
    return await call({ signal, onHeader: () => clearTimeout(timer) });
  } catch (error) {
    if (!silence.signal.aborted || caller?.aborted) throw error;
    throw new WrennError('SERVICE_UNAVAILABLE', `${peer} did not answer in time`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
