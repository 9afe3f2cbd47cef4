// What `make check` holds. The slow ones come first, as two run at a time.
import { protoBreaking } from './proto-breaking.ts';
import type { Check } from './run-checks.ts';

export async function checks(): Promise<Check[]> {
  const agent = 'services/guest-agent';
  const cargo = (...args: string[]): Check['command'] => ['cargo', ...args];
  return [
    {
      name: 'rust lint',
      cwd: agent,
      command: cargo('clippy', '--locked', '--all-targets', '-q', '--', '-D', 'warnings'),
    },
    { name: 'types', command: ['tsc', '-p', '.'] },
    { name: 'lint', command: ['oxlint', '--type-aware', '--format=unix'] },
    { name: 'imports', command: ['node', 'tools/test/check-imports.ts'] },
    { name: 'error table', command: ['node', 'tools/docs/errors.ts', '--check'] },
    { name: 'format', command: ['oxfmt', '--check'] },
    { name: 'rust format', cwd: agent, command: cargo('fmt', '--check') },
    { name: 'proto lint', command: ['buf', 'lint'] },
    { name: 'proto format', command: ['buf', 'format', '-d', '--exit-code'] },
    ...(await protoBreaking()),
  ];
}
