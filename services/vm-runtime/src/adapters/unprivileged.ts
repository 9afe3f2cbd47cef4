// Guests come after this service, whose niceness they would else have.
export const guestNiceness = 0;

// The head of a command line that takes every privilege from what follows it.
export function unprivileged(uid: number): string[] {
  return [
    ...['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--no-new-privs'],
    ...['--bounding-set=-all', '--inh-caps=-all', '--ambient-caps=-all'],
    ...['prlimit', '--core=0', '--nofile=1024', '--'],
  ];
}
