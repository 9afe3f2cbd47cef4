// The stopwatch must not wait for a processor: that wait is neither the mesh's nor the guest's.
import { givePrecedence } from '@wrenn/cli/mesh/precedence';

export async function takePrecedence(): Promise<AsyncDisposable> {
  await givePrecedence(process.pid, 'commands');
  return { [Symbol.asyncDispose]: () => givePrecedence(process.pid, 'usual') };
}
