// What `make check` holds.
import type { Check } from './run-checks.ts';

export async function checks(): Promise<Check[]> {
  return [
    { name: 'types', command: ['tsc', '-p', '.'] },
    { name: 'lint', command: ['oxlint', '--type-aware'] },
    { name: 'format', command: ['oxfmt', '--check'] },
    { name: 'proto lint', command: ['buf', 'lint'] },
    { name: 'proto format', command: ['buf', 'format', '-d', '--exit-code'] },
  ];
}
