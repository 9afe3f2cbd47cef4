// cargo for a crate of ours.
import { cargoTarget } from '../../images/steps/crate.ts';

export function cargo(crate: string, command: 'clippy' | 'test', ...args: string[]): [string, ...string[]] {
  return ['cargo', command, '--locked', `--target-dir=${cargoTarget(crate)}`, ...args];
}
